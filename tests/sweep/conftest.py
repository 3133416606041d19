"""Every test on an empty registry and an empty store of either kind."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.night import Night
from tests.simulator.client import Simulator

_databases = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def night(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., Night]]:
    made: list[Night] = []

    def make(**registry: Any) -> Night:
        store = None
        if request.param == "postgresql":
            store = request.getfixturevalue("postgres").create_database(f"night{next(_databases)}")
        made.append(Night(simulator, tmp_path, store=store, **registry))
        return made[-1]

    yield make
    for one in made:
        one.store.dispose()
