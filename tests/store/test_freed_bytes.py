"""Reclaimed bytes: what really went, and went by us; each blob once."""

from datetime import timedelta

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator

DAY = timedelta(days=1)


def test_blobs_that_a_new_image_names_are_not_freed(simulator: Simulator, night: MakeHarness) -> None:
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=["base:5000", 100 + number])
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.push("shop/api", tags=["v2"], layers=["base:5000", 9])

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert (run.outcome, run.deleted) == ("succeeded", 3)
    assert run.reclaimable_bytes - run.reclaimed_bytes == 5000
    assert run.reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_what_the_registry_takes_along_with_our_deletion_counts(simulator: Simulator, night: MakeHarness) -> None:
    simulator.switch(deleted_index="cascade")
    children = [simulator.push("shop/api", age=30 * DAY, layers=["base:5000", 100 + number]) for number in range(2)]
    inner = simulator.push_index("shop/api", [one["digest"] for one in children], age=30 * DAY)
    outer = simulator.push_index("shop/api", [inner["digest"]], tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api", tags=["v1"], age=30 * DAY, layers=[7])
    tonight = night()

    run = tonight.sweep()

    gone = {one["digest"]: ("gone", None) for one in (*children, inner)}
    assert tonight.outcomes(run.id) == {outer["digest"]: ("deleted", None)} | gone
    assert (run.outcome, run.deleted, run.gone) == ("succeeded", 1, 3)
    assert run.reclaimed_bytes == run.reclaimable_bytes == simulator.state()["lost_bytes"] > 5000


def test_what_somebody_else_deleted_with_its_index_does_not_count(simulator: Simulator, night: MakeHarness) -> None:
    child = simulator.push("shop/api", age=30 * DAY, layers=[5000])
    index = simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api", tags=["v1"], age=30 * DAY, layers=[7])
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.remove(index["id"])
    simulator.remove(child["id"])

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert (run.gone, run.deleted, run.reclaimed_bytes) == (2, 0, 0)
