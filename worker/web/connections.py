"""How long a connection may take, and how many may wait: what uvicorn and h11 have no limit for.

A connection that has sent no whole request is closed after a while; of more than a few such connections the one that
has waited longest makes room for the next, so that who holds many open does not keep others out.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

Peer = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Seconds and numbers, of one process."""

    head: float = 10.0  # until the headers of a request are complete, from the connection's start or the last answer
    answer: float = 60.0  # from there until the answer is written, the request's body included
    waiting: int = 32  # connections without a complete head at the same time
    requests: int = 64  # at the same time, connections included; more are answered 503


class Connections:
    """The connections of one server by their peers, each with the moment at which it is closed."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[Peer, asyncio.Transport] = {}
        self._timers: dict[Peer, asyncio.TimerHandle] = {}
        self._waiting: dict[Peer, None] = {}  # without a complete head; the one that has waited longest first

    def opened(self, transport: asyncio.Transport) -> None:
        if (peer := _peer(transport.get_extra_info("peername"))) is None:
            return
        self._open[peer] = transport
        self._wait(peer)
        if len(self._waiting) > self.limits.waiting:
            self._close(next(iter(self._waiting)))

    def closed(self, transport: asyncio.BaseTransport) -> None:
        peer = _peer(transport.get_extra_info("peername"))
        if peer is not None and self._open.get(peer) is transport:
            self._forget(peer)

    def guarding(self, app: ASGIApp) -> ASGIApp:
        """The application, each of its requests within its time."""

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
                    self._wait(peer)

        return guarded

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn is to speak with each connection."""
        opened, closed = self.opened, self.closed

        class Limited(H11Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(cast(asyncio.Transport, transport))  # narrower there than asyncio's own
                opened(self.transport)

            def connection_lost(self, exc: Exception | None) -> None:
                closed(self.transport)
                super().connection_lost(exc)

        return Limited

    def _wait(self, peer: Peer) -> None:
        self._waiting[peer] = None
        self._close_after(peer, self.limits.head)

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
    """The peer's host and port; None where there is no such thing."""
    return (str(address[0]), int(address[1])) if isinstance(address, list | tuple) and len(address) > 1 else None
