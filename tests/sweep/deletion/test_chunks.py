"""A chunk of images: its intents are durable before a deletion is sent, and a later objection still stops it."""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from policies.holds import Hold
from tests.support.harness import Harness, MakeHarness
from tests.support.oci.fake import FakeRegistry
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.registries.errors import LimiterUnavailableError, TooLateError
from worker.registries.http.client import Http
from worker.registries.http.messages import Request, Response
from worker.registries.http.rate_limit import BoundedLimiter, LocalLimiter
from worker.runs import checkpoints, lifecycle
from worker.store import holds
from worker.store.tables import batch, item
from worker.sweep import batches
from worker.sweep.deletion import PERMISSION_VALID_FOR

DAY = timedelta(days=1)
Act = Callable[[Harness, str, str], None]


def intended(harness: Harness, run_id: str) -> int:
    """How many intents the store has."""
    return sum(state == "intent" for state, _ in harness.outcomes(run_id).values())


class Slow:
    """A rate limit that waits longer than a permission is valid, once a chunk's intents are recorded."""

    def __init__(self, harness: Harness, run_id: str, act: Callable[[], None]) -> None:
        self._harness, self._run_id, self._act = harness, run_id, act
        self._lock = threading.Lock()
        self.intended = 0  # intents that were recorded when the first deletion of the chunk waited for its turn

    def wait(self) -> float:
        if (intents := intended(self._harness, self._run_id)) < 2:
            return 0.0
        with self._lock:
            if not self.intended:
                self.intended = intents
                self._act()
        time.sleep(1.2 * PERMISSION_VALID_FOR)
        return 1.2 * PERMISSION_VALID_FOR

    def pause(self, seconds: float) -> None:
        raise AssertionError(f"nobody asked for a pause of {seconds} s")

    def close(self) -> None:
        pass


class SomeAhead(Slow):
    """A rate limit that lets some images of a chunk pass at once, the others after the run was stopped."""

    def __init__(self, harness: Harness, run_id: str, ahead: int, chunk: int) -> None:
        super().__init__(harness, run_id, lambda: None)
        self._ahead, self._together = ahead, threading.Barrier(chunk, timeout=30)
        self._places: dict[int, int] = {}  # by thread

    def wait(self) -> float:
        if not threading.current_thread().name.startswith("delete") or intended(self._harness, self._run_id) < 2:
            return 0.0
        me = threading.get_ident()
        if me not in self._places:
            with self._lock:
                self._places[me] = len(self._places)
            self._together.wait()  # so that each thread has one image
        if self._places[me] >= self._ahead:
            until(lambda: self._harness.run(self._run_id).stop, what="the run to be stopped")
            time.sleep(0.05 * PERMISSION_VALID_FOR)  # too soon for anybody to have read that in the store
        return 0.0


class WithoutRedis(Slow):
    """A rate limit that cannot be reached once a chunk's intents are recorded."""

    def wait(self) -> float:
        self.intended = self.intended or intended(self._harness, self._run_id) // 2
        if self.intended:
            raise LimiterUnavailableError("Redis does not answer")
        return 0.0


def nothing(_harness: Harness, _run_id: str, _digest: str) -> None:
    """The rate limit is slow, and nothing else happens."""


def abort(harness: Harness, run_id: str, _digest: str) -> None:
    lifecycle.abort(harness.store, run_id, datetime.now(UTC))


def pause(harness: Harness, _run_id: str, _digest: str) -> None:
    with harness.store.write() as connection:
        holds.pause_registry(connection, "production", "anna", "", datetime.now(UTC))


def hold(harness: Harness, _run_id: str, digest: str) -> None:
    with harness.store.write() as connection:
        held = Hold(kind="digest", repository="shop/api", value=digest, who="anna")
        holds.add(connection, "production", held, datetime.now(UTC))


def dry_run(harness: Harness, _run_id: str, _digest: str) -> None:
    harness.path.write_text(harness.path.read_text().replace("mode: delete", "mode: dry-run"))


def bar(harness: Harness, run_id: str, digest: str) -> None:
    """A recheck finds an image that needs this one."""
    with harness.store.write() as connection:
        this = (item.c.run_id == run_id) & (item.c.digest == digest)
        connection.execute(update(item).where(this).values(stop_reason="an index pushed since needs it"))


def take_over(harness: Harness, run_id: str, _digest: str) -> None:
    """Another worker claims the batch, whose holder paused for longer than its lease."""
    with harness.store.write() as connection:
        connection.execute(update(batch).where(batch.c.run_id == run_id).values(fence=batch.c.fence + 1))


def ready(make_harness: MakeHarness, concurrency: int) -> tuple[Harness, str, int]:
    """A run before its only batch, and the batch's number."""
    rate = {"requests_per_second": 100, "concurrency": concurrency}
    harness = make_harness(rate=rate, timing={"reconcile": "2s", "lease": "60s"})
    run_id, task_calls = harness.plan()
    ((_, number),) = [task_call.args for task_call in harness.carry_out(task_calls, until="gc.delete_batch")]
    return harness, run_id, int(number)


def in_order(harness: Harness, run_id: str) -> list[str]:
    """The digests of a run's items."""
    with harness.store.read() as connection:
        numbered = select(item.c.digest).where(item.c.run_id == run_id).order_by(item.c.number)
        return list(connection.execute(numbered).scalars())


@pytest.mark.parametrize(
    ("act", "held", "others"),
    [
        pytest.param(nothing, ("deleted", None), ("deleted", None), id="nothing"),
        pytest.param(abort, ("planned", None), ("planned", None), id="an abort"),
        pytest.param(pause, ("skipped", "paused"), ("skipped", "paused"), id="a pause"),
        pytest.param(hold, ("skipped", "held"), ("deleted", None), id="a hold on one image"),
        pytest.param(dry_run, ("skipped", "mode"), ("skipped", "mode"), id="a change of mode"),
        pytest.param(bar, ("skipped", "still_needed"), ("deleted", None), id="a recheck that finds an owner of one"),
        pytest.param(take_over, ("intent", None), ("intent", None), id="another holder of the lease"),
    ],
)
def test_an_objection_stops_deletions_that_wait_for_the_rate_limit(
    simulator: Simulator,
    make_harness: MakeHarness,
    act: Act,
    held: tuple[str, str | None],
    others: tuple[str, str | None],
) -> None:
    images = [simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY) for number in range(4)]
    harness, run_id, number = ready(make_harness, concurrency=4)
    first, *rest = in_order(harness, run_id)
    limiter = Slow(harness, run_id, lambda: act(harness, run_id, rest[0]))

    batches.delete_batch(harness.store, harness.watch, run_id, number, limiter=limiter)

    assert limiter.intended == len(rest)  # the first deletion of a repository is sent alone
    outcomes = harness.outcomes(run_id)
    assert outcomes[first] == ("deleted", None)
    assert outcomes[rest[0]] == held
    assert {outcomes[digest] for digest in rest[1:]} == {others}
    gone = {digest for digest, outcome in outcomes.items() if outcome == ("deleted", None)}
    assert {image["id"] for image in images if image["digest"] in gone} == simulator.deleted_ids()


def test_nothing_is_sent_after_the_tenth_failure_in_a_row(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(16):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness, run_id, number = ready(make_harness, concurrency=16)
    simulator.fault("error", method="DELETE", after=1, code=9, message="the registry is read-only")

    batches.delete_batch(
        harness.store, harness.watch, run_id, number, limiter=SomeAhead(harness, run_id, ahead=10, chunk=15)
    )

    assert len(simulator.requests(method="DELETE")) == 11
    outcomes = Counter(harness.outcomes(run_id).values())
    assert outcomes == {("deleted", None): 1, ("failed", "read_only"): 10, ("planned", None): 5}


def test_nothing_is_sent_after_a_deletion_with_a_collateral_tag(
    fake: FakeRegistry, on_fake: Callable[..., Harness]
) -> None:
    for number in range(5):
        fake.push("shop/api", f"old-{number}", layers=[number])
    kept = fake.push("shop/api", "prod", layers=[9])
    rules = [{"name": "old", "delete": {"tags": ["old-*"]}}]
    harness, run_id, number = ready(lambda **_: on_fake(rules=rules, concurrency=5), concurrency=5)
    for digest in in_order(harness, run_id)[1:]:
        fake.before("DELETE", digest, partial(fake.move_tag, "shop/api", "prod", digest))
    batches.delete_batch(
        harness.store, harness.watch, run_id, number, limiter=SomeAhead(harness, run_id, ahead=1, chunk=4)
    )

    assert "prod" in str(harness.run(run_id).message)
    assert len(fake.lines("DELETE")) == 2
    assert kept.digest in fake.state()["shop/api"]
    assert Counter(harness.outcomes(run_id).values()) == {("deleted", None): 2, ("planned", None): 3}


def test_deletions_not_sent_because_redis_is_away_are_planned_again(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    for number in range(4):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness, run_id, number = ready(make_harness, concurrency=4)

    limiter = WithoutRedis(harness, run_id, lambda: None)
    batches.delete_batch(harness.store, harness.watch, run_id, number, limiter=limiter)

    assert len(simulator.requests(method="DELETE")) == 1
    assert Counter(harness.outcomes(run_id).values()) == {("deleted", None): 1, ("planned", None): 3}


def test_a_task_stopped_while_sending_settles_the_sent_deletions(
    simulator: Simulator, make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six, one is deleted alone; two are sent, one waits for the rate limit, and two have no thread yet."""
    for number in range(6):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness, run_id, number = ready(make_harness, concurrency=6)
    simulator.switch(operation_seconds_to=0.0)
    simulator.fault("latency", method="DELETE", after=1, seconds=0.5)
    submit, handed_out, ended = ThreadPoolExecutor.submit, 0, threading.Event()

    class TwoTurns(Slow):
        def __init__(self) -> None:
            super().__init__(harness, run_id, lambda: None)
            self._turns = threading.Semaphore(2)

        def wait(self) -> float:
            if intended(harness, run_id) >= 2 and not self._turns.acquire(blocking=False):
                assert ended.wait(30)
                time.sleep(0.3 * PERMISSION_VALID_FOR)  # its turn follows soon
            return 0.0

    def interrupted(pool: ThreadPoolExecutor, step: Callable[..., Any], *works: Any) -> Future[Any]:
        nonlocal handed_out
        if intended(harness, run_id) >= 2:
            if handed_out == 3:
                until(lambda: len(simulator.requests(method="DELETE")) == 3, what="two to be sent")
                ended.set()
                raise SystemExit  # the worker gets a signal to stop, or the task's time is over
            handed_out += 1
        return submit(pool, step, *works)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(SystemExit):
        batches.delete_batch(harness.store, harness.watch, run_id, number, limiter=TwoTurns())

    assert len(simulator.deleted_ids()) == len(simulator.requests(method="DELETE")) == 3
    assert Counter(harness.outcomes(run_id).values()) == {("deleted", None): 3, ("planned", None): 3}


def test_a_slow_store_does_not_prolong_a_permission(simulator: Simulator, tmp_path: Path) -> None:
    for number in range(4):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness = Harness(simulator, tmp_path)
    run_id, task_calls = harness.plan()
    ((_, number),) = [task_call.args for task_call in harness.carry_out(task_calls, until="gc.delete_batch")]
    other = sqlite3.connect(str(harness.store.engine.url.database), isolation_level=None, check_same_thread=False)

    def write_and_switch_off() -> None:
        """Half a second after a chunk is read; by then the mode was asked, and the intents wait for the store."""
        dry_run(harness, run_id, "")
        threading.Timer(1.2 * PERMISSION_VALID_FOR, other.execute, ["commit"]).start()

    def at(point: str) -> None:
        if point == "chunk_read_again" and len(simulator.deleted_ids()) == 1:
            other.execute("begin immediate")
            threading.Timer(PERMISSION_VALID_FOR / 2, write_and_switch_off).start()

    checkpoints.observers.append(at)
    try:
        batches.delete_batch(harness.store, harness.watch, run_id, int(number))
    finally:
        checkpoints.observers.remove(at)
    outcomes = sorted(harness.outcomes(run_id).values(), key=str)
    harness.store.dispose()
    other.close()
    assert outcomes == [("deleted", None), *[("skipped", "mode")] * 3]


def test_sends_no_deletion_without_a_valid_permission(simulator: Simulator) -> None:
    limiter = BoundedLimiter(LocalLimiter(1000))
    http = Http("production", limiter, 1)
    url = f"{simulator.url}/container-registry/v1/images/x"
    later = time.monotonic() + 60
    deletion = Request(method="DELETE", url=url, about="x", repeatable=True, not_after=later)
    reading = Request(method="GET", url=url, about="x", repeatable=True)

    def status(response: Response) -> int:
        return response.status

    limiter.deletions_until = time.monotonic()
    with pytest.raises(TooLateError):
        http.call(deletion, status)
    http.call(reading, status)  # only deletions that may be too late are not sent
    limiter.deletions_until = later
    http.call(deletion, status)
    http.close()

    assert [request["method"] for request in simulator.requests()] == ["GET", "DELETE"]
