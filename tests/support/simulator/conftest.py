"""One simulator for its own tests, empty at the start of each."""

from collections.abc import Iterator

import pytest

from tests.support.simulator.caller import Api, CloudApi
from tests.support.simulator.client import Simulator


@pytest.fixture(scope="session")
def process() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(process: Simulator) -> Iterator[Simulator]:
    """An empty one with the tests' switches; at the end nothing was refused, but for what `refusals` has taken."""
    process.reset()
    yield process
    assert process.state()["refused"] == []


@pytest.fixture
def api(simulator: Simulator) -> Iterator[Api]:
    with Api(simulator) as client:
        yield client


@pytest.fixture
def cloud(simulator: Simulator) -> Iterator[CloudApi]:
    with CloudApi(simulator) as client:
        yield client
