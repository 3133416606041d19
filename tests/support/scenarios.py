"""Scenarios that serve several cases: created when a case first asks for one, and again after a failed case."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.scenario import Scenario
from tests.support.servers import PostgresServer, RedisServer, redis_server
from tests.support.simulator.client import Simulator
from tests.support.tcp_fault_proxy import TcpFaultProxy, proxy_to


class Scenarios:
    """At most one scenario per kind: `sqlite`, `postgresql`, or `links` (PostgreSQL, every server behind a proxy)."""

    def __init__(self, postgres: Callable[[], PostgresServer], folder: Callable[[], Path]) -> None:
        self._postgres = postgres
        self._folder = folder
        self._idle: dict[str, tuple[contextlib.ExitStack, Scenario]] = {}

    @contextlib.contextmanager
    def case(self, kind: str) -> Iterator[Scenario]:
        """A scenario for one case: that of the case before, unless the case before failed."""
        stack, scenario = self._idle.pop(kind, None) or self._make(kind)
        with stack:
            yield scenario
            self._idle[kind] = stack.pop_all(), scenario

    def close(self) -> None:
        while self._idle:
            self._idle.popitem()[1][0].close()

    def _make(self, kind: str) -> tuple[contextlib.ExitStack, Scenario]:
        folder = self._folder()
        database = None if kind == "sqlite" else (self._postgres(), f"{folder.name}_{os.getpid()}")
        with contextlib.ExitStack() as stack:
            simulator, redis = stack.enter_context(Simulator()), stack.enter_context(redis_server())
            links, ways = _links(stack, simulator, redis, database) if kind == "links" else ({}, {})
            made = Scenario(simulator, folder, redis, database=database, ways=ways)
            made.links = links
            stack.callback(made.harness.store.dispose)
            stack.callback(made.stop)
            made.start_worker()
            made.start_beat()
            return stack.pop_all(), made
        raise AssertionError  # an exit stack suppresses no error


def _links(
    stack: contextlib.ExitStack, simulator: Simulator, redis: RedisServer, database: tuple[PostgresServer, str] | None
) -> tuple[dict[str, TcpFaultProxy], dict[str, Any]]:
    """A proxy to each server, and the configuration keys that lead through the proxies."""
    assert database is not None
    ports = {"redis": redis.port, "store": database[0].port, "registry": int(simulator.url.rpartition(":")[2])}
    links = {name: stack.enter_context(proxy_to(port)) for name, port in ports.items()}
    ways = {
        "redis": f"redis://127.0.0.1:{links['redis'].port}/0",
        "store": database[0].url(database[1]).replace(f":{ports['store']}/", f":{links['store'].port}/"),
        "endpoints": dict.fromkeys(simulator.endpoints(), f"http://127.0.0.1:{links['registry'].port}"),
    }
    return links, ways
