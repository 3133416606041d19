"""Each minute: runs that were not begun, approved or finished are ended, or their task calls published again."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from worker import reconcile
from worker.runs.lifecycle import TaskCall
from worker.store import runs as run_rows
from worker.store.tables import batch


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Both, as the queries differ between them."""
    kind: str = request.param
    return kind


DAY = timedelta(days=1)


HOUR = timedelta(hours=1)


def push_old(simulator: Simulator, count: int = 3) -> None:
    for number in range(count):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)


@pytest.mark.parametrize("found_by", ["reconcile", "a worker"])
def test_a_pending_run_that_nobody_began_is_missed(
    simulator: Simulator, make_harness: MakeHarness, found_by: str
) -> None:
    push_old(simulator)
    harness = make_harness(plan_max_age="2h")
    run_id = harness.open()
    assert harness.reconcile(after=HOUR) == (TaskCall("gc.scan", (run_id,)),)

    if found_by == "reconcile":
        assert harness.reconcile(after=3 * HOUR) == ()
    else:
        with harness.store.write() as connection:
            run_rows.change(connection, run_id, ["pending"], opened_at=datetime.now(UTC) - 3 * HOUR)
        harness.carry_out(harness.do(TaskCall("gc.scan", (run_id,))))

    run = harness.run(run_id)
    assert (run.state, run.outcome, run.plan_sha256) == ("finished", "missed", None)
    assert (run.message or "").startswith("no worker began it within plan_max_age (2 hours)")
    assert harness.open() != run_id  # no caller waits for it any more


def test_a_blocked_plan_that_nobody_approves_expires(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 2}, plan_max_age="2h")
    run_id, _ = harness.plan()

    assert harness.reconcile(after=HOUR) == ()
    assert harness.run(run_id).state == "blocked"
    harness.reconcile(after=3 * HOUR)

    run = harness.run(run_id)
    assert (run.state, run.outcome) == ("finished", "blocked")
    assert "expired" in (run.message or "")


def test_lost_task_calls_are_published_again_with_an_invalid_file(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    push_old(simulator)
    harness = make_harness()
    store, (run_id, _) = harness.store, harness.plan()
    harness.path.write_text("nonsense: [")

    harness.carry_out(
        reconcile.reconcile(store, None, datetime.now(UTC))
    )  # a task call just published is not published again
    later = datetime.now(UTC) + HOUR
    with store.write() as connection:
        connection.execute(batch.update().values(published_at=None))
    harness.carry_out(reconcile.reconcile(store, None, later))

    run = harness.run(run_id)
    assert (run.state, run.skipped, run.outcome) == ("finished", 3, "partial")
    assert set(harness.outcomes(run_id).values()) == {("skipped", "mode")}


def test_a_plan_too_old_deletes_nothing_more(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator)
    harness = make_harness(plan_max_age="1h")
    run_id, task_calls = harness.plan()
    harness.reconcile(after=2 * HOUR)
    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "partial", 0)
    assert "plan_max_age" in (run.message or "")
    assert {item.state for item in harness.items(run_id)} == {"planned"}


def test_the_deadline_counts_from_the_first_deletion(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator)
    harness = make_harness(deadline="1s")
    run_id, _ = harness.plan()
    harness.reconcile(after=timedelta(seconds=2))

    run = harness.run(run_id)
    assert (run.state, run.outcome) == ("finished", "partial")
    assert "deadline" in (run.message or "")


def test_a_scan_that_dies_is_started_three_times(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness(timing={"reconcile": "1s", "lease": "1s"})
    run_id = harness.open()
    for _ in range(3):
        with harness.store.write() as connection:
            past = datetime.now(UTC) - HOUR
            assert run_rows.claim_scan(connection, run_id, owner="x", now=datetime.now(UTC), until=past, most=3)

    assert harness.reconcile() == ()

    run = harness.run(run_id)
    assert (run.state, run.outcome) == ("finished", "failed")
    assert "begun 3 times" in (run.message or "")
