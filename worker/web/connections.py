"""Limits on the time and number of connections, which uvicorn and h11 lack.

A connection without a complete request is closed after a time-out. When too many such connections are open, a new
connection closes the oldest, so that a client with many open connections does not block others.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

Peer = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one process: seconds, and numbers of connections."""

    head: float = 10.0  # from the connection's start or its last response until a request's headers are complete
    answer: float = 60.0  # from complete headers until the response is written, the request's body included
    waiting: int = 32  # simultaneous connections without complete headers
    requests: int = 64  # simultaneous requests and connections; uvicorn answers more with 503


class Connections:
    """The connections of one server by peer, each with the timer that closes it."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[Peer, asyncio.Transport] = {}
        self._timers: dict[Peer, asyncio.TimerHandle] = {}
        self._waiting: dict[Peer, None] = {}  # without complete headers; oldest first

    def guarding(self, app: ASGIApp) -> ASGIApp:
        """The application; the connection of a request that exceeds `answer` is closed."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            peer = _peer(scope.get("client"))
            if peer not in self._open:
                await app(scope, receive, send)
                return
            self._waiting.pop(peer, None)
            self._close_after(peer, self.limits.answer)
            try:
                await app(scope, receive, send)
            finally:
                if peer in self._open:
                    self._waiting[peer] = None
                    self._close_after(peer, self.limits.head)

        return guarded

    def protocol(self) -> type[asyncio.Protocol]:
        """The protocol class for uvicorn."""
        connections = self

        class Limited(H11Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                # H11Protocol's parameter is narrower than asyncio's.
                super().connection_made(cast(asyncio.Transport, transport))
                if (peer := _peer(self.transport.get_extra_info("peername"))) is None:
                    return
                connections._open[peer] = self.transport
                connections._waiting[peer] = None
                connections._close_after(peer, connections.limits.head)
                if len(connections._waiting) > connections.limits.waiting:
                    connections._close(next(iter(connections._waiting)))

            def connection_lost(self, exc: Exception | None) -> None:
                """Forget the connection. A newer connection from the same host and port keeps its entry and its
                timer.
                """
                peer = _peer(self.transport.get_extra_info("peername"))
                if peer is not None and connections._open.get(peer) is self.transport:
                    connections._forget(peer)
                super().connection_lost(exc)

        return Limited

    def _close_after(self, peer: Peer, seconds: float) -> None:
        if (timer := self._timers.pop(peer, None)) is not None:
            timer.cancel()
        self._timers[peer] = asyncio.get_running_loop().call_later(seconds, self._close, peer)

    def _close(self, peer: Peer) -> None:
        transport = self._open[peer]
        self._forget(peer)
        transport.abort()

    def _forget(self, peer: Peer) -> None:
        self._open.pop(peer, None)
        self._waiting.pop(peer, None)
        if (timer := self._timers.pop(peer, None)) is not None:
            timer.cancel()


def _peer(address: Any) -> Peer | None:
    """The peer's host and port; None for an address without them."""
    return (str(address[0]), int(address[1])) if isinstance(address, list | tuple) and len(address) > 1 else None
