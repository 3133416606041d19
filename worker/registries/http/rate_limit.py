"""The rate limit of a registry within one process: evenly spaced requests. `redis_limit` is shared by all processes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from worker.registries.errors import TooLateError

MAX_PAUSE = 30.0  # seconds; if a registry asks for more, the next request asks it again
CHECK_AFTER = 0.05  # seconds; after a longer wait, check for a new pause


class Limiter(Protocol):
    """Grants each attempt of each request. Safe to use from several threads."""

    def wait(self) -> float:
        """Block until the next request may be sent; returns the seconds waited. Raises LimiterUnavailableError."""

    def pause(self, seconds: float) -> None:
        """Grant no request for so many seconds, at most MAX_PAUSE. Raises LimiterUnavailableError."""

    def close(self) -> None:
        """Close the connections, if any."""


class LocalLimiter:
    """The limit of one process: for commands that work without Redis."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate
        self._lock = threading.Lock()
        self._slot = 0.0  # time.monotonic() of the next free slot
        self._paused_until = 0.0

    def wait(self) -> float:
        started = time.monotonic()
        while True:
            with self._lock:
                now = time.monotonic()
                slot = max(now, self._slot, self._paused_until)
                self._slot = slot + self._interval
            delay = slot - now
            if delay > 0:
                time.sleep(delay)
            if delay < CHECK_AFTER or time.monotonic() >= self._paused_until:
                return time.monotonic() - started

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + min(seconds, MAX_PAUSE))

    def close(self) -> None:
        pass


class BoundedLimiter:
    """Adds a time limit to a limiter, so that a long listing ends."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._not_after: float | None = None  # time.monotonic()
        self.deletions_until = float("inf")  # time.monotonic() from which no request with a `not_after` is sent
        self.stopped = False  # whether a request was refused since `until` began

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """Refuse the requests of all threads, with TooLateError, once `time.monotonic()` reaches `moment`. Also refuses
        a request whose wait for its slot ends after `moment`. `stopped` becomes False at the start. At the end there is
        no limit, so two of these contexts must not overlap.
        """
        self._not_after, self.stopped = moment, False
        try:
            yield
        finally:
            self._not_after = None

    def wait(self) -> float:
        self._check_time()
        waited = self._limiter.wait()
        self._check_time()
        return waited

    def pause(self, seconds: float) -> None:
        self._limiter.pause(seconds)

    def close(self) -> None:
        self._limiter.close()

    def _check_time(self) -> None:
        if self._not_after is not None and time.monotonic() >= self._not_after:
            self.stopped = True
            raise TooLateError("not sent: the time limit of the listing was reached")
