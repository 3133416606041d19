"""Changes between plan and deletion: an image that differs from its plan, or is needed now, stays, with a reason."""

from datetime import timedelta

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator

DAY = timedelta(days=1)


def test_a_tag_added_after_the_plan_keeps_the_image(simulator: Simulator, make_harness: MakeHarness) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.tag("shop/api", "pr-1", "stable")

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image["digest"]: ("skipped", "changed")}
    assert harness.items(run_id)[0].message == "its tags are pr-1, stable now, planned pr-1"
    assert image["digest"] in {image["digest"] for image in simulator.images()}
    assert harness.run(run_id).outcome == "succeeded"


def test_a_new_index_that_adopts_an_old_child_keeps_it(simulator: Simulator, make_harness: MakeHarness) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    other = simulator.push("shop/api", age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.push_index("shop/api", [child["digest"]], tags=["v2"])

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {
        child["digest"]: ("skipped", "still_needed"),
        other["digest"]: ("deleted", None),
    }


def test_a_new_signature_keeps_its_subject(simulator: Simulator, make_harness: MakeHarness) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.sign("shop/api", image["digest"])

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image["digest"]: ("skipped", "still_needed")}


def test_a_new_image_that_cannot_be_read_keeps_its_repository(simulator: Simulator, make_harness: MakeHarness) -> None:
    image = simulator.push("shop/api", age=30 * DAY)
    elsewhere = simulator.push("shop/web", age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    index = simulator.push_index("shop/api", [image["digest"]], tags=["v2"])
    simulator.fault("status", path=f"/v2/.*{index['digest']}", status=404)

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {
        image["digest"]: ("skipped", "repository_changed"),
        elsewhere["digest"]: ("deleted", None),
    }
    assert harness.run(run_id).outcome == "partial"


def test_a_kept_image_that_is_gone_keeps_its_repository(simulator: Simulator, make_harness: MakeHarness) -> None:
    kept = simulator.push("shop/api", tags=["v1"], age=300 * DAY)
    goes = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.remove(kept["id"])

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {goes["digest"]: ("skipped", "repository_changed")}
    assert kept["digest"] in (harness.items(run_id)[0].message or "")


def test_a_child_whose_index_was_not_deleted_is_still_needed(simulator: Simulator, make_harness: MakeHarness) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    index = simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.tag("shop/api", "pr-1", "stable")

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {
        index["digest"]: ("skipped", "changed"),
        child["digest"]: ("skipped", "still_needed"),
    }
