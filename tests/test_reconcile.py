"""Each minute: what nobody began, approved or ended is found in the store, and ended or enqueued again."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from worker import reconcile
from worker.runs.lifecycle import Bell
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
def test_a_pending_run_that_nobody_began_is_missed(simulator: Simulator, night: MakeHarness, found_by: str) -> None:
    push_old(simulator)
    tonight = night(plan_max_age="2h")
    run_id = tonight.open()
    assert tonight.reconcile(after=HOUR) == (Bell("gc.scan", (run_id,)),)

    if found_by == "reconcile":
        assert tonight.reconcile(after=3 * HOUR) == ()
    else:
        with tonight.store.write() as connection:
            run_rows.change(connection, run_id, ["pending"], opened_at=datetime.now(UTC) - 3 * HOUR)
        tonight.ring(tonight.do(Bell("gc.scan", (run_id,))))

    run = tonight.run(run_id)
    assert (run.state, run.outcome, run.plan_sha256) == ("finished", "missed", None)
    assert (run.message or "").startswith("no worker began it within plan_max_age (2 hours)")
    assert tonight.open() != run_id  # nobody waits for it any more


def test_a_blocked_plan_that_nobody_approves_expires(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 2}, plan_max_age="2h")
    run_id, _ = tonight.plan()

    assert tonight.reconcile(after=HOUR) == ()
    assert tonight.run(run_id).state == "blocked"
    tonight.reconcile(after=3 * HOUR)

    run = tonight.run(run_id)
    assert (run.state, run.outcome) == ("finished", "blocked")
    assert "expired" in (run.message or "")


def test_lost_bells_under_an_invalid_file_are_rung_again(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night()
    store, (run_id, _) = tonight.store, tonight.plan()
    tonight.path.write_text("nonsense: [")

    tonight.ring(reconcile.reconcile(store, None, datetime.now(UTC)))  # what was just rung is not rung again
    later = datetime.now(UTC) + HOUR
    with store.write() as connection:
        connection.execute(batch.update().values(rung_at=None))
    tonight.ring(reconcile.reconcile(store, None, later))

    run = tonight.run(run_id)
    assert (run.state, run.skipped, run.outcome) == ("finished", 3, "partial")
    assert set(tonight.outcomes(run_id).values()) == {("skipped", "mode")}


def test_a_plan_too_old_deletes_nothing_more(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night(plan_max_age="1h")
    run_id, bells = tonight.plan()
    tonight.reconcile(after=2 * HOUR)
    tonight.ring(bells)

    run = tonight.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "partial", 0)
    assert "plan_max_age" in (run.message or "")
    assert {one.state for one in tonight.items(run_id)} == {"planned"}


def test_the_deadline_counts_from_the_first_deletion(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night(deadline="1s")
    run_id, _ = tonight.plan()
    tonight.reconcile(after=timedelta(seconds=2))

    run = tonight.run(run_id)
    assert (run.state, run.outcome) == ("finished", "partial")
    assert "deadline" in (run.message or "")


def test_a_scan_that_dies_is_begun_three_times(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night(timing={"reconcile": "1s", "lease": "1s"})
    run_id = tonight.open()
    for _ in range(3):
        with tonight.store.write() as connection:
            past = datetime.now(UTC) - HOUR
            assert run_rows.claim_scan(connection, run_id, owner="x", now=datetime.now(UTC), until=past, most=3)

    assert tonight.reconcile() == ()

    run = tonight.run(run_id)
    assert (run.state, run.outcome) == ("finished", "failed")
    assert "begun 3 times" in (run.message or "")
