"""Failures in a sweep: each is counted once, an unknown outcome is resolved or `unconfirmed`, a hopeless run ends."""

from datetime import timedelta

import pytest

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator

DAY = timedelta(days=1)


def test_an_image_that_another_client_deleted_is_gone(simulator: Simulator, make_harness: MakeHarness) -> None:
    theirs = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY, layers=[1000, "base:5000"])
    ours = simulator.push("shop/api", tags=["pr-2"], age=30 * DAY, layers=[300, "base:5000"])
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.remove(theirs["id"])

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert harness.outcomes(run_id) == {theirs["digest"]: ("gone", None), ours["digest"]: ("deleted", None)}
    assert (run.gone, run.deleted, run.outcome) == (1, 1, "succeeded")
    # Blobs of their image alone are not counted; shared blobs are freed by our deletion, the last of the two.
    assert run.reclaimed_bytes == 300 + 500 + 5000


@pytest.mark.parametrize("position", ["not_found", "operation_error"])
def test_an_image_deleted_between_reading_and_deletion_is_gone(
    simulator: Simulator, make_harness: MakeHarness, position: str
) -> None:
    simulator.switch(missing_image=position)
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.before("DELETE", f"/images/{image['id']}", "remove", image=image["id"])

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image["digest"]: ("gone", None)}
    assert harness.run(run_id).reclaimed_bytes == 0


@pytest.mark.parametrize("position", ["remembered", "forgotten"])
def test_a_deletion_whose_reply_was_lost_counts_as_ours(
    simulator: Simulator, make_harness: MakeHarness, position: str
) -> None:
    simulator.switch(idempotency=position, image_vanishes="at_acceptance", operation_seconds_to=0.0)
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.fault("reply_lost", method="DELETE", times=1)

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert harness.outcomes(run_id) == {image["digest"]: ("deleted", None)}
    assert run.reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_an_image_not_found_but_listed_is_unconfirmed(simulator: Simulator, make_harness: MakeHarness) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.fault("error", method="GET", path=f"/images/{image['id']}", code=5, message="Image not found")

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
    assert harness.run(run_id).outcome == "partial"


def test_an_image_whose_operation_fails_is_failed(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.switch(error_before_done=True)
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api", tags=["pr-2"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.fault("fail_operation", method="DELETE", path=f"/images/{image['id']}", code=13, message="storage is ill")

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert harness.outcomes(run_id)[image["digest"]] == ("failed", "operation_failed")
    assert "storage is ill" in next(item.message or "" for item in harness.items(run_id) if item.state == "failed")
    assert (run.deleted, run.failed, run.outcome) == (1, 1, "partial")


def test_an_operation_that_never_ends_is_polled_again_and_then_unconfirmed(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness(timing={"reconcile": "1s", "lease": "1s"})
    run_id, task_calls = harness.plan()
    simulator.fault("hang_operation", method="DELETE")

    task_calls = harness.carry_out(task_calls, until="gc.delete_batch")
    task_calls = [
        *harness.do(task_calls[0])
    ]  # each claim asks for a quarter of the lease and leaves it to the next, at once
    assert harness.outcomes(run_id) == {image["digest"]: ("accepted", None)}
    assert [task_call.task for task_call in task_calls] == ["gc.delete_batch"]

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
    assert len(simulator.requests(method="DELETE")) == 1
    assert harness.run(run_id).outcome == "partial"


def test_tokens_that_expire_during_a_batch_are_renewed(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(6):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    token = simulator.new_token()
    simulator.expire_tokens()
    (harness.folder / "token").write_text(simulator.new_token())

    harness.carry_out(task_calls)

    assert token
    assert harness.run(run_id).deleted == 6
