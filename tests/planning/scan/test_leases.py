"""A scan has a lease: it keeps it while it stores the plan, and stores nothing once it has lost it."""

import threading
from datetime import timedelta

from sqlalchemy import select, update

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.runs.lifecycle import Bell
from worker.store.tables import run

DAY = timedelta(days=1)


def test_a_scan_that_lost_its_lease_stores_nothing(simulator: Simulator, night: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.fault("latency", path="repositoryName", seconds=1.0)
    tonight = night()
    run_id = tonight.open()
    scanning = threading.Thread(target=tonight.do, args=(Bell("gc.scan", (run_id,)),))
    scanning.start()
    until(lambda: tonight.run(run_id).state == "planning", what="the scan's claim")
    tonight.write(update(run).values(fence=run.c.fence + 1))
    scanning.join()

    assert (tonight.run(run_id).state, tonight.items(run_id)) == ("planning", [])


def test_a_scan_keeps_its_lease_while_it_stores_the_plan(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night()
    run_id, _ = tonight.plan()
    with tonight.store.read() as connection:
        lease_until = connection.execute(select(run.c.lease_until).where(run.c.id == run_id)).scalar_one()
    planned_at = tonight.run(run_id).planned_at
    assert planned_at is not None
    assert lease_until > planned_at
