"""A whole night through Celery: exactly the plan goes, and every account of the bytes agrees."""

import json
import subprocess
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.cluster import ROOT, Cluster, cluster
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.store import runs as run_rows
from worker.web.metrics import StoreCollector

DAY = timedelta(days=1)


def command(made: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as a person runs it, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *words],
        cwd=ROOT,
        env=made.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def metric(made: Cluster, line: str) -> float:
    """One sample, as a scrape would tell it."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(lambda: nullcontext(made.night.store), lambda: made.night.settings))
    text = generate_latest(registry).decode()
    (found,) = [row for row in text.splitlines() if row.startswith(line + " ")]
    return float(found.rpartition(" ")[2])


@pytest.mark.slow
def test_the_bytes_agree(simulator: Simulator, tmp_path: Path) -> None:
    simulator.fill("demo")
    before = {image["id"] for image in simulator.images()}
    with cluster(simulator, tmp_path, rate={"requests_per_second": 1000, "concurrency": 16}) as made:
        made.start_worker()
        made.start_beat()
        called = made.call_sweep()
        assert called.returncode == 0, called.stderr

        def opened() -> str | None:
            with made.night.store.read() as connection:
                return next((run.id for run in run_rows.newest(connection)), None)

        run_id = until(opened, what="the run that was called for")
        made.finished(str(run_id), timeout=120)

        (run,) = json.loads(command(made, "runs", "--format", "json").stdout)["runs"]
        shown = json.loads(command(made, "show", run["id"], "--format", "json").stdout)
        state = simulator.state()
        assert (run["outcome"], run["trigger"], run["planned"]) == ("succeeded", "task", run["deleted"])
        assert {item["id"] for item in shown["items"]} == before - {image["id"] for image in simulator.images()}
        assert run["reclaimed_bytes"] == run["reclaimable_bytes"] == state["lost_bytes"] > 0
        assert metric(made, 'registry_gc_reclaimed_bytes_total{registry="production"}') == state["lost_bytes"]
        assert metric(made, 'registry_gc_images_total{outcome="deleted",registry="production"}') == run["deleted"]
        assert max(state["deletes"].values()) == 1


@pytest.mark.slow
def test_over_the_limits_it_waits_for_an_approval(simulator: Simulator, tmp_path: Path) -> None:
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    with cluster(simulator, tmp_path, limits={"max_images": 2}) as made:
        made.start_worker()
        made.start_beat()

        waited = command(made, "sweep", "production", "--wait")
        assert waited.returncode == 3, waited.stderr
        assert simulator.deleted_ids() == set()
        (run,) = json.loads(command(made, "runs", "--format", "json").stdout)["runs"]
        assert run["state"] == "blocked"
        simulator.push("shop/api", tags=["pr-later"], age=30 * DAY)

        approved = command(made, "approve", run["id"], "--wait")

        assert approved.returncode == 0, approved.stderr
        assert len(simulator.deleted_ids()) == 3
        assert command(made, "approve", run["id"]).returncode == 1
