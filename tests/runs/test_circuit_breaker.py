"""Systemic failures: ten in a row stop a run with one clear message, and a healthy reply resets the count."""

from datetime import timedelta

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator

DAY = timedelta(days=1)


SLOWLY = {"requests_per_second": 500, "concurrency": 1}


def test_refusals_between_healthy_answers_are_no_streak(simulator: Simulator, make_harness: MakeHarness) -> None:
    images = [simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY) for number in range(24)]
    harness = make_harness(rate=SLOWLY)
    run_id, task_calls = harness.plan_and_recheck()
    for number, image in enumerate(images):
        if number % 2:
            simulator.fault("error", method="DELETE", path=image["id"], code=9, message="the registry is read-only")
        else:
            simulator.tag("shop/api", f"pr-{number}", f"kept-{number}")

    harness.carry_out(task_calls)

    finished = harness.run(run_id)
    assert (finished.failed, finished.skipped, finished.outcome) == (12, 12, "partial")


def test_operations_that_all_fail_are_a_streak(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(30):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness = make_harness(rate=SLOWLY)
    run_id, task_calls = harness.plan_and_recheck()
    simulator.fault("fail_operation", method="DELETE", code=13, message="storage is ill")

    harness.carry_out(task_calls)

    finished = harness.run(run_id)
    assert (finished.outcome, finished.failed) == ("failed", 10)


def test_ten_systemic_failures_in_a_row_end_the_run(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(40):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness = make_harness(rate={"requests_per_second": 500, "concurrency": 2})
    run_id, task_calls = harness.plan()
    simulator.switch(may_delete=False)

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "failed", 0)
    assert 10 <= run.failed <= 12
    assert sum(item.state == "planned" for item in harness.items(run_id)) == 40 - run.failed
    assert run.message is not None
    assert run.message.startswith("stopped after 10 failures in a row, the last: production: ")


def test_the_message_names_a_read_only_registry(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(12):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.switch(phase="read_only")

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert run.outcome == "failed"
    assert {cause for _, cause in harness.outcomes(run_id).values()} <= {"read_only", None}
    assert "read-only" in (run.message or "")


def test_a_success_ends_a_streak_of_failures(simulator: Simulator, make_harness: MakeHarness) -> None:
    ids = [simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)["id"] for number in range(20)]
    harness = make_harness(rate={"requests_per_second": 500, "concurrency": 1})
    run_id, task_calls = harness.plan()
    for number, path in enumerate(ids):
        if number % 2:
            simulator.fault("error", method="DELETE", path=path, code=9, message="the registry is read-only")

    harness.carry_out(task_calls)

    run = harness.run(run_id)
    assert (run.deleted, run.failed, run.outcome) == (10, 10, "partial")
