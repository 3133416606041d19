"""A clock that is wrong by more than five minutes: nothing is planned, and a deleting run stops."""

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
def test_a_wrong_clock_of_this_machine_fails_the_scan(
    make_harness: MakeHarness, simulator: Simulator, used: Path, off: timedelta
) -> None:
    harness = make_harness(in_use=[{"name": "list", "kind": "file", "path": str(used), "max_age": "24h"}])
    with time_machine.travel(datetime.now(UTC) + off, tick=True):
        run = harness.sweep()
    assert (run.outcome, run.plan_sha256) == ("failed", None)
    assert "this machine's clock" in (run.message or "")
    assert simulator.deleted_ids() == set()


def test_a_clock_set_back_while_deleting_stops_the_run(
    make_harness: MakeHarness, simulator: Simulator, used: Path
) -> None:
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=20), tick=True):
        harness.carry_out(task_calls)
    assert (harness.run(run_id).outcome, harness.run(run_id).deleted) == ("failed", 0)
    assert "this machine's clock" in (harness.run(run_id).message or "")
    assert simulator.deleted_ids() == set()


def test_a_wrong_clock_of_the_registry_while_deleting_stops_the_run(
    make_harness: MakeHarness, simulator: Simulator, used: Path
) -> None:
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    simulator.switch(clock_skew=-3600.0)
    harness.carry_out(task_calls)
    assert (harness.run(run_id).outcome, harness.run(run_id).deleted) == ("failed", 0)
    assert "the registry's" in (harness.run(run_id).message or "")


def test_evidence_is_not_judged_by_a_wrong_clock(make_harness: MakeHarness, used: Path) -> None:
    """On SQLite the two clocks are one: each batch compares it with the registry's."""
    harness = make_harness(
        in_use=[{"name": "list", "kind": "file", "path": str(used), "max_age": "7d", "allow_foreign": True}]
    )
    if harness.store.engine.dialect.name == "sqlite":
        pytest.skip("one clock")
    run_id, _ = harness.plan()
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=20), tick=True):
        evidence_refresh.refresh_evidence(harness.store, harness.watch, run_id)
    assert harness.run(run_id).stop == "failed"
    assert "the store's" in (harness.run(run_id).message or "")


def test_the_deadline_counts_by_the_stores_clock(make_harness: MakeHarness, simulator: Simulator, used: Path) -> None:
    """An approval by a machine whose clock is behind does not lengthen it."""
    harness = make_harness(limits={"max_images": 1}, deadline="1h")
    if harness.store.engine.dialect.name == "sqlite":
        pytest.skip("one clock")
    run_id, _ = harness.plan()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=20), tick=True):
        lifecycle.approve(harness.store, harness.settings, run_id, datetime.now(UTC) - timedelta(hours=20))
    begun = harness.run(run_id).deleting_at
    assert begun is not None
    assert abs(begun - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_hold_until_a_time_warns_of_a_wrong_clock(
    make_harness: MakeHarness, used: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = make_harness()
    if harness.store.engine.dialect.name == "sqlite":
        pytest.skip("one clock")
    warn_of_clocks(harness.store)
    assert capsys.readouterr().err == ""
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=20), tick=True):
        warn_of_clocks(harness.store)
    assert "more than 5 minutes from the store's" in capsys.readouterr().err
