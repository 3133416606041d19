"""One simulator a module, empty at the start of each test, that never meets a request it does not know."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.night import Night
from tests.simulator.client import Simulator


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Iterator[Simulator]:
    running.reset()
    yield running
    assert running.state()["refused"] == []


@pytest.fixture
def night(simulator: Simulator, tmp_path: Path) -> Callable[..., Night]:
    def make(**registry: Any) -> Night:
        return Night(simulator, tmp_path, **registry)

    return make
