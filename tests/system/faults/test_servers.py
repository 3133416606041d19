"""Servers that are there and will not serve: a full or read-only Redis, a full disk, a PostgreSQL that was stopped."""

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.support.sandbox import OURS, Sandbox
from tests.support.scenario import SOON, Scenario
from tests.support.scenarios import Scenarios
from tests.support.servers import redis_server
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.runs.checkpoints import Checkpoint

NOBODY = 9  # a port at which nobody is a master


def full(redis: Redis) -> None:
    redis.config_set("maxmemory", 1)


def emptier(redis: Redis) -> None:
    redis.config_set("maxmemory", 0)


def read_only(redis: Redis) -> None:
    redis.execute_command("REPLICAOF", "127.0.0.1", NOBODY)


def master(redis: Redis) -> None:
    redis.execute_command("REPLICAOF", "NO", "ONE")


def locked(redis: Redis) -> None:
    """Another password by now: who is in stays in, so everybody is shown out."""
    redis.config_set("requirepass", "another")
    redis.auth("another")
    for kind in ("normal", "pubsub"):
        redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def unlocked(redis: Redis) -> None:
    redis.config_set("requirepass", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "mend", "says"),
    [
        pytest.param(full, emptier, "OutOfMemory|maxmemory", id="full"),
        pytest.param(read_only, master, "ReadOnlyError|read only replica", id="read-only"),
        pytest.param(locked, unlocked, "AuthenticationError|Authentication required", id="another password"),
    ],
)
@pytest.mark.parametrize("point", ["run_advanced", "intent_recorded"])
def test_redis_will_not_serve(
    point: Checkpoint, spoil: Callable[[Redis], None], mend: Callable[[Redis], None], says: str, scenarios: Scenarios
) -> None:
    with scenarios.case("sqlite") as scenario, Redis(port=scenario.redis.port) as redis:
        scenario.come_to(point)
        before = len(scenario.log())
        spoil(redis)
        scenario.breakpoints.release(point)

        until(lambda: re.search(says, scenario.log()[before:]), timeout=SOON, what=f"{says} in the log")
        mend(redis)

        well = time.monotonic()
        scenario.whole(scenario.finished(scenario.run_id, timeout=SOON, supervised=True), started=well)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inventory_taken", "intent_recorded", "operation_done"])
def test_postgresql_is_stopped_and_started(point: Checkpoint, scenarios: Scenarios) -> None:
    with scenarios.case("postgresql") as scenario:
        scenario.come_to(point)
        assert scenario.database is not None
        server, _ = scenario.database
        before = len(scenario.log())
        server.stop()
        scenario.breakpoints.release(point)
        until(lambda: "the store: " in scenario.log()[before:], timeout=SOON, what="the store's absence in the log")
        server.start()

        well = time.monotonic()
        scenario.whole(scenario.finished(scenario.run_id, timeout=SOON, supervised=True), started=well)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 3 MB of its own."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"only who may mount can fill a disk for it: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inventory_taken", "image_read_again"])
def test_the_disk_under_the_store_is_full(point: Checkpoint, running: Simulator, tmp_path: Path) -> None:
    """Nothing is deleted, one line says so, and with room again it goes on."""
    running.reset()
    with small_disk(tmp_path / "disk") as disk, redis_server() as redis:
        scenario = Scenario(running, tmp_path, redis, ways={"store": f"sqlite:///{disk}/gc.db"})
        with contextlib.ExitStack() as stack:
            stack.callback(scenario.harness.store.dispose)
            stack.callback(scenario.stop)
            scenario.start_worker()
            scenario.start_beat()
            scenario.come_to(point)
            ballast = disk / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)
            before = len(scenario.log())
            scenario.breakpoints.release(point)

            def said(times: int) -> None:
                message = "the store: database or disk is full"
                until(lambda: scenario.log().count(message, before) >= times, timeout=SOON, what=f"{times} lines of it")

            said(3)  # what was intended before the disk was full, is through
            asked = len(scenario.asked("DELETE"))
            said(5)
            assert len(scenario.asked("DELETE")) == asked
            scenario.intents_first()
            assert "Traceback" not in scenario.log()[before:]
            ballast.unlink()

            well = time.monotonic()
            scenario.whole(scenario.finished(scenario.run_id, timeout=SOON), started=well)


@pytest.mark.slow
def test_garbage_in_a_queue_ends_a_worker_and_its_supervisor_starts_it_again(tmp_path: Path) -> None:
    """By design of Celery: what is no JSON at all is taken from the queue, and the worker ends."""
    with redis_server() as server, Redis(port=server.port) as redis:
        sandbox = Sandbox(tmp_path, redis=server.url)
        with sandbox.running(*OURS, "worker") as worker:
            until(lambda: worker.log().count(" ready.") == 3, what="three nodes")
            for queue in ("gc.control", "gc.scan", "gc.delete"):
                redis.lpush(f"registry-gc:{queue}", "not json")
            for name in ("control", "scan", "delete"):
                worker.says(f"worker {name} ended with exit code 1; it is restarted in 1 s")
            until(lambda: worker.log().count(" ready.") == 6, what="three nodes again")
            assert [redis.llen(f"registry-gc:{queue}") for queue in ("gc.control", "gc.scan", "gc.delete")] == [0, 0, 0]
