"""Each case is run with each server. One server of each kind runs for all cases of a process, and is empty for each."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.registries.interface.server import Server
from tests.registries.interface.servers import SERVERS
from tests.registries.interface.table import case_of
from worker.registries.interface import Registry


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """The server of a name, started when a case first asks for it."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def one(name: str) -> Server:
            if name not in running:
                server = SERVERS[name]()
                stack.enter_context(server.running(tmp_path_factory.mktemp("server")))
                running[name] = server
            return running[name]

        yield one


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, served: Callable[[str], Server]) -> Iterator[Server]:
    """An empty one, if it can have the case at all."""
    if reason := SERVERS[request.param].cannot.get(case_of(request.function)):
        pytest.skip(f"cannot: {reason}")
    server = served(request.param)
    server.proxy.reset()
    server.empty()
    yield server
    assert list(server.refused()) == []


@pytest.fixture
def driver(server: Server) -> Iterator[Registry]:
    with server.open() as registry:
        yield registry
