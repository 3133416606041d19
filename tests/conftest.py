"""Servers that several folders of tests share, each started when a test first asks for it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import PostgresServer, postgres_programs, postgres_server
from tests.simulator.client import Simulator

if TYPE_CHECKING:
    from tests.drills import Drills


# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


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


@pytest.fixture(scope="module")
def drills(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Drills]":
    """Drills of real processes, each made when a case first wants it."""
    from tests.drills import Drills  # noqa: PLC0415 - Celery, which few folders want

    made = Drills(lambda: request.getfixturevalue("postgres"), lambda: tmp_path_factory.mktemp("drill"))
    yield made
    made.close()
