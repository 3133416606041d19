"""One simulator a module, shared by clusters of real processes; no request is unknown to it."""

from collections.abc import Iterator

import pytest

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
