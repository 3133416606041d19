"""A client of one registry, and a Redis that the tests of the rate share."""

from collections.abc import Iterator

import pytest

from tests.support.drivers import QUICK
from tests.support.servers import RedisServer, redis_server
from worker.registries.http.client import Http
from worker.registries.http.rate_limit import LocalLimiter


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    client = Http("production", LocalLimiter(2000.0), 16, QUICK)
    yield client
    client.close()
