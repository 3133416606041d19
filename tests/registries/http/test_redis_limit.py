"""The rate that processes keep together through a real Redis: a pause applies to all; without Redis it is closed."""

import subprocess
import sys
import time
from bisect import bisect_left
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from tests.support.drivers import QUICK, key
from tests.support.secrecy import shows_no_secret
from tests.support.servers import RedisServer, redis_server
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.config.settings import RegistrySettings
from worker.registries import open_limiter, open_registry
from worker.registries.errors import LimiterUnavailableError
from worker.registries.http.redis_limit import RedisLimiter

ROOT = Path(__file__).resolve().parents[3]


def worst_second(times: list[float]) -> int:
    """The most of these times that any second holds."""
    times = sorted(times)
    return max(bisect_left(times, start + 1.0) - place for place, start in enumerate(times))


def test_processes_keep_one_rate_together(redis: RedisServer) -> None:
    words = [sys.executable, "-m", "tests.support.rate_process", redis.url, "shared|by|all", "10", "3", "4"]
    processes = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    times = [float(line) for output in outputs for line in output.split()]
    assert all(output for output in outputs)  # no process is starved
    assert worst_second(times) <= 10 + 1
    assert len(times) >= 0.9 * 10 * (max(times) - min(times))


def test_a_pause_is_for_every_process(redis: RedisServer) -> None:
    shared = key()
    first, second = RedisLimiter(redis.url, shared, 100.0), RedisLimiter(redis.url, shared, 100.0)
    stranger = RedisLimiter(redis.url, key(), 100.0)
    first.pause(0.5)
    assert stranger.wait() < 0.2
    assert second.wait() > 0.3


def test_keys_bear_our_name_and_vanish(redis: RedisServer) -> None:
    redis.empty()
    RedisLimiter(redis.url, "kind|endpoint|id", 100.0).wait()
    client = Redis.from_url(redis.url)
    assert client.keys() == [b"registry-gc:limit:{kind|endpoint|id}:slot"]
    until(lambda: client.keys() == [], timeout=5, what="the key's end")


@pytest.mark.parametrize("left_over", ["99999999999999999", "nonsense", "-5", ""])
def test_ignores_left_over_keys(redis: RedisServer, left_over: str) -> None:
    shared = key()
    Redis.from_url(redis.url).set(f"registry-gc:limit:{{{shared}}}:slot", left_over)
    assert RedisLimiter(redis.url, shared, 100.0).wait() < 0.5


def test_without_redis_nothing_is_sent(simulator: Simulator, settings: RegistrySettings) -> None:
    with redis_server() as server:
        limiter = open_limiter(server.url, settings)
        with open_registry(settings, limiter, QUICK) as registry:
            registry.clock()
            server.kill()
            before = len(simulator.requests())
            with pytest.raises(LimiterUnavailableError, match="Redis, which holds the rate limit, does not respond"):
                registry.clock()
            assert len(simulator.requests()) == before
            server.start()
            registry.clock()
        limiter.close()


def test_fails_soon_if_redis_hangs(simulator: Simulator, settings: RegistrySettings) -> None:
    with redis_server() as server:
        limiter = open_limiter(server.url, settings)
        limiter.wait()
        Redis.from_url(server.url).execute_command("CLIENT", "PAUSE", "4000")
        started = time.monotonic()
        with pytest.raises(LimiterUnavailableError):
            limiter.wait()
        assert time.monotonic() - started < 3.5


def test_shows_no_password_of_a_proxy(settings: RegistrySettings) -> None:
    limiter = open_limiter("redis://gc:sesame@127.0.0.1:1/0", settings)
    with pytest.raises(LimiterUnavailableError) as failure:
        limiter.wait()
    assert "sesame" not in f"{failure.value} {failure.value!r} {limiter!r}"


def test_shortens_a_pause_of_ten_years_in_redis(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone with write access to Redis can write such a pause; it must not delay every process for ten years."""
    monkeypatch.setattr("worker.registries.http.redis_limit.MAX_PAUSE", 0.3)
    limiter = RedisLimiter(redis.url, "ten years", 20.0)
    with closing(Redis.from_url(redis.url)) as client:
        client.set("registry-gc:limit:{ten years}:pause", "1", px=10 * 365 * 86_400_000)
        started = time.monotonic()
        limiter.wait()
        limiter.wait()
    limiter.close()
    assert 0.25 < time.monotonic() - started < 5


def test_reports_an_unreachable_redis_without_its_password(tmp_path: Path) -> None:
    def wait(_folder: Path, secret: str) -> None:
        RedisLimiter(f"redis://:{secret}@127.0.0.1:9/0", "key", 1.0).wait()

    shows_no_secret(tmp_path, wait, "LimiterUnavailableError")
