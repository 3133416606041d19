"""A clock that is wrong by more than five minutes: nothing is planned, and in mid-run nothing more is deleted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from worker.cli.hold import warn_of_clocks
from worker.runs import evidence_refresh, lifecycle

DAY = timedelta(days=1)


@pytest.fixture
def used(simulator: Simulator, tmp_path: Path) -> Path:
    """Evidence that is 30 hours old; three images that a policy selects."""
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    path = tmp_path / "used.txt"
    as_of = datetime.now(UTC) - timedelta(hours=30)
    path.write_text(f"# as_of: {as_of:%Y-%m-%dT%H:%M:%SZ}\nsha256:{'0' * 64}\n# end\n")
    return path


@pytest.mark.parametrize("off", [timedelta(hours=-20), timedelta(hours=20)])
def test_this_machines_clock_is_wrong_when_a_run_is_planned(
    night: MakeHarness, simulator: Simulator, used: Path, off: timedelta
) -> None:
    tonight = night(in_use=[{"name": "list", "kind": "file", "path": str(used), "max_age": "24h"}])
    with time_machine.travel(datetime.now(UTC) + off, tick=True):
        run = tonight.sweep()
    assert (run.outcome, run.plan_sha256) == ("failed", None)
    assert "this machine's clock" in (run.message or "")
    assert simulator.deleted_ids() == set()


def test_this_machines_clock_is_set_back_in_mid_run(night: MakeHarness, simulator: Simulator, used: Path) -> None:
    tonight = night()
    run_id, bells = tonight.plan()
    bells = tonight.ring(bells, until="gc.delete_batch")
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=20), tick=True):
        tonight.ring(bells)
    assert (tonight.run(run_id).outcome, tonight.run(run_id).deleted) == ("failed", 0)
    assert "this machine's clock" in (tonight.run(run_id).message or "")
    assert simulator.deleted_ids() == set()


def test_the_registrys_clock_goes_wrong_in_mid_run(night: MakeHarness, simulator: Simulator, used: Path) -> None:
    tonight = night()
    run_id, bells = tonight.plan()
    bells = tonight.ring(bells, until="gc.delete_batch")
    simulator.switch(clock_skew=-3600.0)
    tonight.ring(bells)
    assert (tonight.run(run_id).outcome, tonight.run(run_id).deleted) == ("failed", 0)
    assert "the registry's" in (tonight.run(run_id).message or "")


def test_evidence_is_not_judged_by_a_wrong_clock(night: MakeHarness, used: Path) -> None:
    """On SQLite the two clocks are one: each batch compares it with the registry's."""
    tonight = night(
        in_use=[{"name": "list", "kind": "file", "path": str(used), "max_age": "7d", "allow_foreign": True}]
    )
    if tonight.store.engine.dialect.name == "sqlite":
        pytest.skip("one clock")
    run_id, _ = tonight.plan()
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=20), tick=True):
        evidence_refresh.ask_again(tonight.store, tonight.watch, run_id)
    assert tonight.run(run_id).stop == "failed"
    assert "the store's" in (tonight.run(run_id).message or "")


def test_the_deadline_counts_by_the_stores_clock(night: MakeHarness, simulator: Simulator, used: Path) -> None:
    """An approval by a machine whose clock is behind does not lengthen it."""
    tonight = night(limits={"max_images": 1}, deadline="1h")
    if tonight.store.engine.dialect.name == "sqlite":
        pytest.skip("one clock")
    run_id, _ = tonight.plan()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=20), tick=True):
        lifecycle.approve(tonight.store, tonight.settings, run_id, datetime.now(UTC) - timedelta(hours=20))
    begun = tonight.run(run_id).deleting_at
    assert begun is not None
    assert abs(begun - datetime.now(UTC)) < timedelta(minutes=1)


def test_who_holds_until_a_time_is_warned_of_a_wrong_clock(
    night: MakeHarness, used: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tonight = night()
    if tonight.store.engine.dialect.name == "sqlite":
        pytest.skip("one clock")
    warn_of_clocks(tonight.store)
    assert capsys.readouterr().err == ""
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=20), tick=True):
        warn_of_clocks(tonight.store)
    assert "more than 5 minutes from the store's" in capsys.readouterr().err
