"""Something is lost at each named point of a run, from opening to finish: the same list must hold each time."""

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
WARM = 20.0  # seconds: one batch of twelve images, and a machine of two cores that does other things as well
BATCHES = 3  # two waves of the one repository, one of the other


def child(scenario: Scenario, point: Checkpoint, pid: int) -> None:
    """The pool's child that is at this point; the worker starts another."""
    os.kill(pid, signal.SIGKILL)
    scenario.breakpoints.release(point)


def tree(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    """The worker with all its children."""
    scenario.kill("worker")
    scenario.breakpoints.release(point)
    scenario.start_worker()


def beat(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    scenario.kill("beat")
    scenario.breakpoints.release(point)
    scenario.start_beat()


def redis_with_its_file(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    scenario.lost_redis = True
    scenario.redis.kill()
    scenario.breakpoints.release(point)
    scenario.redis.start()


def redis_empty(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    """Another Redis in its place, that knows nothing."""
    scenario.lost_redis = True
    scenario.redis.kill()
    forget(scenario.redis)
    scenario.breakpoints.release(point)
    scenario.redis.start()


def emptied(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    """The same Redis, emptied under connections that stay."""
    scenario.redis.empty()
    scenario.breakpoints.release(point)


VICTIMS: dict[str, Callable[[Scenario, Checkpoint, int], None]] = {
    "worker child": child,
    "worker tree": tree,
    "beat": beat,
    "redis with its file": redis_with_its_file,
    "redis empty": redis_empty,
    "redis's content": emptied,
}


def hurt(scenario: Scenario, point: Checkpoint, victim: Callable[[Scenario, Checkpoint, int], None]) -> None:
    pid = scenario.come_to(point)

    victim(scenario, point, pid)

    well = time.monotonic()
    scenario.whole(scenario.finished(scenario.run_id, timeout=SOON, supervised=True), started=well)
    # Celery's worker may die of a lost Redis, even seconds later: kombu fails over what it has not acknowledged. Then
    # its supervisor starts it again. Of nothing else that is done to it here it dies.
    assert not scenario.restarted or scenario.lost_redis


def store_connection(scenario: Scenario, point: Checkpoint, _pid: int) -> None:
    """Every connection to the store is cut, and none is let in until a process has been refused."""
    assert scenario.database is not None
    server, name = scenario.database
    log = server.folder / "log"
    with psycopg.connect(server.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        before = log.stat().st_size
        scenario.breakpoints.release(point)
        refused = f'database "{name}" is not currently accepting connections'
        until(lambda: refused in log.read_bytes()[before:].decode(errors="replace"), what="somebody to be refused")
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@pytest.mark.slow
@pytest.mark.parametrize("victim", [*VICTIMS, "store's connection"])
@pytest.mark.parametrize("point", POINTS)
def test_it_is_lost_at(point: Checkpoint, victim: str, scenarios: Scenarios) -> None:
    """SQLite has no connection that could be lost: that column is PostgreSQL's."""
    with scenarios.case("postgresql" if victim not in VICTIMS else "sqlite") as scenario:
        hurt(scenario, point, VICTIMS.get(victim, store_connection))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["plan_stored", "delete_sent", "operation_done"])
def test_the_worker_tree_on_postgresql_at(point: Checkpoint, scenarios: Scenarios) -> None:
    """There the database's clock judges leases."""
    with scenarios.case("postgresql") as scenario:
        hurt(scenario, point, tree)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_is_asked_to_stop_at(point: Checkpoint, scenarios: Scenarios) -> None:
    """SIGTERM: what is under way is brought to its end within one batch; nothing is done twice, not even a reading."""
    with scenarios.case("sqlite") as scenario:
        scenario.come_to(point)
        scenario.terminate("worker")
        scenario.breakpoints.release(point)
        assert scenario.wait("worker", WARM) == 0
        scenario.intents_first()

        scenario.start_worker()

        well = time.monotonic()
        run = scenario.finished(scenario.run_id, timeout=SOON)
        scenario.whole(run, started=well)
        assert run.scans == 1
        assert scenario.taken_over(run.id) == 0
        for method in ("GET", "DELETE"):
            assert sorted(scenario.asked(method)) == sorted(item.decision.id for item in scenario.harness.items(run.id))
        listings = [
            request for request in scenario.requests("GET") if request["path"] == "/container-registry/v1/images"
        ]
        # By the scan, before the deletions, to verify them, and before each batch, of which one may be claimed again,
        # and that of the first deletion where others waited.
        assert len(listings) - 3 * len(REPOSITORIES) in (BATCHES, BATCHES + 1, BATCHES + 2)
