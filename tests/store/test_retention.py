"""Which plans and audit rows the store forgets, and which it keeps."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from tests.support.harness import Harness
from tests.support.simulator.client import Simulator
from worker.store import plans, retention
from worker.store import runs as run_rows
from worker.store.plans import PlanRows, Segment
from worker.store.tables import audit, inventory, item, repository


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Both, as the queries differ between them."""
    kind: str = request.param
    return kind


DAY = timedelta(days=1)


def count(harness: Harness, table: object) -> int:
    with harness.store.read() as connection:
        value: int = connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[call-overload]  # any table
        return value


def test_forgets_plans_of_earlier_runs_and_keeps_their_totals(
    simulator: Simulator, make_harness: Callable[..., Harness]
) -> None:
    simulator.push("shop/api", tags=["v1"], age=300 * DAY)
    harness = make_harness(retention={"plans": 2})
    runs = []
    for number in range(4):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
        runs.append(harness.sweep())

    with harness.store.read() as connection:
        kept = [run.id for run in run_rows.newest(connection) if not run.forgotten]
    assert kept == [runs[3].id, runs[2].id]
    assert (count(harness, repository), count(harness, item), count(harness, inventory)) == (2, 2, 2)
    assert [harness.run(run.id).deleted for run in runs] == [1, 1, 1, 1]
    assert count(harness, audit) == 4


def test_keeps_a_blocked_plan_while_it_can_be_approved(
    simulator: Simulator, make_harness: Callable[..., Harness]
) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness(limits={"max_images": 0})
    run_id, _ = harness.plan()
    with harness.store.write() as connection:
        retention.forget(connection, "production", plans=0)
    assert not harness.run(run_id).forgotten
    assert len(harness.items(run_id)) == 1


def test_keeps_the_audit_for_its_own_retention(simulator: Simulator, make_harness: Callable[..., Harness]) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness(retention={"audit": "10d"})
    harness.sweep()
    for after, left in ((9 * DAY, 1), (11 * DAY, 0)):
        harness.reconcile(after=after)
        assert count(harness, audit) == left


def test_keeps_the_inventory_of_a_plan_that_is_being_written(
    simulator: Simulator, make_harness: Callable[..., Harness]
) -> None:
    """Two registries may have repositories of equal content, for example empty ones."""
    harness = make_harness()
    if harness.store.engine.dialect.name == "sqlite":
        pytest.skip("one writer at a time")
    simulator.push("shop/api", tags=["v1"])
    first = harness.sweep()
    with harness.store.read() as connection:
        content = connection.execute(select(inventory)).one()
        planned = connection.execute(select(repository)).one()._asdict()

    def forget() -> None:
        with harness.store.write() as connection:
            retention.forget(connection, "production", plans=0)

    forgetting = threading.Thread(target=forget)
    with harness.store.write() as connection:
        segment = Segment(path="shop/api", images=content.images, sha256=content.sha256)
        plans.write_rows(connection, segment, PlanRows(planned | {"run_id": "another"}, [], [], []))
        forgetting.start()
        forgetting.join(timeout=3)  # it must not wait for this transaction, or it has to see it afterwards
    forgetting.join()
    assert harness.run(first.id).forgotten
    with harness.store.read() as connection:
        assert len(plans.images_of(connection, "another", "shop/api")) == 1
