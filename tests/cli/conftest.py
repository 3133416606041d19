"""One simulator a module, the command as a real process, and a night whose store it reads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Result, called
from tests.support.night import Night
from tests.support.simulator.client import Simulator


@pytest.fixture
def night(simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., Night]]:
    made: list[Night] = []

    def make(**registry: Any) -> Night:
        made.append(Night(simulator, tmp_path, **registry))
        return made[-1]

    yield make
    for one in made:
        one.store.dispose()


@pytest.fixture
def gc(tmp_path: Path) -> Callable[..., Result]:
    """Calls registry-gc in the test's folder."""

    def call(*words: str, **environ: str) -> Result:
        return called(*words, cwd=tmp_path, **environ)

    return call
