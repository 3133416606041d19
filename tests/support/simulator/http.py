"""HTTP/1.1 as far as a simulator needs it: keep-alive, Content-Length bodies, and a hand on how an answer goes wrong.

A protocol class on asyncio rather than a framework: an answer must be able to stop in mid-body, to be reset, or never
to come, and one process has to answer thousands of requests a second beside the tests on a small machine.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl, unquote

Fate = Literal["whole", "cut", "drip", "reset", "hang"]

LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 64 * 1024 * 1024  # a filling of a large registry comes in by the control plane


@dataclass(slots=True)
class SimulatedRequest:
    """One request as it came in. Header names are lower-case."""

    method: str
    raw_path: str  # as sent, still percent-encoded, without the query
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = b""
    path: str = ""  # decoded

    @property
    def host(self) -> str:
        return self.headers.get("host", "")


@dataclass(slots=True)
class SimulatedResponse:
    """One response, with the faults that it gets on the way."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    fate: Fate = "whole"
    delay: float = 0.0  # seconds before the first byte
    pause: float = 0.05  # seconds between the pieces of a body that drips
    dated: bool = True  # whether the response has a `Date`


class BadRequestError(Exception):
    """Bytes that are no request this server reads."""


def parse_head(head: bytes) -> SimulatedRequest:
    """The request of a head without its last empty line; raises BadRequestError."""
    try:
        first, *lines = head.decode("ascii").split("\r\n")
        method, target, version = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    except ValueError as error:  # not ASCII, or too few parts
        raise BadRequestError(f"not a request: {head[:80]!r}") from error
    if version != "HTTP/1.1":
        raise BadRequestError(f"not HTTP/1.1: {version}")
    raw_path, _, query = target.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True) if query else []
    return SimulatedRequest(method=method, raw_path=raw_path, query=pairs, headers=headers, path=unquote(raw_path))


def head_of(response: SimulatedResponse, date: str) -> bytes:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:  # 499 is the vendor's own
        phrase = "Client Closed Request"
    lines = [f"HTTP/1.1 {response.status} {phrase}"]
    if response.dated:
        lines.append(f"Date: {date}")
    if response.content_type:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if "Content-Length" not in response.headers:
        lines.append(f"Content-Length: {len(response.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered before the next is read."""

    def __init__(self, answer: Callable[[SimulatedRequest], SimulatedResponse], date: Callable[[], str]) -> None:
        self._answer, self._date = answer, date
        self._buffer = bytearray()
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        """Answers the next request, if all of it is there."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > LARGEST_HEAD:
                self._close_with("the head is too large")
            return
        try:
            request = parse_head(bytes(self._buffer[:end]))
            length = int(request.headers.get("content-length", "0"))
        except (BadRequestError, ValueError) as error:
            self._close_with(str(error))
            return
        if length > LARGEST_BODY or "transfer-encoding" in request.headers:
            self._close_with("a body must come with Content-Length, at most 64 MiB")
            return
        if len(self._buffer) < end + 4 + length:
            return
        request.body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        self._busy = True
        response = self._answer(request)
        if response.delay > 0:
            asyncio.get_running_loop().call_later(response.delay, self._send, request, response)
        else:
            self._send(request, response)

    def _send(self, request: SimulatedRequest, response: SimulatedResponse) -> None:
        transport = self._transport
        if transport is None or response.fate == "hang":
            return
        if response.fate == "reset":
            self._reset(transport)
            return
        head = head_of(response, self._date())
        if response.fate == "cut":
            transport.write(head + response.body[: len(response.body) // 2])
            transport.close()
            return
        if response.fate == "drip":
            transport.write(head)
            self._drip(response.body, response.pause)
            return
        transport.write(head if request.method == "HEAD" else head + response.body)
        if request.headers.get("connection", "").lower() == "close":
            transport.close()
            return
        self._busy = False
        if self._buffer:
            self._next()

    def _drip(self, rest: bytes, pause: float) -> None:
        """Sends byte after byte; the connection closes with the last one."""
        if self._transport is None:
            return
        self._transport.write(rest[:1])
        if len(rest) > 1:
            asyncio.get_running_loop().call_later(pause, self._drip, rest[1:], pause)
        else:
            self._transport.close()

    def _reset(self, transport: asyncio.Transport) -> None:
        """Closes with RST, as a crashed proxy does: linger of zero seconds."""
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _close_with(self, reason: str) -> None:
        if self._transport is not None:
            response = SimulatedResponse(
                400, reason.encode(), content_type="text/plain", headers={"Connection": "close"}
            )
            self._transport.write(head_of(response, self._date()) + response.body)
            self._transport.close()
