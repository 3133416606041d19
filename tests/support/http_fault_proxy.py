"""A proxy in front of an HTTP server: forwards requests, records them, and spoils the responses that a test chooses.

Every kind of server gets the same faults, and no server has to implement them. This proxy reads requests;
`tcp_fault_proxy` works for any protocol and sees bytes and connections only.
"""

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Literal
from urllib.parse import unquote, urlsplit

from tests.support.servers import Loopback

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding"}


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """One received request; `target` is the path and the query, still encoded."""

    at: datetime  # when it was received
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(default=b"", repr=False)

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, slots=True)
class ProxyResponse:
    """One response. `fate`: sent whole, cut after the first `size` bytes of the body, or not sent."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    fate: Literal["whole", "cut", "nothing"] = "whole"
    size: int = 0


ForwardRequest = Callable[[], ProxyResponse]
Action = Callable[[ProxiedRequest, ForwardRequest], ProxyResponse]
"""The treatment of a request; with `Forward` the server answers it."""


def respond_with(reply: ProxyResponse) -> Action:
    """Answer each request with the response; the server does not receive it."""
    return lambda asked, forward: reply


def never_forwarded(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
    """Close the connection; the server does not receive the request."""
    return ProxyResponse(0, fate="nothing")


def response_lost(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
    """Forward the request, and close the connection without a response."""
    forward()
    return ProxyResponse(0, fate="nothing")


def half_of_body(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
    """Send half of the body, and close the connection."""
    response = forward()
    return replace(response, fate="cut", size=len(response.body) // 2)


def cut_after(size: int) -> Action:
    """Send this many bytes of the body, and close the connection."""
    return lambda asked, forward: replace(forward(), fate="cut", size=size)


def carried_out_and_replaced(reply: ProxyResponse) -> Action:
    """Forward the request, and answer with another response, as an intermediary may do."""

    def act(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
        forward()
        return reply

    return act


def forwarded(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
    return forward()


def call_first(call: Callable[[], object], action: Action) -> Action:
    """Call a function before the action, when the request has been received."""

    def act(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
        call()
        return action(asked, forward)

    return act


def garbled(asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
    """Replace the body by another of the same length."""
    response = forward()
    return replace(response, body=b"x" * len(response.body))


@dataclass(slots=True)
class FaultRule:
    calls: re.Pattern[str]
    action: Action
    passing: int  # requests that pass first
    times: int | None  # None: no limit


class HttpFaultProxy(Loopback):
    """Listens on loopback before the server at `target` while its block runs. Safe to use from several threads."""

    def __init__(self, target: str = "") -> None:
        super().__init__(_handler(self))
        self.target = target  # the server's url
        self.log: list[ProxiedRequest] = []
        self.open_connections = 0
        self.clock_ahead = timedelta(0)  # how far the server's clock is ahead
        self._rules: list[FaultRule] = []
        self._words: dict[str, str] = {}
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Remove all rules, and forget all requests."""
        with self._lock:
            self.log.clear()
            self._rules.clear()
            self._words.clear()
            self.clock_ahead = timedelta(0)

    def on(self, calls: str, action: Action, *, passing: int = 0, times: int | None = None) -> FaultRule:
        """Apply an action to requests whose "METHOD /path?query" matches the expression; the first rule applies."""
        rule = FaultRule(re.compile(calls), action, passing, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    @property
    def all_faults_struck(self) -> bool:
        """Whether every rule with a number of times has been applied that often."""
        return not any(rule.times for rule in self._rules)

    def heal(self) -> None:
        """Remove all rules and replacements."""
        with self._lock:
            self._rules.clear()
            self._words.clear()

    def replace_text(self, word: str, instead_of: str) -> None:
        """Replace a text in all responses: in their JSON, and in their headers where a header can have it."""
        self._words[instead_of] = word

    def received(self, calls: str = "") -> list[ProxiedRequest]:
        """The requests so far that match the expression, oldest first."""
        with self._lock:
            return [request for request in self.log if re.search(calls, request.line)]

    def received_naming(self, word: str) -> list[str]:
        """The requests whose path has the text, encoded or not."""
        with self._lock:
            lines = [request.line.partition("?")[0] for request in self.log]
        return [line for line in lines if word in line or word in unquote(line)]

    def _reply(self, asked: ProxiedRequest, forward: ForwardRequest) -> ProxyResponse:
        with self._lock:
            self.log.append(asked)
            action = self._action(asked)
        reply = action(asked, forward) if action else forward()
        return self._reworded(reply)

    def _action(self, asked: ProxiedRequest) -> Action | None:
        for rule in self._rules:
            if not rule.calls.search(asked.line) or rule.times == 0:
                continue
            if rule.passing:
                rule.passing -= 1
                continue
            rule.times = None if rule.times is None else rule.times - 1
            return rule.action
        return None

    def _reworded(self, reply: ProxyResponse) -> ProxyResponse:
        far = urlsplit(self.target).netloc
        body, headers = reply.body, {name: value.replace(far, self.host) for name, value in reply.headers}
        for old, new in self._words.items():
            body = body.replace(old.encode(), json.dumps(new)[1:-1].encode())
            if new.isprintable() and new.isascii():
                headers = {name: value.replace(old, new) for name, value in headers.items()}
        if self.clock_ahead:
            headers["Date"] = format_datetime(datetime.now(UTC) + self.clock_ahead, usegmt=True)
        return replace(reply, body=body, headers=tuple(headers.items()))


def _handler(proxy: HttpFaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 64 * 1024  # one packet an answer

        def setup(self) -> None:
            super().setup()
            far = urlsplit(proxy.target)
            self.far = http.client.HTTPConnection(str(far.hostname), far.port, timeout=60)
            self._count(1)

        def finish(self) -> None:
            self._count(-1)
            self.far.close()
            with suppress(OSError):
                super().finish()

        def _count(self, by: int) -> None:
            with proxy._lock:
                proxy.open_connections += by

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = ProxiedRequest(datetime.now(UTC), self.command, self.path, headers, body)
            self._send(proxy._reply(asked, lambda: self._forward(asked)))

        def _forward(self, asked: ProxiedRequest) -> ProxyResponse:
            headers = {name: value for name, value in asked.headers.items() if name not in HOP_BY_HOP}
            self.far.request(asked.method, asked.target, body=asked.body or None, headers=headers)
            respond_with = self.far.getresponse()
            kept = [(name, value) for name, value in respond_with.getheaders() if name.lower() not in HOP_BY_HOP]
            if asked.method == "HEAD" and (length := respond_with.getheader("Content-Length")):
                kept.append(("Content-Length", length))
            return ProxyResponse(respond_with.status, respond_with.read(), kept)

        def _send(self, reply: ProxyResponse) -> None:
            if reply.fate == "nothing":
                self._end()
                return
            self.send_response_only(reply.status)
            headers = dict(reply.headers)
            if self.command != "HEAD":
                headers["Content-Length"] = str(len(reply.body))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if reply.fate == "cut":
                self.wfile.write(reply.body[: reply.size])
                self._end()
            elif self.command != "HEAD":
                self.wfile.write(reply.body)
            with suppress(OSError):
                self.wfile.flush()

        def _end(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_HEAD = do_DELETE = do_PUT = do_POST = _any  # noqa: N815 - http.server looks these names up

        def log_message(self, *_: object) -> None:
            """Stay silent: `log` has it all."""

    return Handler
