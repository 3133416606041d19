"""A process, Redis or a connection fails at each checkpoint of a run: the same invariants must hold each time."""

import os
import signal
import time
from collections.abc import Callable
from typing import get_args

import psycopg
import pytest

from tests.support.cluster import forget
from tests.support.scenario import REPOSITORIES, SOON, Scenario
from tests.support.scenarios import Scenarios
from tests.support.waiting import until
from worker.runs.checkpoints import Checkpoint

POINTS = get_args(Checkpoint)
WARM = 60.0  # seconds: a batch of twelve images, and 30 s for which a pool process waits until its last result is read
BATCHES = 3  # two waves of shop/api, one of shop/web


def kill_pool_child(scenario: Scenario, point: Checkpoint, pid: int) -> None:
    """Kill the pool child that is halted; the worker starts another."""
    os.kill(pid, signal.SIGKILL)
    scenario.breakpoints.release(point)


def kill_worker_tree(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    """Kill the worker with all its children."""
    scenario.kill("worker")
    scenario.breakpoints.release(point)
    scenario.start_worker()


def kill_beat(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    scenario.kill("beat")
    scenario.breakpoints.release(point)
    scenario.start_beat()


def restart_redis_with_its_data(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    scenario.lost_redis = True
    scenario.redis.kill()
    scenario.breakpoints.release(point)
    scenario.redis.start()


def replace_redis_by_an_empty_one(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    scenario.lost_redis = True
    scenario.redis.kill()
    forget(scenario.redis)
    scenario.breakpoints.release(point)
    scenario.redis.start()


def empty_redis(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    """Empty the running Redis; its connections stay."""
    scenario.redis.empty()
    scenario.breakpoints.release(point)


FAULTS: dict[str, Callable[[Scenario, Checkpoint, int], None]] = {
    "pool child is killed": kill_pool_child,
    "worker tree is killed": kill_worker_tree,
    "beat is killed": kill_beat,
    "Redis restarts with its data": restart_redis_with_its_data,
    "Redis restarts empty": replace_redis_by_an_empty_one,
    "Redis is emptied": empty_redis,
}


def check_recovery(scenario: Scenario, point: Checkpoint, fault: Callable[[Scenario, Checkpoint, int], None]) -> None:
    pid = scenario.come_to(point)

    fault(scenario, point, pid)

    well = time.monotonic()
    scenario.check_invariants(scenario.finished(scenario.run_id, timeout=SOON, supervised=True), started=well)
    # A worker may end because of a lost Redis, even seconds later: kombu fails over its unacknowledged messages. Its
    # supervisor starts it again then. No other fault of this list ends a worker.
    assert not scenario.restarted or scenario.lost_redis


def cut_store_connections(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    """Cut every connection to the store, and refuse new ones until a process has been refused."""
    assert scenario.database is not None
    server, name = scenario.database
    log = server.folder / "log"
    with psycopg.connect(server.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        before = log.stat().st_size
        scenario.breakpoints.release(point)
        refused = f'database "{name}" is not currently accepting connections'
        until(lambda: refused in log.read_bytes()[before:].decode(errors="replace"), what="a refused connection")
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*FAULTS, "store connections are cut"])
@pytest.mark.parametrize("point", POINTS)
def test_a_run_recovers_when(point: Checkpoint, fault: str, scenarios: Scenarios) -> None:
    """On SQLite, except for the cut connections: SQLite has none."""
    with scenarios.case("postgresql" if fault not in FAULTS else "sqlite") as scenario:
        check_recovery(scenario, point, FAULTS.get(fault, cut_store_connections))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["plan_stored", "delete_sent", "operation_done"])
def test_a_run_on_postgresql_recovers_when_the_worker_tree_is_killed_at(
    point: Checkpoint, scenarios: Scenarios
) -> None:
    """On PostgreSQL leases follow the clock of the database."""
    with scenarios.case("postgresql") as scenario:
        check_recovery(scenario, point, kill_worker_tree)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_sigterm_lets_a_worker_finish_its_batch_at(point: Checkpoint, scenarios: Scenarios) -> None:
    """The worker ends after the batch under way; no request is repeated, not even a GET."""
    with scenarios.case("sqlite") as scenario:
        scenario.come_to(point)
        scenario.terminate("worker")
        scenario.breakpoints.release(point)
        assert scenario.wait("worker", WARM) == 0
        scenario.intents_first()

        scenario.start_worker()

        well = time.monotonic()
        run = scenario.finished(scenario.run_id, timeout=SOON)
        scenario.check_invariants(run, started=well)
        assert run.scans == 1
        assert scenario.taken_over(run.id) == 0
        for method in ("GET", "DELETE"):
            assert sorted(scenario.asked(method)) == sorted(item.decision.id for item in scenario.harness.items(run.id))
        listings = [
            request for request in scenario.requests("GET") if request["path"] == "/container-registry/v1/images"
        ]
        # The scan, the recheck and the verification list each repository. Each batch lists its repository, one of them
        # twice if it is claimed again, and the first deletion may list it once more.
        assert len(listings) - 3 * len(REPOSITORIES) in (BATCHES, BATCHES + 1, BATCHES + 2)
