"""A real Redis, and servers of the pages: one for tests that only read, or one for tests that break it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import RedisServer, redis_server
from tests.web.pages import Pages, start, stop


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def pages(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """One server for all tests that change nothing but the heartbeat."""
    started = start(tmp_path_factory.mktemp("pages"), redis.url)
    yield started
    stop(started)


@pytest.fixture
def own(redis: RedisServer, tmp_path: Path) -> Iterator[Pages]:
    """A server that a test may break."""
    started = start(tmp_path, redis.url)
    yield started
    stop(started)
