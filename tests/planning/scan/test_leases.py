"""A scan holds its lease while it stores the plan, and stores nothing after it has lost the lease."""

import threading
from datetime import timedelta

from sqlalchemy import select, update

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.runs.lifecycle import TaskCall
from worker.store.tables import run

DAY = timedelta(days=1)


def test_a_scan_that_lost_its_lease_stores_nothing(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.fault("latency", path="repositoryName", seconds=1.0)
    harness = make_harness()
    run_id = harness.open()
    scanning = threading.Thread(target=harness.do, args=(TaskCall("gc.scan", (run_id,)),))
    scanning.start()
    until(lambda: harness.run(run_id).state == "planning", what="the scan's claim")
    harness.write(update(run).values(fence=run.c.fence + 1))
    scanning.join()

    assert (harness.run(run_id).state, harness.items(run_id)) == ("planning", [])


def test_a_scan_keeps_its_lease_while_it_stores_the_plan(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness()
    run_id, _ = harness.plan()
    with harness.store.read() as connection:
        lease_until = connection.execute(select(run.c.lease_until).where(run.c.id == run_id)).scalar_one()
    planned_at = harness.run(run_id).planned_at
    assert planned_at is not None
    assert lease_until > planned_at
