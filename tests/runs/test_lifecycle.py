"""The life of a run: due, missed, blocked, approved, superseded, aborted, expired, switched to dry-run."""

import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker import reconcile
from worker.runs import lifecycle
from worker.runs.lifecycle import AlreadyRunningError, NotBlockedError, TaskCall, UnknownRegistryError
from worker.runs.terms import changed_since_plan
from worker.store import Store
from worker.store import runs as run_rows
from worker.store.measures import measure


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Both, as the queries differ between them."""
    kind: str = request.param
    return kind


DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


REFUSE = {
    "sqlite": ["create trigger refuse before insert on run begin select raise(abort, 'another is active'); end"],
    "postgresql": [
        "create function refuse() returns trigger as 'begin raise unique_violation; end' language plpgsql",
        "create trigger refuse before insert on run for each row execute function refuse()",
    ],
}


def refuse_runs(store: Store) -> None:
    """Let the store answer as if a run were active that has ended when it is asked which."""
    with store.write() as connection:
        for statement in REFUSE[store.engine.dialect.name]:
            connection.execute(text(statement))


def push_old(simulator: Simulator, count: int = 3) -> None:
    for number in range(count):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)


def test_a_dry_run_ends_with_its_plan(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 1})

    run = harness.sweep(dry_run=True)

    assert (run.state, run.outcome, run.mode, run.registry_mode) == ("finished", "succeeded", "dry-run", "delete")
    assert (run.planned, run.deleted) == (3, 0)
    assert run.exceeded == ({"limit": "max_images", "value": 3, "allowed": 1},)
    assert simulator.requests(method="DELETE") == []


def test_a_run_over_its_limits_is_blocked_until_its_plan_is_approved(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 2})
    run_id, task_calls = harness.plan()
    blocked = harness.run(run_id)
    assert (blocked.state, blocked.outcome, task_calls) == ("blocked", None, [])
    assert "max_images is 3, allowed 2" in (blocked.message or "")
    later = simulator.push("shop/api", tags=["pr-later"], age=30 * DAY)

    harness.carry_out(lifecycle.approve(harness.store, harness.settings, run_id, datetime.now(UTC)))

    run = harness.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "succeeded", 3)
    assert run.plan_sha256 == blocked.plan_sha256
    assert [image["digest"] for image in simulator.images()] == [later["digest"]]
    with pytest.raises(NotBlockedError, match="waits for no approval"):
        lifecycle.approve(harness.store, harness.settings, run_id, datetime.now(UTC))


def test_a_newer_plan_supersedes_a_blocked_run(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 2})
    first, _ = harness.plan()
    second, _ = harness.plan()

    run = harness.run(first)
    assert (run.state, run.outcome, run.message) == ("finished", "blocked", f"superseded by the plan of run {second}")
    with pytest.raises(NotBlockedError):
        lifecycle.approve(harness.store, harness.settings, first, datetime.now(UTC))


def test_a_dry_run_does_not_supersede_a_blocked_run(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 2})
    blocked, _ = harness.plan()

    assert harness.sweep(dry_run=True).outcome == "succeeded"

    assert harness.run(blocked).state == "blocked"
    harness.carry_out(lifecycle.approve(harness.store, harness.settings, blocked, datetime.now(UTC)))
    assert harness.run(blocked).deleted == 3


def test_approval_warns_that_the_file_has_changed_since_the_plan(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 2})
    run_id, _ = harness.plan()
    blocked = harness.run(run_id)
    assert changed_since_plan(harness.settings, blocked) is None
    harness.rewrite(limits={"max_images": 1})
    assert "the configuration file has changed" in (changed_since_plan(harness.settings, blocked) or "")
    harness.rewrite(limits={"max_images": 2}, rules=[{"name": "releases", "keep": {"all": True}}])
    assert "the policy 'nightly' is another one" in (changed_since_plan(harness.settings, blocked) or "")


def test_approval_is_refused_while_another_run_is_active(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 2})
    blocked, _ = harness.plan()
    active = harness.open()

    with pytest.raises(AlreadyRunningError) as caught:
        lifecycle.approve(harness.store, harness.settings, blocked, datetime.now(UTC))

    assert caught.value.run_id == active


def test_a_registry_has_at_most_one_active_run(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness()
    first = harness.open()
    with pytest.raises(AlreadyRunningError) as caught:
        harness.open()
    assert caught.value.run_id == first
    with pytest.raises(UnknownRegistryError, match="known: production"):
        lifecycle.open_run(harness.store, harness.settings, "staging", trigger="task", now=datetime.now(UTC))


def test_a_run_that_has_just_ended_is_not_named(make_harness: MakeHarness) -> None:
    harness = make_harness()
    refuse_runs(harness.store)
    with pytest.raises(AlreadyRunningError, match="production: another run was active and has just ended") as caught:
        harness.open()
    assert caught.value.run_id is None


def test_a_task_delivered_twice_is_the_same_run(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness()
    assert harness.open(task_id="7f") == harness.open(task_id="7f")


@pytest.mark.parametrize("when", ["pending", "blocked", "deleting"])
def test_an_abort_stops_a_run_before_its_next_deletion(
    simulator: Simulator, make_harness: MakeHarness, when: str
) -> None:
    push_old(simulator)
    harness = make_harness(limits={"max_images": 1} if when == "blocked" else {"max_share": "100%"})
    if when == "pending":
        run_id, task_calls = harness.open(), []
    else:
        run_id, task_calls = harness.plan()
    assert harness.run(run_id).state == when

    lifecycle.abort(harness.store, run_id, datetime.now(UTC))
    harness.carry_out(task_calls)
    harness.carry_out(harness.do(TaskCall("gc.scan", (run_id,))))

    run = harness.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "aborted", 0)
    assert simulator.requests(method="DELETE") == []


def test_an_aborted_run_resolves_begun_deletions(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_old(simulator, 6)
    harness = make_harness(rate={"requests_per_second": 500, "concurrency": 1})
    run_id, task_calls = harness.plan_and_recheck()
    simulator.switch(operations="never_done")
    working = threading.Thread(target=harness.carry_out, args=(task_calls,))
    working.start()
    until(lambda: simulator.requests(method="DELETE"), what="the first DELETE")
    lifecycle.abort(harness.store, run_id, datetime.now(UTC))
    simulator.switch(operations="finish")
    working.join()
    harness.carry_out(harness.reconcile())

    run = harness.run(run_id)
    assert (run.state, run.outcome) == ("finished", "aborted")
    states = [item.state for item in harness.items(run_id)]
    assert states.count("deleted") + states.count("failed") == len(simulator.requests(method="DELETE"))
    assert states.count("planned") >= 4


@pytest.mark.parametrize("way", ["dry-run", "invalid", "registry gone"])
def test_the_files_mode_is_read_again_with_every_intent(
    simulator: Simulator, make_harness: MakeHarness, way: str
) -> None:
    push_old(simulator)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    match way:
        case "dry-run":
            harness.rewrite(mode="dry-run")
        case "invalid":
            harness.path.write_text("registries: {production: {mode: delet}}")
        case _:
            harness.path.write_text(harness.path.read_text().replace("production:", "staging:"))

    harness.carry_out(task_calls)

    assert set(harness.outcomes(run_id).values()) == {("skipped", "mode")}
    assert simulator.requests(method="DELETE") == []
    run = harness.run(run_id)
    assert (run.state, run.outcome) == ("finished", "partial")
    assert re.match(
        r"3 of 3 images skipped \(mode\), for example shop/api@sha256:\w{64}: the (config|registry)", run.message or ""
    )
    with harness.store.read() as connection:
        assert measure(connection).of("production").last_success is None


class TestSchedule:
    """03:00 in Moscow is midnight, UTC. The store has known the line since the day before."""

    NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
    DUE = datetime(2026, 11, 24, 0, 0, tzinfo=UTC)

    def harness(self, make_harness: MakeHarness) -> Harness:
        made = make_harness(schedule="0 3 * * *", timezone="Europe/Moscow", catch_up="6h")
        lifecycle.note_registries(made.store, made.settings, self.NOON)
        return made

    def test_a_due_time_opens_one_run(self, make_harness: MakeHarness) -> None:
        harness = self.harness(make_harness)
        before = self.DUE - timedelta(seconds=1)
        assert lifecycle.open_if_due(harness.store, harness.settings, "production", before) == ()

        task_calls = lifecycle.open_if_due(harness.store, harness.settings, "production", self.DUE)
        again = lifecycle.open_if_due(harness.store, harness.settings, "production", self.DUE + HOUR)

        assert ([task_call.task for task_call in task_calls], again) == (["gc.scan"], ())
        (run,) = self.all_runs(harness)
        assert (run.trigger, run.scheduled_for, run.state) == ("schedule", self.DUE, "pending")

    def test_a_missed_due_time_is_caught_up_within_catch_up(self, make_harness: MakeHarness) -> None:
        harness = self.harness(make_harness)
        assert reconcile.reconcile(harness.store, harness.settings, self.DUE + 5 * HOUR)
        assert self.all_runs(harness)[0].scheduled_for == self.DUE

    def test_a_due_time_is_recorded_as_missed_once_after_catch_up(self, make_harness: MakeHarness) -> None:
        harness = self.harness(make_harness)
        for hours in (7, 8, 9):
            assert reconcile.reconcile(harness.store, harness.settings, self.DUE + hours * HOUR) == ()
        (run,) = self.all_runs(harness)
        assert (run.state, run.outcome, run.scheduled_for) == ("finished", "missed", self.DUE)

    def test_a_due_run_waits_for_a_run_by_hand(self, make_harness: MakeHarness) -> None:
        harness = self.harness(make_harness)
        by_hand = harness.open()
        assert lifecycle.open_if_due(harness.store, harness.settings, "production", self.DUE) == ()
        lifecycle.abort(harness.store, by_hand, self.DUE)
        assert lifecycle.open_if_due(harness.store, harness.settings, "production", self.DUE + HOUR)

    def test_due_times_before_a_schedule_was_known_do_not_count(self, make_harness: MakeHarness) -> None:
        harness = self.harness(make_harness)
        harness.rewrite(schedule="30 11 * * *", timezone="UTC")
        lifecycle.note_registries(harness.store, harness.settings, self.NOON + timedelta(minutes=1))
        assert reconcile.reconcile(harness.store, harness.settings, self.NOON + timedelta(minutes=2)) == ()
        assert self.all_runs(harness) == []

    @staticmethod
    def all_runs(harness: Harness) -> list[run_rows.Run]:
        with harness.store.read() as connection:
            return run_rows.newest(connection)


def test_an_abort_while_the_plan_is_stored_is_not_lost(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness()
    run_id = harness.open()
    with harness.store.write() as connection:
        now = harness.store.now(connection)
        run_rows.claim_scan(connection, run_id, owner="x", now=now, until=now + HOUR, most=3)
    aborting = threading.Thread(target=lifecycle.abort, args=(harness.store, run_id, datetime.now(UTC)))
    with harness.store.write() as connection:
        run_rows.change(connection, run_id, ["planning"], state="planned")
        aborting.start()
        aborting.join(0.3)  # it waits for this transaction
        assert aborting.is_alive()
    aborting.join()
    lifecycle.advance(harness.store, run_id, datetime.now(UTC))

    finished = harness.run(run_id)
    assert (finished.state, finished.outcome) == ("finished", "aborted")
    with pytest.raises(lifecycle.NothingToStopError, match="aborted already: nothing was stopped"):
        lifecycle.abort(harness.store, run_id, datetime.now(UTC))
