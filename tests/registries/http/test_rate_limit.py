"""The rate: requests are spaced, idle time saves up no burst, a pause delays all requests, with either limiter."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from redis import Redis

from tests.support.drivers import QUICK, key, settings_for
from tests.support.servers import RedisServer
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.config.settings import Rate
from worker.registries import open_registry
from worker.registries.http.rate_limit import MAX_PAUSE, Limiter, LocalLimiter
from worker.registries.http.redis_limit import RedisLimiter


@pytest.fixture(params=["local", "redis"])
def twenty(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Limiter]:
    """A limiter of twenty requests a second, of either kind."""
    limiter = LocalLimiter(20.0) if request.param == "local" else RedisLimiter(redis.url, key(), 20.0)
    yield limiter
    limiter.close()


def test_requests_are_spaced(twenty: Limiter) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        waited = list(pool.map(lambda _: twenty.wait(), range(11)))
    assert 0.48 <= time.monotonic() - started < 1.5
    assert min(waited) < 0.04
    assert max(waited) > 0.25


def test_idle_time_allows_no_burst(twenty: Limiter) -> None:
    twenty.wait()
    idle_until = time.monotonic() + 0.3
    until(lambda: time.monotonic() > idle_until, what="an idle spell")
    started = time.monotonic()
    for _ in range(3):
        twenty.wait()
    assert time.monotonic() - started >= 0.09


def test_a_pause_also_delays_waiting_threads(twenty: Limiter) -> None:
    """Slots are assigned ahead of time: a thread that waits for its slot must respect a pause as well."""
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


def test_limits_a_pause(redis: RedisServer) -> None:
    shared = key()
    RedisLimiter(redis.url, shared, 100.0).pause(86_400.0)
    client = Redis.from_url(redis.url)
    (name,) = client.keys(f"registry-gc:limit:{{{shared}}}:pause")
    assert 0 < client.pttl(name) <= MAX_PAUSE * 1000


def test_every_attempt_takes_a_slot(simulator: Simulator, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(simulator.token)
    slow = settings_for(simulator, token, rate=Rate(requests_per_second=10.0, concurrency=16))
    simulator.fault("status", path="/container-registry", times=4, status=503)
    with open_registry(slow, retries=QUICK) as registry:
        registry.clock()
    asked = simulator.requests("GET")
    assert len(asked) == 5
    moments = [datetime.fromisoformat(request["at"]).timestamp() for request in asked]
    assert moments[-1] - moments[0] >= 0.38


def test_never_exceeds_the_rate_of_the_registry(simulator: Simulator, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(simulator.token)
    simulator.push("shop/api")
    simulator.switch(requests_per_second=40)
    fitting = settings_for(simulator, token, rate=Rate(requests_per_second=40.0, concurrency=16))
    with open_registry(fitting, retries=QUICK) as registry, ThreadPoolExecutor(16) as pool:
        assert all(pool.map(registry.images, ["shop/api"] * 80))
        assert registry.usage().requests == {("GET", "200"): 80}
