"""The whole worker tree is killed at each named point of a run and started again: the same invariants each time."""

from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from tests.cluster import Cluster, cluster
from tests.servers import PostgresServer
from tests.simulator.client import Simulator
from tests.waiting import until
from worker.checkpoints import Checkpoint
from worker.runs import Bell
from worker.store import plans
from worker.tasks import ring

DAY = timedelta(days=1)
POINTS = get_args(Checkpoint)


def fill(simulator: Simulator) -> None:
    """Two repositories; images that share a base, an index with children, a signature; and what must stay."""
    for repository in ("shop/api", "shop/web"):
        for number in range(4):
            simulator.push(repository, tags=[f"pr-{number}"], age=30 * DAY, layers=["base:9000", 100 + number])
        simulator.push(repository, tags=["v1.0.0"], age=90 * DAY, layers=["base:9000", 77])
    children = [simulator.push("shop/api", age=30 * DAY, layers=[4000 + number])["digest"] for number in range(2)]
    index = simulator.push_index("shop/api", children, tags=["pr-9"], age=30 * DAY)
    simulator.sign("shop/api", index["digest"], age=29 * DAY)


def planned(made: Cluster, run_id: str) -> set[str]:
    """Image ids of a run's plan."""
    with made.night.store.read() as connection:
        return {one.decision.id for one in plans.items_of(connection, run_id)}


def assert_whole(made: Cluster, simulator: Simulator, run_id: str) -> None:
    """What must hold after any fault: see the laws."""
    run, state = made.night.run(run_id), simulator.state()
    items = made.night.items(run_id)
    deleted = {image["id"] for image in state["deleted"]}
    assert deleted == planned(made, run_id)  # nothing outside the plan, and all of it
    assert {one.state for one in items} == {"deleted"}
    assert len(items) == run.deleted == run.planned == 12
    assert run.reclaimed_bytes == run.reclaimable_bytes == state["lost_bytes"] > 0
    assert max(state["deletes"].values()) <= 2  # at most one repeat, with the key of the lost attempt
    keys: dict[str, set[str]] = {}
    for request in simulator.requests(method="DELETE"):
        keys.setdefault(request["image"], set()).add(request["key"])
    assert {len(used) for used in keys.values()} == {1}
    assert (run.state, run.outcome) == ("finished", "succeeded")


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_the_worker_tree_is_killed_at(point: Checkpoint, simulator: Simulator, tmp_path: Path) -> None:
    fill(simulator)
    with cluster(simulator, tmp_path) as made:
        killed_at(made, point)

        made.start_worker()

        made.finished(made.run_id)
        assert_whole(made, simulator, made.run_id)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["plan_stored", "delete_sent", "operation_done"])
def test_the_same_on_postgresql(
    point: Checkpoint, simulator: Simulator, tmp_path: Path, postgres: PostgresServer
) -> None:
    fill(simulator)
    with cluster(simulator, tmp_path, store=postgres.create_database(f"crash_{point}")) as made:
        killed_at(made, point)
        made.start_worker("another")  # it comes while the dead one's lease still runs
        made.start_worker()

        made.finished(made.run_id)
        assert_whole(made, simulator, made.run_id)


def killed_at(made: Cluster, point: Checkpoint) -> None:
    """A run whose worker was killed at this point."""
    flag = made.start_worker(halt_at=point)
    made.start_beat()
    made.run_id = made.night.open()
    assert flag is not None
    until(flag.exists, timeout=60, what=f"the worker to come to {point}")
    made.kill("worker")


@pytest.mark.slow
def test_redis_is_emptied_in_mid_run(simulator: Simulator, tmp_path: Path) -> None:
    fill(simulator)
    with cluster(simulator, tmp_path) as made:
        flag = made.start_worker(halt_at="operation_accepted")
        made.start_beat()
        run_id = made.night.open()
        assert flag is not None
        until(flag.exists, timeout=60, what="a deletion")
        made.redis.empty()
        made.kill("worker")
        made.start_worker()

        made.finished(run_id)
        assert_whole(made, simulator, run_id)


@pytest.mark.slow
def test_messages_ten_times_two_workers_two_beats(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(simulator)
    with cluster(simulator, tmp_path) as made:
        made.start_worker("one")
        made.start_worker("two")
        made.start_beat("beat")
        made.start_beat("second-beat")
        run_id = made.night.open()
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        paths = ["shop/api", "shop/web"]
        bells = [Bell("gc.scan", (run_id,)), *(Bell("gc.look", (run_id, path)) for path in paths)]
        ring([*bells, *(Bell("gc.delete_batch", (run_id, number)) for number in range(6))] * 10)

        made.finished(run_id)
        assert_whole(made, simulator, run_id)
        assert max(simulator.state()["deletes"].values()) == 1
