"""Calls with retries, a total time, the rate limit and one renewal of the credentials. `transport` sends each request.

Callers pass a function that reads a response and raises the errors of `worker.registries.errors`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar
from urllib.parse import urlsplit

import stamina
import stamina.instrumentation

from worker.config.settings import Network
from worker.registries.errors import (
    BadResponseError,
    LimiterUnavailableError,
    NoConnectionError,
    RateLimitedError,
    RegistryError,
    TooLateError,
    UnavailableError,
)
from worker.registries.http.messages import BrokenBodyError, Request, Response, Retries, Signer, retry_after
from worker.registries.http.network import NetworkError, Routes
from worker.registries.http.rate_limit import BoundedLimiter, Limiter
from worker.registries.http.transport import Transport
from worker.registries.interface import Usage

# `usage` counts retries. stamina's own log line would go to standard output if structlog is not configured.
stamina.instrumentation.set_on_retry_hooks([])

T = TypeVar("T")

RESTART_POLL = 0.5  # seconds between two attempts to connect to a server that restarts


@dataclass(slots=True)
class _Call:
    """The state of one call."""

    request: Request
    ends: float  # time.monotonic(); extended by the waits for the rate limit
    response: Response | None = None  # of the last attempt
    reauthorized: bool = False
    hopeless: bool = False  # no retry: the sign-in failed after its own retries
    error: RegistryError | None = None  # of the last attempt that was retried
    attempts: int = 0
    maybe_done: bool = False  # an earlier attempt may have succeeded although its response was lost


class Http:
    """The HTTP client of one registry. Safe to use from several threads."""

    def __init__(
        self,
        registry: str,
        limiter: Limiter,
        concurrency: int,
        retries: Retries | None = None,
        network: Network | None = None,
    ) -> None:
        self.registry = registry
        self.limiter = limiter
        self._retries = retries or Retries()
        self._in_flight = threading.BoundedSemaphore(concurrency)
        self._routes = Routes(network or Network())
        self._transport = Transport(registry, self._routes, concurrency + 4)
        self._usage, self._usage_lock = Usage(), threading.Lock()

    def close(self) -> None:
        self._transport.close()

    def usage(self) -> Usage:
        """Usage since the last call; resets the counters."""
        with self._usage_lock:
            spent, self._usage = self._usage, Usage()
        return spent

    def call(
        self, request: Request, read: Callable[[Response], T], signer: Signer | None = None, total: float | None = None
    ) -> T:
        """Send a request, with retries, until `read` accepts the response. Raises the last error of `read`, or
        UnavailableError; `maybe_done`: an attempt at a deletion may have succeeded. `total`: at most so many seconds.
        """
        address = urlsplit(request.url)
        plain = address.scheme == "http" and self._routes.allows_plain_http(request.url, direct=request.direct)
        if address.scheme != "https" and not plain:
            raise BadResponseError(
                f"refused to send a request to {address.netloc} without TLS; use https", self.registry, request.label
            )
        retries = self._retries
        seconds = max(request.max_seconds, min(retries.total, retries.total if total is None else total))
        call = _Call(request, ends=time.monotonic() + seconds)
        attempts = stamina.retry_context(
            on=lambda error: self._retry_after(call, error),
            attempts=None,  # `_retry_after` counts attempts
            timeout=None,  # and time, without the waits for the rate limit
            wait_initial=retries.first_wait,
            wait_max=retries.longest_wait,
            wait_jitter=retries.jitter,
        )
        try:
            for attempt in attempts:
                with attempt:
                    return self._attempt(call, read, signer)
        except RegistryError as last:
            # The reason for the retry says more than the fact that it was too late for it.
            error = call.error if isinstance(last, TooLateError) and call.error is not None else last
            error.maybe_done |= call.maybe_done and request.method == "DELETE"
            raise error from None
        raise AssertionError("stamina made no attempt")

    def _attempt(self, call: _Call, read: Callable[[Response], T], signer: Signer | None) -> T:
        call.response = None
        authorization = self._authorize(call, signer)
        call.response = response = self._send(call, authorization)
        while response.status == 401 and signer and not call.reauthorized:
            unsigned, authorization = authorization is None, self._authorize(call, signer, authorization, response)
            # The first 401 only asks for a password; a second one may refuse it.
            call.reauthorized = not (unsigned and (authorization or "").startswith("Basic "))
            call.response = response = self._send(call, authorization)
        try:
            return read(response)
        except RegistryError as error:
            self._locate(error, call.request)
            if credentials := (authorization or "").partition(" ")[2]:  # the response may quote them
                error.message = error.message.replace(credentials, "***")
            call.maybe_done |= isinstance(error, UnavailableError | BadResponseError)
            raise

    def _authorize(
        self, call: _Call, signer: Signer | None, refused: str | None = None, response: Response | None = None
    ) -> str | None:
        """The header Authorization of the next request. `response`: the 401 that refused the last one."""
        if signer is None:
            return None
        try:
            if response is not None:
                signer.refused(refused, response)
            return signer.sign()
        except RegistryError as error:
            call.hopeless = True
            self._locate(error, call.request)
            raise

    def _retry_after(self, call: _Call, error: Exception) -> bool | float:
        """Whether to retry; a number: after so many seconds, as the server asks."""
        if not isinstance(error, UnavailableError | RateLimitedError | BrokenBodyError):
            return False
        unsent = isinstance(error, RateLimitedError | NoConnectionError)  # not carried out
        if call.hopeless or not (call.request.repeatable or unsent):
            return False
        call.attempts += 1
        wait = retry_after(call.response) if call.response else None
        if call.request.paced and (wait is not None or isinstance(error, RateLimitedError)):
            self.limiter.pause(1.0 if wait is None else wait)
        most = call.request.attempts
        if most is not None and call.attempts >= most:
            return False
        if call.attempts >= self._retries.attempts:
            if not (self._retries.waits_for_restarts and isinstance(error, NoConnectionError)):
                return False
            wait = RESTART_POLL
        then = time.monotonic() + (wait or 0.0)
        if then >= call.ends or (call.request.not_after is not None and then >= call.request.not_after):
            return False
        call.error = error
        return True if wait is None else wait

    def _send(self, call: _Call, authorization: str | None) -> Response:
        request = call.request
        with self._slot(call):
            try:
                response = self._transport.send(request, authorization, call.ends)
            except NetworkError as error:
                call.hopeless = True
                self._count(request, "error")
                raise UnavailableError(str(error), self.registry, request.label) from None
            except RegistryError as error:
                self._count(request, "error")
                self._locate(error, request)
                call.maybe_done |= error.maybe_done or isinstance(error, BadResponseError)  # it has arrived
                raise
        self._count(request, str(response.status))
        if response.status == 407:
            message = f"{self._transport.proxy_of(request)} requires a user name and a password; add them to its URL"
            raise UnavailableError(message, self.registry, request.label)
        return response

    @contextmanager
    def _slot(self, call: _Call) -> Iterator[None]:
        """Wait for a free connection and for the rate limit. Both waits extend the time of the call."""
        if not call.request.paced:
            yield
            return
        started = time.monotonic()
        with self._in_flight:
            try:
                waited = self.limiter.wait()
            except LimiterUnavailableError as error:
                if call.request.method != "DELETE":
                    raise
                raise TooLateError(str(error)) from None  # a deletion that was certainly not sent
            call.ends += time.monotonic() - started
            with self._usage_lock:
                self._usage.rate_wait_seconds += waited
            not_after = call.request.not_after
            if not_after is not None and isinstance(self.limiter, BoundedLimiter):
                not_after = min(not_after, self.limiter.deletions_until)
            if not_after is not None and time.monotonic() >= not_after:
                raise TooLateError("not sent: waited too long for the rate limit after the image was reread")
            yield

    def _locate(self, error: RegistryError, request: Request) -> None:
        """Add registry and request to an error that has none."""
        error.registry, error.request = error.registry or self.registry, error.request or request.label

    def _count(self, request: Request, code: str) -> None:
        with self._usage_lock:
            key = (request.method, code)
            self._usage.requests[key] = self._usage.requests.get(key, 0) + 1


class HttpDriver:
    """A driver with one HTTP client, which it closes on exit."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()

    def usage(self) -> Usage:
        return self.http.usage()
