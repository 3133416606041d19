"""Fixtures of the tests on a real registry."""

from collections.abc import Iterator

import pytest

from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry


@pytest.fixture(params=[pytest.param(False, id="no cache"), pytest.param(True, id="cache")])
def registry(request: pytest.FixtureRequest) -> Iterator[DockerRegistry]:
    """An empty registry, with and without its cache of blob descriptors."""
    with DockerRegistry(cache=request.param) as server:
        yield server


@pytest.fixture
def pusher(registry: DockerRegistry) -> Iterator[Pusher]:
    made = Pusher(registry.url)
    yield made
    made.close()
