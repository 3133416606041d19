"""Callers of the simulator, as its own tests need them."""

from collections.abc import Iterator

import pytest

from tests.support.simulator.caller import Api, CloudApi
from tests.support.simulator.client import Simulator


@pytest.fixture
def api(simulator: Simulator) -> Iterator[Api]:
    with Api(simulator) as client:
        yield client


@pytest.fixture
def cloud(simulator: Simulator) -> Iterator[CloudApi]:
    with CloudApi(simulator) as client:
        yield client
