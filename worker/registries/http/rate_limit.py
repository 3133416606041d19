"""How fast a registry may be asked: evenly spaced requests under one limit, shared by every process through Redis.

What all processes share is in `redis_limit`.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from worker.registries.errors import TooLateError

LONGEST_PAUSE = 30.0  # seconds; a registry that asks for more is asked again, not obeyed for an hour
CHECK_AFTER = 0.05  # seconds; who waited longer than this looks whether a pause was asked for meanwhile


class Limiter(Protocol):
    """What every attempt of every request asks first. Safe to use from several threads."""

    def wait(self) -> float:
        """Block until one more request may be sent; the seconds waited. Raises LimiterUnavailableError."""

    def pause(self, seconds: float) -> None:
        """Send nothing for this long, at most LONGEST_PAUSE: the registry wants it. Raises LimiterUnavailableError."""

    def close(self) -> None:
        """Give up connections, where there are any."""


class LocalLimiter:
    """The limit of one process alone: for commands that must work without Redis."""

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
            self._paused_until = max(self._paused_until, time.monotonic() + min(seconds, LONGEST_PAUSE))

    def close(self) -> None:
        pass


class BoundedLimiter:
    """Another limiter, which lets nothing more pass while a time that was set is over: so a long listing ends."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._not_after: float | None = None  # time.monotonic()
        self.deletions_until = float("inf")  # time.monotonic() from which no request that may come too late is sent
        self.stopped = False  # somebody was turned away since the time was set

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """For all threads, let nothing pass once `time.monotonic()` is `moment`. Whoever comes then: TooLateError."""
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
            raise TooLateError("the time for asking was over")
