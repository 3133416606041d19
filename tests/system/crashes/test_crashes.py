"""Something is lost at each named point of a run, from opening to finish: the same list must hold each time."""

import os
import signal
import time
from collections.abc import Callable
from typing import get_args

import psycopg
import pytest

from tests.support.cluster import forget
from tests.support.drill import REPOSITORIES, SOON, Drill
from tests.support.drills import Drills
from tests.support.waiting import until
from worker.runs.checkpoints import Checkpoint

POINTS = get_args(Checkpoint)
WARM = 20.0  # seconds: one batch of twelve images, and a machine of two cores that does other things as well
BATCHES = 3  # two waves of the one repository, one of the other


def child(drill: Drill, point: Checkpoint, pid: int) -> None:
    """The pool's child that is at this point; the worker starts another."""
    os.kill(pid, signal.SIGKILL)
    drill.halts.release(point)


def tree(drill: Drill, point: Checkpoint, _pid: int) -> None:
    """The worker with all its children."""
    drill.kill("worker")
    drill.halts.release(point)
    drill.start_worker()


def beat(drill: Drill, point: Checkpoint, _pid: int) -> None:
    drill.kill("beat")
    drill.halts.release(point)
    drill.start_beat()


def redis_with_its_file(drill: Drill, point: Checkpoint, _pid: int) -> None:
    drill.lost_redis = True
    drill.redis.kill()
    drill.halts.release(point)
    drill.redis.start()


def redis_empty(drill: Drill, point: Checkpoint, _pid: int) -> None:
    """Another Redis in its place, that knows nothing."""
    drill.lost_redis = True
    drill.redis.kill()
    forget(drill.redis)
    drill.halts.release(point)
    drill.redis.start()


def emptied(drill: Drill, point: Checkpoint, _pid: int) -> None:
    """The same Redis, emptied under connections that stay."""
    drill.redis.empty()
    drill.halts.release(point)


VICTIMS: dict[str, Callable[[Drill, Checkpoint, int], None]] = {
    "worker child": child,
    "worker tree": tree,
    "beat": beat,
    "redis with its file": redis_with_its_file,
    "redis empty": redis_empty,
    "redis's content": emptied,
}


def hurt(drill: Drill, point: Checkpoint, victim: Callable[[Drill, Checkpoint, int], None]) -> None:
    pid = drill.come_to(point)

    victim(drill, point, pid)

    well = time.monotonic()
    drill.whole(drill.finished(drill.run_id, timeout=SOON, supervised=True), started=well)
    # Celery's worker may die of a lost Redis, even seconds later: kombu fails over what it has not acknowledged. Then
    # its supervisor starts it again. Of nothing else that is done to it here it dies.
    assert not drill.came_back or drill.lost_redis


def store_connection(drill: Drill, point: Checkpoint, _pid: int) -> None:
    """Every connection to the store is cut, and none is let in until a process has been refused."""
    assert drill.database is not None
    server, name = drill.database
    log = server.folder / "log"
    with psycopg.connect(server.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        before = log.stat().st_size
        drill.halts.release(point)
        refused = f'database "{name}" is not currently accepting connections'
        until(lambda: refused in log.read_bytes()[before:].decode(errors="replace"), what="somebody to be refused")
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@pytest.mark.slow
@pytest.mark.parametrize("victim", [*VICTIMS, "store's connection"])
@pytest.mark.parametrize("point", POINTS)
def test_it_is_lost_at(point: Checkpoint, victim: str, drills: Drills) -> None:
    """SQLite has no connection that could be lost: that column is PostgreSQL's."""
    with drills.case("postgresql" if victim not in VICTIMS else "sqlite") as drill:
        hurt(drill, point, VICTIMS.get(victim, store_connection))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["plan_stored", "delete_sent", "operation_done"])
def test_the_worker_tree_on_postgresql_at(point: Checkpoint, drills: Drills) -> None:
    """There the database's clock judges leases."""
    with drills.case("postgresql") as drill:
        hurt(drill, point, tree)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_is_asked_to_stop_at(point: Checkpoint, drills: Drills) -> None:
    """SIGTERM: what is under way is brought to its end within one batch; nothing is done twice, not even a reading."""
    with drills.case("sqlite") as drill:
        drill.come_to(point)
        drill.terminate("worker")
        drill.halts.release(point)
        assert drill.wait("worker", WARM) == 0
        drill.intents_first()

        drill.start_worker()

        well = time.monotonic()
        run = drill.finished(drill.run_id, timeout=SOON)
        drill.whole(run, started=well)
        assert run.scans == 1
        assert drill.taken_over(run.id) == 0
        for method in ("GET", "DELETE"):
            assert sorted(drill.asked(method)) == sorted(one.decision.id for one in drill.night.items(run.id))
        listings = [one for one in drill.requests("GET") if one["path"] == "/container-registry/v1/images"]
        # By the scan, before the deletions, to verify them, and before each batch, of which one may be claimed again.
        assert len(listings) - 3 * len(REPOSITORIES) in (BATCHES, BATCHES + 1)
