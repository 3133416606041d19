"""What histories have found, each as a plain story."""

from datetime import timedelta

import pytest

from tests.support.memory_faults import Fate, Fault
from tests.system.histories.contents import attached, index, plain
from tests.system.histories.world import Later, World
from worker.runs.lifecycle import TaskCall

OLD = timedelta(days=40)


def outcomes(world: World) -> dict[str, tuple[str, str | None]]:
    """By digest: state and cause, in the newest run."""
    found = world.ledger.rows(
        "select digest, state, outcome_cause from item where run_id = (select max(id) from run) order by number"
    )
    return {row["digest"]: (row["state"], row["outcome_cause"]) for row in found}


def planned(world: World) -> None:
    """A run as far as its plan; its bells wait."""
    world.open_run()
    world.carry_out(world.task_calls.pop(0))


def test_an_orphan_whose_subject_comes_before_the_look_stays_with_it(world: World) -> None:
    subject = plain(1)
    signature = attached(subject.digest)
    world.registry.push("shop/api", signature, (), OLD)
    planned(world)
    world.registry.push("shop/api", subject, ("v1",), timedelta())

    world.drain()

    assert outcomes(world) == {signature.digest: ("skipped", "still_needed")}
    assert world.registry.repositories["shop/api"].keys() == {subject.digest, signature.digest}


def test_a_deletion_that_is_carried_out_after_the_next_scan_is_still_ours(world: World) -> None:
    world.registry.push("shop/api", plain(1), (), OLD)
    for kept in range(2, 9):
        world.registry.push("shop/api", plain(kept), (f"v{kept}",), OLD)
    world.registry.faults.append(Fault("delete", "unavailable", lost="lost and done"))
    world.registry.fates.append(Fate("by_clock", after=60))
    planned(world)
    world.drain()  # in doubt
    world.mode = "dry-run"
    world.settle()
    assert outcomes(world) == {plain(1).digest: ("failed", "unconfirmed")}

    world.open_run()
    world.drain()  # it is still there
    world.pass_time(timedelta(hours=1))
    world.open_run()
    world.drain()

    assert not any(held.digest == plain(1).digest for _, held in world.registry.instances())
    assert [row["foreign_deletions"] for row in world.ledger.rows("select * from run order by id")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        pytest.param(Fate("late", after=0), ("deleted", None), id="its acceptance is recorded"),
        # What the recheck finds is there, and nobody has recorded that our deletion came before it.
        pytest.param(Fate("at_once"), ("failed", "unconfirmed"), id="nothing is recorded"),
    ],
)
def test_an_index_pushed_again_before_its_deletion_is_recorded_keeps_its_child(
    world: World, fate: Fate, outcome: tuple[str, str | None]
) -> None:
    child = plain(1)
    parent = index((child.digest,))
    world.registry.push("shop/api", child, (), OLD)
    world.registry.push("shop/api", parent, ("pr-1",), OLD)
    planned(world)
    run_id = world.ledger.rows("select id from run")[0]["id"]

    def come_back() -> None:
        world.registry.push("shop/api", parent, ("v1",), timedelta())
        world.pass_time(timedelta(minutes=10))
        world.carry_out(TaskCall("gc.recheck", (run_id, "shop/api")))

    world.registry.fates.append(fate)
    world.later.append(Later("checkpoint operation_done", 0, come_back, is_work=True))

    world.drain()
    world.settle()

    assert outcomes(world) == {parent.digest: outcome, child.digest: ("skipped", "still_needed")}
    assert world.registry.repositories["shop/api"].keys() == {parent.digest, child.digest}


def test_what_was_deleted_when_the_clock_was_set_back_is_still_ours(world: World) -> None:
    for kept in range(2, 9):
        world.registry.push("shop/api", plain(kept), (f"v{kept}",), OLD)
    world.registry.push("shop/api", plain(1), (), OLD)
    planned(world)
    world.step_clock(timedelta(seconds=-2))
    world.drain()
    assert outcomes(world) == {plain(1).digest: ("deleted", None)}

    world.step_clock(timedelta(seconds=2))
    world.open_run()
    world.drain()

    assert [row["foreign_deletions"] for row in world.ledger.rows("select * from run")] == [0, 0]


def test_a_deletion_in_doubt_is_not_asked_for_again_where_the_repository_cannot_be_listed(world: World) -> None:
    world.registry.push("shop/api", plain(1), (), OLD)
    world.registry.faults.append(Fault("delete", "unavailable", lost="lost"))
    planned(world)
    world.drain()  # in doubt
    world.registry.faults.append(Fault("images", "not_found"))
    world.pass_time(timedelta(minutes=10))

    for _ in range(3):
        world.pass_time(timedelta(seconds=121))
        world.reconcile()
        world.drain()

    assert outcomes(world) == {plain(1).digest: ("failed", "unconfirmed")}
    assert world.registry.is_there("crp0001")
