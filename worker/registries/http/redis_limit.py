"""The rate limit of a registry, shared by all processes of all machines through Redis.

Redis assigns slots on its own clock, each 1/rate after the last; each process then waits for its slot. A pause that a
registry asks of one process holds for all of them.
"""

import time
from typing import Any

from redis.exceptions import RedisError

from worker.config.broker import connect, describe_redis_error
from worker.registries.errors import LimiterUnavailableError
from worker.registries.http.rate_limit import CHECK_AFTER, MAX_PAUSE

# KEYS: the next free slot (µs), the pause. ARGV: 1/rate in µs, the longest pause in ms. Returns the wait in µs. A slot
# in the far future remains from before the clock was set back: it is ignored. Another program may have written a
# longer pause: it is shortened.
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


class RedisLimiter:
    """The limit of one registry. Without Redis no request is sent."""

    def __init__(self, url: str, key: str, rate: float) -> None:
        """`url`: of Redis; `key`: of the registry (`RegistrySettings.key`); `rate`: requests per second."""
        self._client = connect(url)
        self._interval = round(1_000_000 / rate)
        # Braces: a Redis cluster stores both keys in one hash slot.
        self._slot_key, self._pause_key = f"registry-gc:limit:{{{key}}}:slot", f"registry-gc:limit:{{{key}}}:pause"
        self._reserve_script = self._client.register_script(RESERVE)
        self._pause_script = self._client.register_script(PAUSE)

    def wait(self) -> float:
        started = time.monotonic()
        while True:
            limits = [self._interval, round(MAX_PAUSE * 1000)]
            wait = self._ask(self._reserve_script, keys=[self._slot_key, self._pause_key], args=limits)
            delay = int(wait) / 1_000_000
            if delay > 0:
                time.sleep(delay)
            if delay < CHECK_AFTER or self._ask(self._client.pttl, self._pause_key) <= 0:
                return time.monotonic() - started

    def pause(self, seconds: float) -> None:
        milliseconds = max(1, round(min(seconds, MAX_PAUSE) * 1000))
        self._ask(self._pause_script, keys=[self._pause_key], args=[milliseconds])

    def close(self) -> None:
        self._client.close()

    @staticmethod
    def _ask(command: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except RedisError as error:
            message = f"Redis, which holds the rate limit, does not respond: {describe_redis_error(error)}"
            raise LimiterUnavailableError(message) from None  # redis-py's own error quotes the address
