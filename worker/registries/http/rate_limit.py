"""How fast a registry may be asked: evenly spaced requests under one limit, shared by every process through Redis.

Slots are handed out on the Redis server's clock, the next one 1/rate after the last; the waiting itself happens here,
outside Redis. A registry that asks for a pause gets it from every process, not only from the one that was told.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from worker.config.broker import connect, trouble
from worker.registries.errors import LimiterUnavailableError, TooLateError

if TYPE_CHECKING:
    from worker.config.settings import RegistrySettings

LONGEST_PAUSE = 30.0  # seconds; a registry that asks for more is asked again, not obeyed for an hour
CHECK_AFTER = 0.05  # seconds; who waited longer than this looks whether a pause was asked for meanwhile

# KEYS: the next free slot (µs), the pause. ARGV: 1/rate in µs, the longest pause in ms. Answers how long to wait, in
# µs. A slot in the far future is left over from a clock that was set back: it is forgotten. A pause that is longer than
# the longest was written by somebody else: it is cut.
RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local slot = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
if slot < now or slot > now + 60000000 + 1000 * interval then slot = now end
local pause = redis.call('PTTL', KEYS[2])
local longest = tonumber(ARGV[2])
if pause > longest then
  redis.call('PEXPIRE', KEYS[2], longest)
  pause = longest
end
if pause > 0 and slot < now + pause * 1000 then slot = now + pause * 1000 end
local following = slot + interval
local life = (following - now) / 1000 + 1000
redis.call('SET', KEYS[1], string.format('%.0f', following), 'PX', string.format('%.0f', life))
return string.format('%.0f', slot - now)
"""

# A shorter pause never shortens a longer one.
PAUSE = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
return 1
"""


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
            delay = self._reserve()
            if delay > 0:
                time.sleep(delay)
            if delay < CHECK_AFTER or time.monotonic() >= self._paused_until:
                return time.monotonic() - started

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + min(seconds, LONGEST_PAUSE))

    def close(self) -> None:
        pass

    def _reserve(self) -> float:
        with self._lock:
            now = time.monotonic()
            slot = max(now, self._slot, self._paused_until)
            self._slot = slot + self._interval
            return slot - now


class BoundedLimiter:
    """Another limiter, which lets nothing more pass while a time that was set is over: so a long listing ends."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._not_after: float | None = None  # time.monotonic()
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
        self._turn_away()
        waited = self._limiter.wait()
        self._turn_away()
        return waited

    def pause(self, seconds: float) -> None:
        self._limiter.pause(seconds)

    def close(self) -> None:
        self._limiter.close()

    def _turn_away(self) -> None:
        if self._not_after is not None and time.monotonic() >= self._not_after:
            self.stopped = True
            raise TooLateError("the time for asking was over")


class RedisLimiter:
    """The limit that all processes of all machines with this Redis keep together. Fails closed."""

    def __init__(self, url: str, key: str, rate: float) -> None:
        """`url` of Redis, `key` the registry's identity (`RegistrySettings.key`), `rate` in requests a second."""
        self._client = connect(url)
        self._interval = round(1_000_000 / rate)
        # In braces: one hash slot for both keys, should it be a cluster.
        self._slot_key, self._pause_key = f"registry-gc:limit:{{{key}}}:slot", f"registry-gc:limit:{{{key}}}:pause"
        self._reserve_script = self._client.register_script(RESERVE)
        self._pause_script = self._client.register_script(PAUSE)

    def wait(self) -> float:
        started = time.monotonic()
        while True:
            limits = [self._interval, round(LONGEST_PAUSE * 1000)]
            answer = self._ask(self._reserve_script, keys=[self._slot_key, self._pause_key], args=limits)
            delay = int(answer) / 1_000_000
            if delay > 0:
                time.sleep(delay)
            if delay < CHECK_AFTER or self._ask(self._client.pttl, self._pause_key) <= 0:
                return time.monotonic() - started

    def pause(self, seconds: float) -> None:
        milliseconds = max(1, round(min(seconds, LONGEST_PAUSE) * 1000))
        self._ask(self._pause_script, keys=[self._pause_key], args=[milliseconds])

    def close(self) -> None:
        self._client.close()

    @staticmethod
    def _ask(command: Any, *args: Any, **kwargs: Any) -> Any:
        from redis.exceptions import RedisError  # noqa: PLC0415 - redis is loaded only where it is used

        try:
            return command(*args, **kwargs)
        except RedisError as error:
            what = f"Redis, which holds the request limit, does not answer: {trouble(error)}"
            raise LimiterUnavailableError(what) from None  # redis-py's own error quotes the address


def open_limiter(redis_url: str | None, settings: "RegistrySettings") -> Limiter:
    """The limiter of a registry: shared through Redis, or this process's own where there is none. Asks nothing yet."""
    rate = settings.rate.requests_per_second
    return RedisLimiter(redis_url, settings.key, rate) if redis_url else LocalLimiter(rate)
