"""The holder of a lease carries out its batch, as often as its task call is published."""

import threading
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.registries.http.redis_limit import RedisLimiter
from worker.runs.lifecycle import TaskCall
from worker.store.tables import batch
from worker.sweep import batches

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def test_planned_images_of_a_poison_batch_fail(simulator: Simulator, make_harness: MakeHarness) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    harness.write(update(batch).values(takeovers=batches.TAKEOVERS))

    harness.carry_out(task_calls)

    assert harness.outcomes(run_id) == {image["digest"]: ("failed", "poison")}
    assert simulator.requests("DELETE") == []


def test_sends_no_request_without_the_shared_rate_limit(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    before = len(simulator.requests())
    limiter = RedisLimiter("redis://127.0.0.1:1/0", "nowhere", 10.0)

    published = batches.delete_batch(harness.store, harness.watch, run_id, int(task_calls[0].args[1]), limiter=limiter)

    assert (published, len(simulator.requests())) == ((), before)  # it is not published again at once
    assert {state for state, _ in harness.outcomes(run_id).values()} == {"planned"}


def test_deletes_nothing_in_another_registry_of_the_same_name(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    harness.path.write_text(harness.path.read_text().replace(simulator.registry_id, "crpzzzzzzzzzzzzzzzzz"))

    harness.carry_out(task_calls)

    assert set(harness.outcomes(run_id).values()) == {("skipped", "mode")}
    assert simulator.requests("DELETE") == []


def test_two_workers_with_the_same_batch_delete_once(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(30):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    simulator.switch(latency=0.02)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()

    threads = [threading.Thread(target=harness.do, args=(task_calls[0],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert harness.run(run_id).deleted == 30
    assert len(simulator.requests(method="DELETE")) == 30


def test_task_calls_repeated_ten_times_delete_once(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/web", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()

    harness.carry_out(task_calls * 10)
    harness.carry_out(task_calls * 10)

    assert (harness.run(run_id).deleted, len(simulator.requests(method="DELETE"))) == (2, 2)


def test_a_worker_that_lost_its_lease_stops(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness = make_harness(rate={"requests_per_second": 500, "concurrency": 1})
    run_id, task_calls = harness.plan_and_recheck()
    simulator.fault("latency", method="GET", path="/images/", times=1, seconds=1.0)
    slow = threading.Thread(target=harness.do, args=(task_calls[0],))
    slow.start()
    until(
        lambda: any("/images/" in request["path"] for request in simulator.requests(method="GET")),
        what="its first request",
    )
    from worker.store.tables import batch  # noqa: PLC0415 -- somebody else takes the batch over, as after a pause

    with harness.store.write() as connection:
        connection.execute(batch.update().values(fence=batch.c.fence + 1))
    slow.join()

    assert simulator.requests(method="DELETE") == []
    assert {state for state, _ in harness.outcomes(run_id).values()} == {"planned"}


def two_batches(simulator: Simulator, harness: Harness) -> tuple[str, list[TaskCall]]:
    """A run before the batches of two repositories."""
    for number in range(6):
        simulator.push(f"shop/{'api' if number % 2 else 'web'}", tags=[f"pr-{number}"], age=30 * DAY)
    run_id, task_calls = harness.plan()
    while rechecks := [task_call for task_call in task_calls if task_call.task != "gc.delete_batch"]:
        task_calls = [task_call for task_call in task_calls if task_call not in rechecks] + [
            after for task_call in rechecks for after in harness.do(task_call)
        ]
    assert len(task_calls) == 2
    return run_id, task_calls


def test_no_other_worker_deletes_before_the_first_deletion_of_a_run_is_done(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    harness = make_harness(timing={"reconcile": "2s", "lease": "60s"})
    run_id, (first, second) = two_batches(simulator, harness)
    simulator.fault("latency", method="DELETE", times=1, seconds=1.0)
    published: list[TaskCall] = []
    worker = threading.Thread(target=lambda: published.extend(harness.do(first)))
    worker.start()
    until(lambda: simulator.requests(method="DELETE"), what="the first deletion")

    assert harness.do(second) == ()
    assert len(simulator.requests(method="DELETE")) == 1
    worker.join()

    assert set(published) == {first, second}  # at once: others wait
    assert len(simulator.requests(method="DELETE")) == 1
    harness.carry_out(published)
    assert harness.run(run_id).deleted == 6


@pytest.mark.parametrize(
    ("fault", "first", "asked"),
    [
        pytest.param({"kind": "hang_operation"}, ("failed", "unconfirmed"), 1, id="its operation does not end"),
        pytest.param({"kind": "fail_operation", "code": 13}, ("failed", "operation_failed"), 6, id="it fails"),
    ],
)
def test_other_batches_wait_for_the_outcome_of_the_first_deletion(
    simulator: Simulator, make_harness: MakeHarness, fault: dict[str, object], first: tuple[str, str | None], asked: int
) -> None:
    harness = make_harness(timing={"reconcile": "1s", "lease": "1s"})
    run_id, task_calls = two_batches(simulator, harness)
    simulator.fault(method="DELETE", times=1, **fault)

    harness.do(task_calls[0])
    harness.do(task_calls[1])
    assert len(simulator.requests(method="DELETE")) == asked
    until(lambda: harness.carry_out(harness.reconcile()) or harness.run(run_id).state == "finished", what="its end")

    assert Counter(harness.outcomes(run_id).values()) == {first: 1, ("deleted", None): 5}
