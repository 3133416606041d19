"""What histories have found, each as a plain story."""

from datetime import timedelta

from tests.histories.model import attached, plain
from tests.histories.world import World

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
    world.carry_out(world.bells.pop(0))


def test_an_orphan_whose_subject_comes_before_the_look_stays_with_it(world: World) -> None:
    subject = plain(1)
    signature = attached(subject.digest)
    world.model.push("shop/api", signature, (), OLD)
    planned(world)
    world.model.push("shop/api", subject, ("v1",), timedelta())

    world.drain()

    assert outcomes(world) == {signature.digest: ("skipped", "still_needed")}
    assert world.model.repositories["shop/api"].keys() == {subject.digest, signature.digest}
