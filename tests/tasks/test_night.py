"""A whole run of each kind through Celery: exactly the plan is deleted, and every account of the bytes agrees."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, cluster, command, metric
from tests.support.oci import real_runs
from tests.support.servers import PostgresServer
from tests.support.simulator.client import Simulator
from tests.support.small_registry import push_some
from tests.support.stores import database
from tests.support.waiting import until
from worker.store import runs as run_rows

DAY = timedelta(days=1)
RATE = {"requests_per_second": 1000, "concurrency": 16}


def shown(made: Cluster) -> tuple[dict[str, Any], dict[str, Any]]:
    """The run that a task call opened, as `runs` and `show` report it once it is finished."""
    called = made.call_sweep()
    assert called.returncode == 0, called.stderr

    def opened() -> str | None:
        with made.harness.store.read() as connection:
            return next((run.id for run in run_rows.newest(connection)), None)

    made.finished(str(until(opened, what="the run that was called for")), timeout=120)
    (run,) = command(made, "runs", "--format", "json").json["runs"]
    return run, command(made, "show", run["id"], "--format", "json").json


def bytes_agree(simulator: Simulator, folder: Path, **entry: Any) -> None:
    """A whole run on the simulator that deletes something: no account of its bytes differs from the others."""
    before = {image["digest"] for image in simulator.images()}
    with cluster(simulator, folder, rate=RATE, **entry) as made:
        made.start_worker()
        made.start_beat()
        run, record = shown(made)
        state = simulator.state()
        assert (run["outcome"], run["trigger"], run["planned"]) == ("succeeded", "task", run["deleted"])
        left = {image["digest"] for image in simulator.images()}
        assert {item["digest"] for item in record["items"]} == before - left
        assert run["reclaimed_bytes"] == run["reclaimable_bytes"] == state["lost_bytes"] > 0
        assert metric(made, 'registry_gc_reclaimed_bytes_total{registry="production"}') == state["lost_bytes"]
        assert metric(made, 'registry_gc_images_total{outcome="deleted",registry="production"}') == run["deleted"]
        assert max(state["deletes"].values()) == 1


@pytest.mark.slow
def test_plan_metrics_and_simulator_agree_on_the_bytes(simulator: Simulator, tmp_path: Path) -> None:
    push_some(simulator)
    bytes_agree(simulator, tmp_path)


@pytest.mark.slow
def test_plan_and_metrics_agree_on_the_bytes_with_cloud_registry_and_postgresql(
    simulator: Simulator, postgres: PostgresServer, tmp_path: Path
) -> None:
    push_some(simulator)
    entry = {"kind": "yandex-cloud-registry", "endpoints": simulator.cloud_endpoints()}
    bytes_agree(simulator, tmp_path, store=database(postgres), **entry)


@pytest.mark.slow
def test_plan_metrics_and_the_disk_of_docker_registry_agree_on_the_bytes(tmp_path: Path) -> None:
    real_runs.bytes_agree(tmp_path, cache=True)


@pytest.mark.slow
def test_a_run_over_its_limits_waits_for_an_approval(simulator: Simulator, tmp_path: Path) -> None:
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    with cluster(simulator, tmp_path, limits={"max_images": 2}) as made:
        made.start_worker()
        made.start_beat()

        waited = command(made, "sweep", "production", "--wait")
        assert waited.code == 3, waited.err
        assert simulator.deleted_ids() == set()
        (run,) = command(made, "runs", "--format", "json").json["runs"]
        assert run["state"] == "blocked"
        simulator.push("shop/api", tags=["pr-later"], age=30 * DAY)

        approved = command(made, "approve", run["id"], "--wait")

        assert approved.code == 0, approved.err
        assert len(simulator.deleted_ids()) == 3
        assert command(made, "approve", run["id"]).code == 1
