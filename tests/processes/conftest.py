"""Drills that go on from case to case: made when a case first wants one, and made again after a case that failed."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.drill import Drill
from tests.servers import redis_server
from tests.simulator.client import Simulator


class Drills:
    """At most one drill of each kind of store."""

    def __init__(self, request: pytest.FixtureRequest, folder: Callable[[], Path]) -> None:
        self._request = request
        self._folder = folder
        self._kept: dict[str, tuple[contextlib.ExitStack, Drill]] = {}

    @contextlib.contextmanager
    def case(self, kind: str) -> Iterator[Drill]:
        """A drill for one case: the one of the case before, unless that failed and left who knows what behind."""
        stack, drill = self._kept.pop(kind, None) or self._make(kind)
        with stack:
            yield drill
            self._kept[kind] = stack.pop_all(), drill

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1][0].close()

    def _make(self, kind: str) -> tuple[contextlib.ExitStack, Drill]:
        folder, database = self._folder(), None
        if kind == "postgresql":
            database = self._request.getfixturevalue("postgres"), f"{folder.name}_{os.getpid()}"
        with contextlib.ExitStack() as stack:
            simulator, redis = stack.enter_context(Simulator()), stack.enter_context(redis_server())
            made = Drill(simulator, folder, redis, database=database)
            stack.callback(made.night.store.dispose)
            stack.callback(made.stop)
            made.start_worker()
            made.start_beat()
            return stack.pop_all(), made
        raise AssertionError  # an exit stack swallows nothing


@pytest.fixture(scope="module")
def drills(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drills]:
    made = Drills(request, lambda: tmp_path_factory.mktemp("drill"))
    yield made
    made.close()
