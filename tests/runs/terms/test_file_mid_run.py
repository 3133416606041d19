"""The file becomes invalid, or loses the registry, while deletions are under way: those are followed to their end."""

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


def spoil(night: Harness, way: str) -> str:
    good = night.path.read_text()
    night.path.write_text("nonsense: [" if way == "invalid" else good.replace("production:", "staging:"))
    return good


def states(night: Harness, run_id: str) -> dict[str, set[str]]:
    """Of the planned images of each repository."""
    found: dict[str, set[str]] = {}
    for item in night.items(run_id):
        found.setdefault(item.decision.repository, set()).add(item.state)
    return found


def with_accepted_deletions(simulator: Simulator, night: Harness) -> str:
    """A run that has deleted an image of `base`, and whose three deletions in `shop/api` are accepted and not done."""
    simulator.push("base", tags=["pr-9"], age=30 * DAY)
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=[100 + number])
    simulator.push("shop/api", tags=["v1"], age=30 * DAY)
    run_id, bells = night.plan()
    bells = night.ring(bells, until="gc.delete_batch")
    bells = night.ring([*bells[1:], *night.do(bells[0])], until="gc.delete_batch")
    simulator.switch(operation_seconds_from=5.0, operation_seconds_to=5.0)
    night.do(bells[0])
    assert states(night, run_id) == {"base": {"deleted"}, "shop/api": {"accepted"}}
    return run_id


def reconcile_until_finished(night: Harness, run_id: str) -> None:
    def over() -> bool:
        with night.store.write() as connection:
            connection.execute(update(batch).values(rung_at=None))
        night.ring(reconcile.reconcile(night.store, None, datetime.now(UTC)))
        return night.run(run_id).state == "finished"

    until(over, what="its end", every=0.2)


def audited(night: Harness) -> int:
    with night.store.read() as connection:
        return len(connection.execute(select(audit.c.outcome).where(audit.c.outcome == "deleted")).all())


@pytest.mark.parametrize("way", ["invalid", "registry gone"])
def test_accepted_deletions_are_followed_by_the_last_valid_file(
    simulator: Simulator, night: MakeHarness, way: str
) -> None:
    tonight = night(timing={"reconcile": "1s", "lease": "4s"})
    run_id = with_accepted_deletions(simulator, tonight)
    spoil(tonight, way)

    reconcile_until_finished(tonight, run_id)

    run = tonight.run(run_id)
    assert set(tonight.outcomes(run_id).values()) == {("deleted", None)}
    assert (run.deleted, audited(tonight)) == (4, 4)
    assert run.reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_without_a_valid_file_they_wait_for_one(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night(timing={"reconcile": "1s", "lease": "4s"})
    run_id = with_accepted_deletions(simulator, tonight)
    good = spoil(tonight, "invalid")
    tonight.watch = SettingsWatch(tonight.path, environ={})  # another process

    for _ in range(3):
        with tonight.store.write() as connection:
            connection.execute(update(batch).values(rung_at=None))
        tonight.ring(reconcile.reconcile(tonight.store, None, datetime.now(UTC)))
    assert states(tonight, run_id)["shop/api"] == {"accepted"}

    tonight.path.write_text(good)
    reconcile_until_finished(tonight, run_id)
    assert (tonight.run(run_id).deleted, audited(tonight)) == (4, 4)


def test_they_do_not_wait_longer_than_the_plan_is_good(simulator: Simulator, night: MakeHarness) -> None:
    tonight = night(plan_max_age="1h", timing={"reconcile": "1s", "lease": "1s"})
    run_id = with_accepted_deletions(simulator, tonight)
    spoil(tonight, "invalid")
    tonight.watch = SettingsWatch(tonight.path, environ={})
    from worker.store.tables import run  # noqa: PLC0415 -- the run of an hour ago

    with tonight.store.write() as connection:
        connection.execute(update(run).values(started_at=datetime.now(UTC) - HOUR))

    reconcile_until_finished(tonight, run_id)

    assert states(tonight, run_id)["shop/api"] == {"failed"}
    assert set(tonight.outcomes(run_id).values()) == {("deleted", None), ("failed", "unconfirmed")}
    why = {item.message for item in tonight.items(run_id) if item.state == "failed"}
    assert all("could not be asked: the configuration file is invalid" in (message or "") for message in why)
