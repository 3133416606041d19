"""A recheck serves all batches that wait for it, runs once at a time, and binds the worker that deletes."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.runs import checkpoints, lifecycle
from worker.runs.lifecycle import TaskCall
from worker.store import rechecks
from worker.store.tables import batch, item, repository

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def go_on(harness: Harness, run_id: str) -> None:
    """Let every mark of a publication expire and carry on, a few times: as minutes of reconcile would."""
    for _ in range(6):
        harness.write(update(batch).values(published_at=None))
        harness.carry_out(lifecycle.next_task_calls(harness.store, run_id, datetime.now(UTC)))


def listings(simulator: Simulator) -> list[dict[str, Any]]:
    """Requests for pages of images."""
    return [request for request in simulator.requests(method="GET") if request["path"].endswith("/images")]


class TestRechecks:
    def test_a_recheck_that_is_too_old_is_repeated_before_a_deletion(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        harness.write(update(repository).values(rechecked_at=datetime.now(UTC) - timedelta(minutes=11)))

        assert harness.do(task_calls[0]) == (TaskCall("gc.recheck", (run_id, "shop/api")),)
        assert simulator.requests("DELETE") == []

    def test_one_recheck_serves_all_batches_of_a_repository(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        for number in range(205):
            simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        assert len(task_calls) == 3
        harness.write(update(repository).values(rechecked_at=None))
        before = len(listings(simulator))
        asked = [following for task_call in task_calls for following in harness.do(task_call)]

        published = [following for task_call in asked for following in harness.do(task_call)]

        assert asked == [TaskCall("gc.recheck", (run_id, "shop/api"))] * 3
        assert len(listings(simulator)) == before + 1
        assert sorted(task_call.args[1] for task_call in published) == [0, 1, 2]

    @pytest.mark.parametrize("fault", ["no permission", "no JSON"])
    def test_rechecks_that_fail_in_every_repository_end_the_run(
        self, simulator: Simulator, make_harness: MakeHarness, fault: str
    ) -> None:
        for number in range(12):
            simulator.push(f"shop/api{number}", tags=["pr-1"], age=30 * DAY)
        harness = make_harness()
        run_id, task_calls = harness.plan()
        if fault == "no permission":
            simulator.switch(may_view=False)
        else:
            simulator.fault("status", path="repositoryName", status=200, body="<html>sign in</html>")

        harness.carry_out(task_calls)

        finished = harness.run(run_id)
        assert (finished.state, finished.outcome, finished.deleted) == ("finished", "failed", 0)
        assert "10 failures in a row" in (finished.message or "")
        assert {state for state, _ in harness.outcomes(run_id).values()} == {"planned"}


def test_the_lease_allows_one_recheck_of_a_repository_at_a_time(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, _ = harness.plan()
    with harness.store.write() as connection:
        now = harness.store.now(connection)
        times = {"now": now, "until": now + HOUR, "fresh": now - lifecycle.RECHECK_VALID_FOR}
        assert rechecks.claim(connection, run_id, "shop/api", owner="one", **times)
        assert not rechecks.claim(connection, run_id, "shop/api", owner="another", **times)
    assert harness.do(TaskCall("gc.recheck", (run_id, "shop/api"))) == ()
    assert listings(simulator)[1:] == []
    with harness.store.read() as connection:
        assert connection.execute(select(item.c.state)).scalars().all() == ["planned"]


def test_an_objection_of_a_recheck_stops_the_worker_that_holds_the_batch(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    simulator.fault("status", method="DELETE", status=503)
    harness.carry_out(task_calls)
    before = len(simulator.requests("DELETE"))
    simulator.no_faults()
    simulator.sign("shop/api", image["digest"])
    harness.write(update(batch).values(lease_until=datetime.now(UTC) + HOUR))  # its worker is still at it
    harness.write(update(repository).values(rechecked_at=None))
    harness.do(TaskCall("gc.recheck", (run_id, "shop/api")))
    assert harness.outcomes(run_id) == {image["digest"]: ("intent", None)}
    harness.write(update(batch).values(lease_until=None))

    go_on(harness, run_id)

    assert harness.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
    assert len(simulator.requests("DELETE")) == before


def test_a_recheck_settles_nothing_in_a_stopped_run(simulator: Simulator, make_harness: MakeHarness) -> None:
    kept = simulator.push("shop/api", tags=["v1"], age=30 * DAY)
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.remove(kept["id"])
    simulator.fault("latency", path="repositoryName", seconds=1.0)
    listed = len(listings(simulator))
    looking = threading.Thread(target=harness.do, args=(task_calls[0],))
    looking.start()
    until(lambda: len(listings(simulator)) > listed, what="the listing of the recheck")
    lifecycle.abort(harness.store, run_id, datetime.now(UTC))
    looking.join()

    assert harness.run(run_id).outcome == "aborted"
    assert {state for state, _ in harness.outcomes(run_id).values()} == {"planned"}


def test_a_recheck_that_lost_its_lease_records_nothing(simulator: Simulator, make_harness: MakeHarness) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.tag("shop/api", "pr-1", "stable")

    def take_over(point: str) -> None:
        if point == "recheck_claimed":
            with harness.store.write() as connection:
                connection.execute(update(repository).values(fence=repository.c.fence + 1, owner="another"))

    checkpoints.observers.append(take_over)
    try:
        harness.do(task_calls[0])
    finally:
        checkpoints.observers.remove(take_over)

    assert task_calls[0].task == "gc.recheck"
    assert harness.outcomes(run_id) == {image["digest"]: ("planned", None)}
    with harness.store.read() as connection:
        assert connection.execute(select(repository.c.rechecked_at)).scalars().all() == [None]
