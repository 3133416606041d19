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
from worker.runs.lifecycle import AlreadyRunningError, Bell, NotBlockedError, UnknownRegistryError
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


def test_a_dry_run_ends_with_its_plan(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 1})

    run = tonight.sweep(dry_run=True)

    assert (run.state, run.outcome, run.mode, run.registry_mode) == ("finished", "succeeded", "dry-run", "delete")
    assert (run.planned, run.deleted) == (3, 0)
    assert run.exceeded == ({"limit": "max_images", "value": 3, "allowed": 1},)
    assert simulator.requests(method="DELETE") == []


def test_over_its_limits_a_run_is_blocked_until_exactly_its_plan_is_approved(
    simulator: Simulator, night: MakeHarness
) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 2})
    run_id, bells = tonight.plan()
    blocked = tonight.run(run_id)
    assert (blocked.state, blocked.outcome, bells) == ("blocked", None, [])
    assert "max_images is 3, allowed 2" in (blocked.message or "")
    later = simulator.push("shop/api", tags=["pr-later"], age=30 * DAY)

    tonight.ring(lifecycle.approve(tonight.store, tonight.settings, run_id, datetime.now(UTC)))

    run = tonight.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "succeeded", 3)
    assert run.plan_sha256 == blocked.plan_sha256
    assert [image["digest"] for image in simulator.images()] == [later["digest"]]
    with pytest.raises(NotBlockedError, match="waits for no approval"):
        lifecycle.approve(tonight.store, tonight.settings, run_id, datetime.now(UTC))


def test_a_newer_plan_supersedes_a_blocked_one(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 2})
    first, _ = tonight.plan()
    second, _ = tonight.plan()

    run = tonight.run(first)
    assert (run.state, run.outcome, run.message) == ("finished", "blocked", f"superseded by the plan of run {second}")
    with pytest.raises(NotBlockedError):
        lifecycle.approve(tonight.store, tonight.settings, first, datetime.now(UTC))


def test_a_dry_run_supersedes_no_plan_that_waits_for_its_approval(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 2})
    blocked, _ = tonight.plan()

    assert tonight.sweep(dry_run=True).outcome == "succeeded"

    assert tonight.run(blocked).state == "blocked"
    tonight.ring(lifecycle.approve(tonight.store, tonight.settings, blocked, datetime.now(UTC)))
    assert tonight.run(blocked).deleted == 3


def test_who_approves_is_told_that_the_file_has_changed_since_the_plan(
    simulator: Simulator, night: MakeHarness
) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 2})
    run_id, _ = tonight.plan()
    blocked = tonight.run(run_id)
    assert changed_since_plan(tonight.settings, blocked) is None
    tonight.rewrite(limits={"max_images": 1})
    assert "the configuration file has changed" in (changed_since_plan(tonight.settings, blocked) or "")
    tonight.rewrite(limits={"max_images": 2}, rules=[{"name": "releases", "keep": {"all": True}}])
    assert "the policy 'nightly' is another one" in (changed_since_plan(tonight.settings, blocked) or "")


def test_approving_while_another_run_is_active(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 2})
    blocked, _ = tonight.plan()
    active = tonight.open()

    with pytest.raises(AlreadyRunningError) as caught:
        lifecycle.approve(tonight.store, tonight.settings, blocked, datetime.now(UTC))

    assert caught.value.run_id == active


def test_one_active_run_a_registry(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night()
    first = tonight.open()
    with pytest.raises(AlreadyRunningError) as caught:
        tonight.open()
    assert caught.value.run_id == first
    with pytest.raises(UnknownRegistryError, match="known: production"):
        lifecycle.open_run(tonight.store, tonight.settings, "staging", trigger="task", now=datetime.now(UTC))


def test_a_run_that_has_just_ended_is_not_named(night: MakeHarness) -> None:
    tonight = night()
    refuse_runs(tonight.store)
    with pytest.raises(AlreadyRunningError, match="production: another run was active and has just ended") as caught:
        tonight.open()
    assert caught.value.run_id is None


def test_a_task_that_comes_twice_is_the_same_run(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night()
    assert tonight.open(task_id="7f") == tonight.open(task_id="7f")


@pytest.mark.parametrize("when", ["pending", "blocked", "deleting"])
def test_aborted_before_its_next_deletion(simulator: Simulator, night: MakeHarness, when: str) -> None:
    push_old(simulator)
    tonight = night(limits={"max_images": 1} if when == "blocked" else {"max_share": "100%"})
    if when == "pending":
        run_id, bells = tonight.open(), []
    else:
        run_id, bells = tonight.plan()
    assert tonight.run(run_id).state == when

    lifecycle.abort(tonight.store, run_id, datetime.now(UTC))
    tonight.ring(bells)
    tonight.ring(tonight.do(Bell("gc.scan", (run_id,))))

    run = tonight.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "aborted", 0)
    assert simulator.requests(method="DELETE") == []


def test_aborted_in_the_middle_resolves_what_is_under_way(simulator: Simulator, night: MakeHarness) -> None:
    push_old(simulator, 6)
    tonight = night(rate={"requests_per_second": 500, "concurrency": 1})
    run_id, bells = tonight.plan()
    bells = tonight.ring(bells, until="gc.delete_batch")
    simulator.switch(operations="never_done")
    working = threading.Thread(target=tonight.ring, args=(bells,))
    working.start()
    until(lambda: simulator.requests(method="DELETE"), what="the first DELETE")
    lifecycle.abort(tonight.store, run_id, datetime.now(UTC))
    simulator.switch(operations="finish")
    working.join()
    tonight.ring(tonight.reconcile())

    run = tonight.run(run_id)
    assert (run.state, run.outcome) == ("finished", "aborted")
    states = [one.state for one in tonight.items(run_id)]
    assert states.count("deleted") + states.count("failed") == len(simulator.requests(method="DELETE"))
    assert states.count("planned") >= 4


@pytest.mark.parametrize("way", ["dry-run", "invalid", "registry gone"])
def test_the_files_mode_is_read_again_with_every_intent(simulator: Simulator, night: MakeHarness, way: str) -> None:
    push_old(simulator)
    tonight = night()
    run_id, bells = tonight.plan()
    bells = tonight.ring(bells, until="gc.delete_batch")
    match way:
        case "dry-run":
            tonight.rewrite(mode="dry-run")
        case "invalid":
            tonight.path.write_text("registries: {production: {mode: delet}}")
        case _:
            tonight.path.write_text(tonight.path.read_text().replace("production:", "staging:"))

    tonight.ring(bells)

    assert set(tonight.outcomes(run_id).values()) == {("skipped", "mode")}
    assert simulator.requests(method="DELETE") == []
    run = tonight.run(run_id)
    assert (run.state, run.outcome) == ("finished", "partial")
    assert re.match(
        r"3 of 3 images skipped \(mode\), for example shop/api@sha256:\w{64}: the (config|registry)", run.message or ""
    )
    with tonight.store.read() as connection:
        assert measure(connection).of("production").last_success is None


class TestSchedule:
    """03:00 in Moscow is midnight, UTC. The store has known the line since the day before."""

    NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
    DUE = datetime(2026, 11, 24, 0, 0, tzinfo=UTC)

    def tonight(self, night: MakeHarness) -> Harness:
        made = night(schedule="0 3 * * *", timezone="Europe/Moscow", catch_up="6h")
        lifecycle.note_registries(made.store, made.settings, self.NOON)
        return made

    def test_is_due_once(self, night: MakeHarness) -> None:
        tonight = self.tonight(night)
        before = self.DUE - timedelta(seconds=1)
        assert lifecycle.open_if_due(tonight.store, tonight.settings, "production", before) == ()

        bells = lifecycle.open_if_due(tonight.store, tonight.settings, "production", self.DUE)
        again = lifecycle.open_if_due(tonight.store, tonight.settings, "production", self.DUE + HOUR)

        assert ([bell.task for bell in bells], again) == (["gc.scan"], ())
        (run,) = self.all_runs(tonight)
        assert (run.trigger, run.scheduled_for, run.state) == ("schedule", self.DUE, "pending")

    def test_is_caught_up_within_its_time(self, night: MakeHarness) -> None:
        tonight = self.tonight(night)
        assert reconcile.reconcile(tonight.store, tonight.settings, self.DUE + 5 * HOUR)
        assert self.all_runs(tonight)[0].scheduled_for == self.DUE

    def test_is_missed_once_after_it(self, night: MakeHarness) -> None:
        tonight = self.tonight(night)
        for hours in (7, 8, 9):
            assert reconcile.reconcile(tonight.store, tonight.settings, self.DUE + hours * HOUR) == ()
        (run,) = self.all_runs(tonight)
        assert (run.state, run.outcome, run.scheduled_for) == ("finished", "missed", self.DUE)

    def test_waits_for_a_run_by_hand(self, night: MakeHarness) -> None:
        tonight = self.tonight(night)
        by_hand = tonight.open()
        assert lifecycle.open_if_due(tonight.store, tonight.settings, "production", self.DUE) == ()
        lifecycle.abort(tonight.store, by_hand, self.DUE)
        assert lifecycle.open_if_due(tonight.store, tonight.settings, "production", self.DUE + HOUR)

    def test_nothing_before_a_line_was_known_is_due(self, night: MakeHarness) -> None:
        tonight = self.tonight(night)
        tonight.rewrite(schedule="30 11 * * *", timezone="UTC")
        lifecycle.note_registries(tonight.store, tonight.settings, self.NOON + timedelta(minutes=1))
        assert reconcile.reconcile(tonight.store, tonight.settings, self.NOON + timedelta(minutes=2)) == ()
        assert self.all_runs(tonight) == []

    @staticmethod
    def all_runs(tonight: Harness) -> list[run_rows.Run]:
        with tonight.store.read() as connection:
            return run_rows.newest(connection)


def test_an_abort_while_the_plan_becomes_one_is_not_lost(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night()
    run_id = tonight.open()
    with tonight.store.write() as connection:
        now = tonight.store.now(connection)
        run_rows.claim_scan(connection, run_id, owner="x", now=now, until=now + HOUR, most=3)
    aborting = threading.Thread(target=lifecycle.abort, args=(tonight.store, run_id, datetime.now(UTC)))
    with tonight.store.write() as connection:
        run_rows.change(connection, run_id, ["planning"], state="planned")
        aborting.start()
        aborting.join(0.3)  # it waits for this transaction
        assert aborting.is_alive()
    aborting.join()
    lifecycle.advance(tonight.store, run_id, datetime.now(UTC))

    finished = tonight.run(run_id)
    assert (finished.state, finished.outcome) == ("finished", "aborted")
    with pytest.raises(lifecycle.NothingToStopError, match="aborted already: nothing was stopped"):
        lifecycle.abort(tonight.store, run_id, datetime.now(UTC))
