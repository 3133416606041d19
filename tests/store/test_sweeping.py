"""Queries of a sweep: leases and waves of batches, intents, and outcomes, of which the first counts."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from worker.runs import lifecycle
from worker.runs.lifecycle import Bell
from worker.store import sweeping
from worker.store.tables import audit, batch

DAY = timedelta(days=1)


HOUR = timedelta(hours=1)


def ready(night: Harness) -> tuple[str, list[Bell]]:
    """A planned run, looked at: its batches' bells."""
    run_id, bells = night.plan()
    bells = night.ring(bells, until="gc.delete_batch")
    return run_id, bells


def test_leases_and_waves(simulator: Simulator, night: MakeHarness) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, _ = ready(tonight)

    def claim(number: int) -> sweeping.Claim | None:
        with tonight.store.write() as connection:
            now = tonight.store.now(connection)
            return sweeping.claim(connection, run_id, number, owner="x", now=now, until=now + HOUR)

    assert claim(1) is None  # the second wave, before the first is done
    held = claim(0)
    assert held is not None
    assert claim(0) is None
    with tonight.store.write() as connection:
        connection.execute(update(batch).values(fence=batch.c.fence + 1))
        sweeping.release(connection, held, None)
        with pytest.raises(sweeping.LeaseLostError):
            sweeping.renew(connection, held, datetime.now(UTC), datetime.now(UTC) + HOUR)
    assert claim(0) is None  # a lost lease is not given back


def test_no_more_than_so_many_batches_are_rung_at_once(simulator: Simulator, night: MakeHarness) -> None:
    for number in range(sweeping.MOST_RUNG + 5):
        simulator.push(f"shop/api{number}", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()

    assert len(bells) == sweeping.MOST_RUNG
    assert lifecycle.ring(tonight.store, run_id, datetime.now(UTC)) == ()
    tonight.ring(bells)
    assert tonight.run(run_id).deleted == sweeping.MOST_RUNG + 5


def test_the_audit_adds_up(simulator: Simulator, night: MakeHarness) -> None:
    for number in range(4):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=["base:9000", number + 1])
    tonight = night()
    finished = tonight.sweep()
    with tonight.store.read() as connection:
        rows, freed = connection.execute(select(func.count(), func.sum(audit.c.reclaimed_bytes))).one()
    assert (rows, freed) == (4, finished.reclaimed_bytes)
    assert finished.reclaimed_bytes == simulator.state()["lost_bytes"]


def test_an_outcome_is_the_first_and_only(simulator: Simulator, night: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    finished = tonight.sweep()
    with tonight.store.write() as connection:
        row = connection.execute(select(*sweeping.ITEM_COLUMNS)).one()
        now = datetime.now(UTC)
        late = sweeping.item_of(row), sweeping.Outcome("failed", "other", "late")
        assert sweeping.record_outcomes(connection, finished.id, [late], now) == []
    after = tonight.run(finished.id)
    assert (after.deleted, after.failed, after.reclaimed_bytes) == (1, 0, finished.reclaimed_bytes)


def test_an_intent_is_taken_back_only_as_it_was_claimed(simulator: Simulator, night: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, _ = ready(tonight)
    now = datetime.now(UTC)
    with tonight.store.write() as connection:
        (planned,) = sweeping.unfinished_items(connection, run_id, 0)
        sweeping.record_intents(connection, [(planned, "a key")], now)
        (begun,) = sweeping.unfinished_items(connection, run_id, 0)
        assert (begun.state, begun.idempotency_key, begun.attempts, begun.intent_at) == ("intent", "a key", 1, now)
        sweeping.record_intents(connection, [(begun, "a key")], now + HOUR)
        sweeping.withdraw_intents(connection, [begun])
        assert sweeping.unfinished_items(connection, run_id, 0) == [begun]  # still in doubt
        sweeping.withdraw_intents(connection, [planned])
        assert sweeping.unfinished_items(connection, run_id, 0) == [planned]


def test_a_repository_that_cannot_be_looked_at_keeps_no_other_waiting(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night()
    now = datetime.now(UTC)
    first = [sweeping.Ready(number, "shop/api", None) for number in range(50)]
    others = [sweeping.Ready(50, "shop/web", None), *(sweeping.Ready(51 + one, "shop/cart", now) for one in range(40))]
    chosen = sweeping.fair([*first, *others], sweeping.MOST_RUNG, now - HOUR)
    assert [one.batch for one in chosen] == [0, 50, *range(51, 51 + sweeping.MOST_RUNG - 2)]
    assert tonight.store is not None
