"""The rate: kept by several processes together through a real Redis, paused for all by one, closed without Redis."""

import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from redis import Redis

from tests.support.drivers import QUICK, key, settings_for
from tests.support.servers import RedisServer, redis_server
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.config.settings import Rate, RegistrySettings
from worker.registries import open_limiter, open_registry
from worker.registries.errors import LimiterUnavailableError
from worker.registries.http.rate_limit import LONGEST_PAUSE, Limiter, LocalLimiter
from worker.registries.http.redis_limit import RedisLimiter

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(params=["local", "redis"])
def twenty(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Limiter]:
    """A limiter of twenty requests a second, of either kind."""
    limiter = LocalLimiter(20.0) if request.param == "local" else RedisLimiter(redis.url, key(), 20.0)
    yield limiter
    limiter.close()


def worst_second(times: list[float]) -> int:
    """The most of these times that any second holds."""
    times = sorted(times)
    return max(bisect_left(times, start + 1.0) - place for place, start in enumerate(times))


def test_processes_keep_one_rate_together(redis: RedisServer) -> None:
    words = [sys.executable, "-m", "tests.support.rate_process", redis.url, "shared|by|all", "10", "3", "4"]
    processes = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    times = [float(line) for output in outputs for line in output.split()]
    assert all(output for output in outputs)  # nobody is starved
    assert worst_second(times) <= 10 + 1
    assert len(times) >= 0.9 * 10 * (max(times) - min(times))


def test_requests_are_spaced(twenty: Limiter) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        waited = list(pool.map(lambda _: twenty.wait(), range(11)))
    assert 0.48 <= time.monotonic() - started < 1.5
    assert min(waited) < 0.04
    assert max(waited) > 0.25


def test_idle_time_saves_up_no_burst(twenty: Limiter) -> None:
    twenty.wait()
    idle_until = time.monotonic() + 0.3
    until(lambda: time.monotonic() > idle_until, what="an idle spell")
    started = time.monotonic()
    for _ in range(3):
        twenty.wait()
    assert time.monotonic() - started >= 0.09


def test_a_pause_holds_those_who_wait_already(twenty: Limiter) -> None:
    """Slots are handed out ahead: who has one and still waits must hear of a pause as well."""
    for _ in range(8):
        threading.Thread(target=twenty.wait, daemon=True).start()
    started = time.monotonic()
    done: list[float] = []
    waiting = threading.Thread(target=lambda: done.append(twenty.wait()))
    waiting.start()
    twenty.pause(1.0)
    waiting.join()
    assert time.monotonic() - started >= 0.95


def test_a_shorter_pause_never_shortens_a_longer_one(twenty: Limiter) -> None:
    started = time.monotonic()
    twenty.pause(0.5)
    twenty.pause(0.05)
    twenty.wait()
    assert 0.45 <= time.monotonic() - started < 2.0


def test_a_pause_is_for_every_process(redis: RedisServer) -> None:
    shared = key()
    one, other = RedisLimiter(redis.url, shared, 100.0), RedisLimiter(redis.url, shared, 100.0)
    stranger = RedisLimiter(redis.url, key(), 100.0)
    one.pause(0.5)
    assert stranger.wait() < 0.2
    assert other.wait() > 0.3


def test_no_pause_is_for_ever(redis: RedisServer) -> None:
    shared = key()
    RedisLimiter(redis.url, shared, 100.0).pause(86_400.0)
    client = Redis.from_url(redis.url)
    (name,) = client.keys(f"registry-gc:limit:{{{shared}}}:pause")
    assert 0 < client.pttl(name) <= LONGEST_PAUSE * 1000


def test_keys_bear_our_name_and_vanish(redis: RedisServer) -> None:
    redis.empty()
    RedisLimiter(redis.url, "kind|endpoint|id", 100.0).wait()
    client = Redis.from_url(redis.url)
    assert client.keys() == [b"registry-gc:limit:{kind|endpoint|id}:slot"]
    until(lambda: client.keys() == [], timeout=5, what="the key's end")


@pytest.mark.parametrize("left_over", ["99999999999999999", "nonsense", "-5", ""])
def test_what_was_left_over_stops_nobody(redis: RedisServer, left_over: str) -> None:
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
            with pytest.raises(LimiterUnavailableError, match="Redis, which holds the request limit, does not answer"):
                registry.clock()
            assert len(simulator.requests()) == before
            server.start()
            registry.clock()
        limiter.close()


def test_a_redis_that_hangs_is_not_waited_for_long(simulator: Simulator, settings: RegistrySettings) -> None:
    with redis_server() as server:
        limiter = open_limiter(server.url, settings)
        limiter.wait()
        Redis.from_url(server.url).execute_command("CLIENT", "PAUSE", "4000")
        started = time.monotonic()
        with pytest.raises(LimiterUnavailableError):
            limiter.wait()
        assert time.monotonic() - started < 3.5


def test_a_password_is_not_told(settings: RegistrySettings) -> None:
    limiter = open_limiter("redis://gc:sesame@127.0.0.1:1/0", settings)
    with pytest.raises(LimiterUnavailableError) as failure:
        limiter.wait()
    assert "sesame" not in f"{failure.value} {failure.value!r} {limiter!r}"


def test_every_attempt_takes_a_slot(simulator: Simulator, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(simulator.token)
    slow = settings_for(simulator, token, rate=Rate(requests_per_second=10.0, concurrency=16))
    simulator.fault("status", path="/container-registry", times=4, status=503)
    with open_registry(slow, patience=QUICK) as registry:
        registry.clock()
    asked = simulator.requests("GET")
    assert len(asked) == 5
    moments = [datetime.fromisoformat(request["at"]).timestamp() for request in asked]
    assert moments[-1] - moments[0] >= 0.38


def test_a_bucket_on_the_other_side_is_never_emptied(simulator: Simulator, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(simulator.token)
    simulator.push("shop/api")
    simulator.switch(requests_per_second=40)
    fitting = settings_for(simulator, token, rate=Rate(requests_per_second=40.0, concurrency=16))
    with open_registry(fitting, patience=QUICK) as registry, ThreadPoolExecutor(16) as pool:
        assert all(pool.map(registry.images, ["shop/api"] * 80))
        assert registry.usage().requests == {("GET", "200"): 80}


def test_a_pause_of_ten_years_in_redis_is_cut(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes to Redis may write that; it must not keep everybody waiting for ten years."""
    monkeypatch.setattr("worker.registries.http.redis_limit.LONGEST_PAUSE", 0.3)
    limiter = RedisLimiter(redis.url, "ten years", 20.0)
    with closing(Redis.from_url(redis.url)) as client:
        client.set("registry-gc:limit:{ten years}:pause", "1", px=10 * 365 * 86_400_000)
        started = time.monotonic()
        limiter.wait()
        limiter.wait()
    limiter.close()
    assert 0.25 < time.monotonic() - started < 5
