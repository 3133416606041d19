"""Deletions and their order: exactly the plan, owners first, each intent before its deletion."""

from datetime import datetime, timedelta

import pytest

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.small_registry import push_some

DAY = timedelta(days=1)


def alive(simulator: Simulator) -> set[str]:
    return {image["digest"] for image in simulator.images()}


def test_deletes_exactly_the_planned_images(simulator: Simulator, make_harness: MakeHarness) -> None:
    push_some(simulator)
    harness = make_harness()
    before = alive(simulator)

    run = harness.sweep()

    planned = {item.decision.digest for item in harness.items(run.id)}
    assert (run.state, run.outcome) == ("finished", "succeeded")
    assert run.planned == run.deleted == len(harness.items(run.id)) == 38
    assert before - alive(simulator) == planned
    assert run.reclaimed_bytes == run.reclaimable_bytes == simulator.state()["lost_bytes"] > 0
    again = harness.sweep()
    assert (again.planned, again.outcome) == (0, "succeeded")


@pytest.mark.parametrize("moment", ["GET", "DELETE"])
def test_a_tag_that_moves_before_the_reading_keeps_its_image(
    simulator: Simulator, make_harness: MakeHarness, moment: str
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    path = f"/images/{image['id']}"
    simulator.before(moment, path, "tag", repository="shop/api", reference=image["digest"], tag="stable")

    harness.carry_out(task_calls)

    # Between our last reading and the registry's work nothing can be known: that gap is milliseconds.
    expected = ("skipped", "changed") if moment == "GET" else ("deleted", None)
    assert harness.outcomes(run_id)[image["digest"]] == expected


@pytest.mark.parametrize("position", ["refused", "operation_error"])
def test_an_adoption_after_the_last_listing_is_refused_by_the_registry(
    simulator: Simulator, make_harness: MakeHarness, position: str
) -> None:
    simulator.switch(child_of_index=position)
    child = simulator.push("shop/api", age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    index = {"repository": "shop/api", "children": [child["digest"]], "tags": ["v2"]}
    simulator.before("DELETE", f"/images/{child['id']}", "push_index", **index)

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {child["digest"]: ("skipped", "used_by_image_lists")}
    assert harness.run(run_id).outcome == "succeeded"
    assert child["digest"] in alive(simulator)


def test_deletes_indexes_before_children_and_subjects_before_signatures(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    index = simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    signature = simulator.sign("shop/api", index["digest"], age=29 * DAY)
    harness = make_harness()

    run = harness.sweep()

    assert (run.deleted, run.outcome) == (3, "succeeded")
    order = [request["image"] for request in simulator.requests(method="DELETE")]
    assert order[0] == index["id"]
    assert set(order[1:]) == {child["id"], signature["id"]}


def test_the_intent_is_written_before_the_registry_is_asked(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run = harness.sweep()
    intent, asked = harness.items(run.id)[0], simulator.requests(method="DELETE")[0]
    with harness.store.read() as connection:
        from worker.store.tables import item  # noqa: PLC0415 -- the one test that reads a row

        row = connection.execute(item.select()).one()
    assert row.intent_at <= datetime.fromisoformat(asked["at"]) <= row.at
    assert row.idempotency_key == asked["key"]
    assert (intent.attempts, intent.state) == (1, "deleted")
