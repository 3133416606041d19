"""Sends requests until they are answered: a total, retries, the rate, one fresh sign-in. `transport` sends each once.

What an answer means is not known here: callers hand in a function that reads it and raises the errors of `interface`.
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

# Retries are counted in `usage`; stamina's own line would go to standard output wherever structlog is not set up.
stamina.instrumentation.set_on_retry_hooks([])

T = TypeVar("T")

RESTART_POLL = 0.5  # seconds between two attempts to connect to a server that starts again


@dataclass(slots=True)
class _Call:
    """What one call has gone through so far."""

    request: Request
    ends: float  # time.monotonic(); moved by the waits for the rate
    response: Response | None = None  # of the last attempt
    signed_again: bool = False
    hopeless: bool = False  # signing in failed, after all the patience it has of its own
    error: RegistryError | None = None  # of the last attempt that was tried again
    attempts: int = 0
    maybe_done: bool = False  # an earlier attempt may have reached the server without its answer reaching us


class Http:
    """A client for one registry's services, shared by the threads of one process. Closing it closes its connections."""

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
        """What was spent since the last call; the count starts again."""
        with self._usage_lock:
            spent, self._usage = self._usage, Usage()
        return spent

    def call(
        self, request: Request, read: Callable[[Response], T], signer: Signer | None = None, total: float | None = None
    ) -> T:
        """Send until `read` accepts an answer, or patience ends. Raises what `read` raised last, or UnavailableError.

        `total` (seconds) shortens the patience. `maybe_done` of a deletion's error: an attempt may have done it.
        """
        address = urlsplit(request.url)
        plain = address.scheme == "http" and self._routes.plain_is_fine(request.url, direct=request.direct)
        if address.scheme != "https" and not plain:
            raise BadResponseError(f"refusing to talk to {address.netloc} without TLS", self.registry, request.label)
        retries = self._retries
        seconds = max(request.max_seconds, min(retries.total, retries.total if total is None else total))
        call = _Call(request, ends=time.monotonic() + seconds)
        attempts = stamina.retry_context(
            on=lambda error: self._again(call, error),
            attempts=None,  # counted by us, as well
            timeout=None,  # counted by us, without the waits for the rate
            wait_initial=retries.first_wait,
            wait_max=retries.longest_wait,
            wait_jitter=retries.jitter,
        )
        try:
            for attempt in attempts:
                with attempt:
                    return self._attempt(call, read, signer)
        except RegistryError as last:
            # That it is too late for another attempt says less than why there had to be another.
            error = call.error if isinstance(last, TooLateError) and call.error is not None else last
            error.maybe_done |= call.maybe_done and request.method == "DELETE"
            raise error from None
        raise AssertionError("stamina gave no attempt")

    def _attempt(self, call: _Call, read: Callable[[Response], T], signer: Signer | None) -> T:
        call.response = None
        authorization = self._signed(call, signer)
        call.response = response = self._send(call, authorization)
        while response.status == 401 and signer and not call.signed_again:
            unsigned, authorization = authorization is None, self._signed(call, signer, authorization, response)
            # A first answer only says how to sign in; a password that was remembered may be refused after it.
            call.signed_again = not (unsigned and (authorization or "").startswith("Basic "))
            call.response = response = self._send(call, authorization)
        try:
            return read(response)
        except RegistryError as error:
            self._locate(error, call.request)
            if credentials := (authorization or "").partition(" ")[2]:  # a server may repeat them
                error.message = error.message.replace(credentials, "***")
            call.maybe_done |= isinstance(error, UnavailableError | BadResponseError)
            raise

    def _signed(
        self, call: _Call, signer: Signer | None, refused: str | None = None, response: Response | None = None
    ) -> str | None:
        """A signature for the next request; a fresh one where `answer` refused the last."""
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

    def _again(self, call: _Call, error: Exception) -> bool | float:
        """Whether another attempt is worth it; a number says after how many seconds, because the server did."""
        if not isinstance(error, UnavailableError | RateLimitedError | BrokenBodyError):
            return False
        unsent = isinstance(error, RateLimitedError | NoConnectionError)  # nothing was done
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
                call.maybe_done |= error.maybe_done or isinstance(
                    error, BadResponseError
                )  # it answered: it has arrived
                raise
        self._count(request, str(response.status))
        if response.status == 407:
            message = f"{self._transport.proxy_of(request)} asks for a password"
            raise UnavailableError(message, self.registry, request.label)
        return response

    @contextmanager
    def _slot(self, call: _Call) -> Iterator[None]:
        """A place among the requests in flight, then the rate's permission. Neither counts towards the call's time."""
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
                raise TooLateError(str(error)) from None  # of a deletion it has to be known whether it was sent
            call.ends += time.monotonic() - started
            with self._usage_lock:
                self._usage.rate_wait_seconds += waited
            not_after = call.request.not_after
            if not_after is not None and isinstance(self.limiter, BoundedLimiter):
                not_after = min(not_after, self.limiter.deletions_until)
            if not_after is not None and time.monotonic() >= not_after:
                raise TooLateError("its turn came too late: what was read before is no longer fresh")
            yield

    def _locate(self, error: RegistryError, request: Request) -> None:
        """An error knows what it was about: readers of answers need not."""
        error.registry, error.request = error.registry or self.registry, error.request or request.label

    def _count(self, request: Request, code: str) -> None:
        with self._usage_lock:
            key = (request.method, code)
            self._usage.requests[key] = self._usage.requests.get(key, 0) + 1


class HttpDriver:
    """A driver that asks by one client: a context manager, leaving it closes the client's connections."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()

    def usage(self) -> Usage:
        return self.http.usage()
