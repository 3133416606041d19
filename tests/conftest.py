"""Servers that several folders of tests share, each started when a test first asks for it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.night import Night
from tests.support.servers import PostgresServer, postgres_programs, postgres_server
from tests.support.simulator.client import Simulator

if TYPE_CHECKING:
    from tests.support.drills import Drills


# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_databases = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test process's own; make a database of your own in it."""
    if (programs := postgres_programs()) is None:
        pytest.skip("PostgreSQL's programs are not installed: Debian's package postgresql has them")
    with postgres_server(programs) as server:
        yield server


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator a module."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Iterator[Simulator]:
    """An empty registry; at the end no request was unknown to it."""
    running.reset()
    yield running
    assert running.state()["refused"] == []


@pytest.fixture(params=["sqlite", "postgresql"])
def night(request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., Night]]:
    """Makes nights on an empty registry, with an empty store of either kind."""
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


@pytest.fixture(scope="module")
def drills(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Drills]":
    """Drills of real processes, each made when a case first wants it."""
    from tests.support.drills import Drills  # noqa: PLC0415 - Celery, which few folders want

    made = Drills(lambda: request.getfixturevalue("postgres"), lambda: tmp_path_factory.mktemp("drill"))
    yield made
    made.close()
