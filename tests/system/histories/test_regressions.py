"""Failures that histories found, each as a test of its own."""

from datetime import timedelta

import pytest

from tests.support.memory_faults import Fate, Fault
from tests.system.histories.contents import attached, index, plain
from tests.system.histories.history import History, PlannedAction
from worker.runs.lifecycle import TaskCall

OLD = timedelta(days=40)


def outcomes(history: History) -> dict[str, tuple[str, str | None]]:
    """By digest: state and cause, in the newest run."""
    rows = history.invariants.rows(
        "select digest, state, outcome_cause from item where run_id = (select max(id) from run) order by number"
    )
    return {row["digest"]: (row["state"], row["outcome_cause"]) for row in rows}


def planned(history: History) -> None:
    """Open a run and plan it; its task calls wait."""
    history.open_run()
    history.carry_out(history.task_calls.pop(0))


def test_keeps_an_orphaned_referrer_whose_subject_is_pushed_before_the_recheck(history: History) -> None:
    subject = plain(1)
    signature = attached(subject.digest)
    history.registry.push("shop/api", signature, (), OLD)
    planned(history)
    history.registry.push("shop/api", subject, ("v1",), timedelta())

    history.drain()

    assert outcomes(history) == {signature.digest: ("skipped", "still_needed")}
    assert history.registry.repositories["shop/api"].keys() == {subject.digest, signature.digest}


def test_a_deletion_carried_out_after_the_next_scan_is_not_a_foreign_deletion(history: History) -> None:
    history.registry.push("shop/api", plain(1), (), OLD)
    for kept in range(2, 9):
        history.registry.push("shop/api", plain(kept), (f"v{kept}",), OLD)
    history.registry.faults.append(Fault("delete", "unavailable", lost="lost and done"))
    history.registry.fates.append(Fate("by_clock", after=60))
    planned(history)
    history.drain()  # the deletion is unconfirmed
    history.mode = "dry-run"
    history.settle()
    assert outcomes(history) == {plain(1).digest: ("failed", "unconfirmed")}

    history.open_run()
    history.drain()  # the image is still there
    history.pass_time(timedelta(hours=1))
    history.open_run()
    history.drain()

    assert not any(instance.digest == plain(1).digest for _, instance in history.registry.instances())
    assert [row["foreign_deletions"] for row in history.invariants.rows("select * from run order by id")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        pytest.param(Fate("late", after=0), ("deleted", None), id="acceptance recorded"),
        # The recheck finds the index, and no record says that our deletion came before the push.
        pytest.param(Fate("at_once"), ("failed", "unconfirmed"), id="nothing recorded"),
    ],
)
def test_keeps_the_child_of_an_index_that_is_pushed_again_before_its_deletion_is_recorded(
    history: History, fate: Fate, outcome: tuple[str, str | None]
) -> None:
    child = plain(1)
    parent = index((child.digest,))
    history.registry.push("shop/api", child, (), OLD)
    history.registry.push("shop/api", parent, ("pr-1",), OLD)
    planned(history)
    run_id = history.invariants.rows("select id from run")[0]["id"]

    def push_index_again() -> None:
        history.registry.push("shop/api", parent, ("v1",), timedelta())
        history.pass_time(timedelta(minutes=10))
        history.carry_out(TaskCall("gc.recheck", (run_id, "shop/api")))

    history.registry.fates.append(fate)
    history.planned_actions.append(PlannedAction("checkpoint operation_done", 0, push_index_again, is_task=True))

    history.drain()
    history.settle()

    assert outcomes(history) == {parent.digest: outcome, child.digest: ("skipped", "still_needed")}
    assert history.registry.repositories["shop/api"].keys() == {parent.digest, child.digest}


def test_a_deletion_while_our_clock_is_set_back_is_not_a_foreign_deletion(history: History) -> None:
    for kept in range(2, 9):
        history.registry.push("shop/api", plain(kept), (f"v{kept}",), OLD)
    history.registry.push("shop/api", plain(1), (), OLD)
    planned(history)
    history.step_clock(timedelta(seconds=-2))
    history.drain()
    assert outcomes(history) == {plain(1).digest: ("deleted", None)}

    history.step_clock(timedelta(seconds=2))
    history.open_run()
    history.drain()

    assert [row["foreign_deletions"] for row in history.invariants.rows("select * from run")] == [0, 0]


def test_does_not_repeat_an_unconfirmed_deletion_while_the_repository_cannot_be_listed(history: History) -> None:
    history.registry.push("shop/api", plain(1), (), OLD)
    history.registry.faults.append(Fault("delete", "unavailable", lost="lost"))
    planned(history)
    history.drain()  # the deletion is unconfirmed
    history.registry.faults.append(Fault("images", "not_found"))
    history.pass_time(timedelta(minutes=10))

    for _ in range(3):
        history.pass_time(timedelta(seconds=121))
        history.reconcile()
        history.drain()

    assert outcomes(history) == {plain(1).digest: ("failed", "unconfirmed")}
    assert history.registry.is_there("crp0001")
