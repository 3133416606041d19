"""The file becomes invalid, or loses the registry, while deletions are under way: they are followed to their end."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker import reconcile
from worker.config.watch import SettingsWatch
from worker.store.tables import audit, batch

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def spoil(harness: Harness, way: str) -> str:
    good = harness.path.read_text()
    harness.path.write_text("nonsense: [" if way == "invalid" else good.replace("production:", "staging:"))
    return good


def states(harness: Harness, run_id: str) -> dict[str, set[str]]:
    """Of the planned images of each repository."""
    states: dict[str, set[str]] = {}
    for item in harness.items(run_id):
        states.setdefault(item.decision.repository, set()).add(item.state)
    return states


def with_accepted_deletions(simulator: Simulator, harness: Harness) -> str:
    """A run that has deleted an image of `base`, and whose three deletions in `shop/api` are accepted and not done."""
    simulator.push("base", tags=["pr-9"], age=30 * DAY)
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=[100 + number])
    simulator.push("shop/api", tags=["v1"], age=30 * DAY)
    run_id, task_calls = harness.plan_and_recheck()
    task_calls = harness.carry_out([*task_calls[1:], *harness.do(task_calls[0])], until="gc.delete_batch")
    simulator.switch(operation_seconds_from=5.0, operation_seconds_to=5.0)
    harness.do(task_calls[0])
    assert states(harness, run_id) == {"base": {"deleted"}, "shop/api": {"accepted"}}
    return run_id


def reconcile_until_finished(harness: Harness, run_id: str) -> None:
    def over() -> bool:
        with harness.store.write() as connection:
            connection.execute(update(batch).values(published_at=None))
        harness.carry_out(reconcile.reconcile(harness.store, None, datetime.now(UTC)))
        return harness.run(run_id).state == "finished"

    until(over, what="its end", every=0.2)


def audited(harness: Harness) -> int:
    with harness.store.read() as connection:
        return len(connection.execute(select(audit.c.outcome).where(audit.c.outcome == "deleted")).all())


@pytest.mark.parametrize("way", ["invalid", "registry gone"])
def test_accepted_deletions_are_followed_by_the_last_valid_file(
    simulator: Simulator, make_harness: MakeHarness, way: str
) -> None:
    harness = make_harness(timing={"reconcile": "1s", "lease": "4s"})
    run_id = with_accepted_deletions(simulator, harness)
    spoil(harness, way)

    reconcile_until_finished(harness, run_id)

    run = harness.run(run_id)
    assert set(harness.outcomes(run_id).values()) == {("deleted", None)}
    assert (run.deleted, audited(harness)) == (4, 4)
    assert run.reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_accepted_deletions_wait_for_a_valid_file(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness(timing={"reconcile": "1s", "lease": "4s"})
    run_id = with_accepted_deletions(simulator, harness)
    good = spoil(harness, "invalid")
    harness.watch = SettingsWatch(harness.path, environ={})  # another process

    for _ in range(3):
        with harness.store.write() as connection:
            connection.execute(update(batch).values(published_at=None))
        harness.carry_out(reconcile.reconcile(harness.store, None, datetime.now(UTC)))
    assert states(harness, run_id)["shop/api"] == {"accepted"}

    harness.path.write_text(good)
    reconcile_until_finished(harness, run_id)
    assert (harness.run(run_id).deleted, audited(harness)) == (4, 4)


def test_accepted_deletions_wait_no_longer_than_plan_max_age(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness(plan_max_age="1h", timing={"reconcile": "1s", "lease": "1s"})
    run_id = with_accepted_deletions(simulator, harness)
    spoil(harness, "invalid")
    harness.watch = SettingsWatch(harness.path, environ={})
    from worker.store.tables import run  # noqa: PLC0415 -- the run of an hour ago

    with harness.store.write() as connection:
        connection.execute(update(run).values(started_at=datetime.now(UTC) - HOUR))

    reconcile_until_finished(harness, run_id)

    assert states(harness, run_id)["shop/api"] == {"failed"}
    assert set(harness.outcomes(run_id).values()) == {("deleted", None), ("failed", "unconfirmed")}
    why = {item.message for item in harness.items(run_id) if item.state == "failed"}
    assert all("could not be asked: the configuration file is invalid" in (message or "") for message in why)
