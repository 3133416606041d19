"""A chunk of images: its intents are durable before a deletion leaves, and what comes up meanwhile still stops it."""

import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from policies.holds import Hold
from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from worker.registries.errors import TooLateError
from worker.registries.http.client import Http
from worker.registries.http.messages import Answer, Request
from worker.registries.http.rate_limit import BoundedLimiter, LocalLimiter
from worker.runs import checkpoints, lifecycle
from worker.store import holds
from worker.store.tables import batch, item
from worker.sweep import batches
from worker.sweep.deletion import PERMISSION_IS_GOOD

DAY = timedelta(days=1)
Act = Callable[[Harness, str, str], None]


class Slow:
    """A limit whose turns take longer than a permission is good, once a chunk's intents are recorded."""

    def __init__(self, night: Harness, run_id: str, act: Callable[[], None]) -> None:
        self._night, self._run_id, self._act = night, run_id, act
        self._lock = threading.Lock()
        self.intended = 0  # intents that were recorded when the first deletion of the chunk waited for its turn

    def wait(self) -> float:
        if (intents := self._intents()) < 2:
            return 0.0
        with self._lock:
            if not self.intended:
                self.intended = intents
                self._act()
        time.sleep(1.2 * PERMISSION_IS_GOOD)
        return 1.2 * PERMISSION_IS_GOOD

    def _intents(self) -> int:
        with self._night.store.read() as connection:
            found = select(item.c.number).where(item.c.run_id == self._run_id, item.c.state == "intent")
            return len(connection.execute(found).all())

    def pause(self, seconds: float) -> None:
        raise AssertionError(f"nobody asked for a pause of {seconds} s")

    def close(self) -> None:
        pass


def nothing(_night: Harness, _run_id: str, _digest: str) -> None:
    """The turns are slow, and that is all."""


def abort(night: Harness, run_id: str, _digest: str) -> None:
    lifecycle.abort(night.store, run_id, datetime.now(UTC))


def pause(night: Harness, _run_id: str, _digest: str) -> None:
    with night.store.write() as connection:
        holds.pause_registry(connection, "production", "anna", "", datetime.now(UTC))


def hold(night: Harness, _run_id: str, digest: str) -> None:
    with night.store.write() as connection:
        held = Hold(kind="digest", repository="shop/api", value=digest, who="anna")
        holds.add(connection, "production", held, datetime.now(UTC))


def dry_run(night: Harness, _run_id: str, _digest: str) -> None:
    night.path.write_text(night.path.read_text().replace("mode: delete", "mode: dry-run"))


def bar(night: Harness, run_id: str, digest: str) -> None:
    """A recheck finds an image that needs this one."""
    with night.store.write() as connection:
        this = (item.c.run_id == run_id) & (item.c.digest == digest)
        connection.execute(update(item).where(this).values(barred="an index pushed since needs it"))


def take_over(night: Harness, run_id: str, _digest: str) -> None:
    """Another worker claims the batch, whose holder stood still for longer than its lease."""
    with night.store.write() as connection:
        connection.execute(update(batch).where(batch.c.run_id == run_id).values(fence=batch.c.fence + 1))


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
def test_what_comes_up_while_deletions_wait_for_their_turn(
    simulator: Simulator,
    night: MakeHarness,
    act: Act,
    held: tuple[str, str | None],
    others: tuple[str, str | None],
) -> None:
    images = [simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY) for number in range(4)]
    tonight = night(rate={"requests_per_second": 100, "concurrency": 4}, timing={"reconcile": "2s", "lease": "60s"})
    run_id, bells = tonight.plan()
    ((_, number),) = [bell.args for bell in tonight.ring(bells, until="gc.delete_batch")]
    with tonight.store.read() as connection:
        numbered = select(item.c.digest).where(item.c.run_id == run_id).order_by(item.c.number)
        first, *rest = connection.execute(numbered).scalars()
    limiter = Slow(tonight, run_id, lambda: act(tonight, run_id, rest[0]))

    batches.delete_batch(tonight.store, tonight.watch, run_id, int(number), limiter=limiter)

    assert limiter.intended == len(rest)  # the first of a repository went alone
    outcomes = tonight.outcomes(run_id)
    assert outcomes[first] == ("deleted", None)
    assert outcomes[rest[0]] == held
    assert {outcomes[digest] for digest in rest[1:]} == {others}
    gone = {digest for digest, outcome in outcomes.items() if outcome == ("deleted", None)}
    assert {image["id"] for image in images if image["digest"] in gone} == simulator.deleted_ids()


def test_a_store_that_is_slow_to_record_intents_makes_no_permission_longer(
    simulator: Simulator, tmp_path: Path
) -> None:
    for number in range(4):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    tonight = Harness(simulator, tmp_path)
    run_id, bells = tonight.plan()
    ((_, number),) = [bell.args for bell in tonight.ring(bells, until="gc.delete_batch")]
    other = sqlite3.connect(str(tonight.store.engine.url.database), isolation_level=None, check_same_thread=False)

    def write_and_switch_off() -> None:
        """Half a second after a chunk is read; by then the mode was asked, and the intents wait for the store."""
        dry_run(tonight, run_id, "")
        threading.Timer(1.2 * PERMISSION_IS_GOOD, other.execute, ["commit"]).start()

    def at(point: str) -> None:
        if point == "chunk_read_again" and len(simulator.deleted_ids()) == 1:
            other.execute("begin immediate")
            threading.Timer(PERMISSION_IS_GOOD / 2, write_and_switch_off).start()

    checkpoints.visitors.append(at)
    try:
        batches.delete_batch(tonight.store, tonight.watch, run_id, int(number))
    finally:
        checkpoints.visitors.remove(at)
    outcomes = sorted(tonight.outcomes(run_id).values(), key=str)
    tonight.store.dispose()
    other.close()
    assert outcomes == [("deleted", None), *[("skipped", "mode")] * 3]


def test_a_deletion_is_not_sent_without_a_permission_that_is_good(simulator: Simulator) -> None:
    limiter = BoundedLimiter(LocalLimiter(1000))
    http = Http("production", limiter, 1)
    url = f"{simulator.url}/container-registry/v1/images/x"
    later = time.monotonic() + 60
    deletion = Request(method="DELETE", url=url, about="x", repeatable=True, not_after=later)
    reading = Request(method="GET", url=url, about="x", repeatable=True)

    def status(answer: Answer) -> int:
        return answer.status

    limiter.deletions_until = time.monotonic()
    with pytest.raises(TooLateError):
        http.call(deletion, status)
    http.call(reading, status)  # only what may come too late is not sent
    limiter.deletions_until = later
    http.call(deletion, status)
    http.close()

    assert [one["method"] for one in simulator.requests()] == ["GET", "DELETE"]
