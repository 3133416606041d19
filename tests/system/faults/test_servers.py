"""Servers that refuse to serve: a full or read-only Redis, a full disk, a stopped PostgreSQL."""

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

NOBODY = 9  # a port on which no server listens


def full(redis: Redis) -> None:
    redis.config_set("maxmemory", 1)


def emptier(redis: Redis) -> None:
    redis.config_set("maxmemory", 0)


def read_only(redis: Redis) -> None:
    redis.execute_command("REPLICAOF", "127.0.0.1", NOBODY)


def master(redis: Redis) -> None:
    redis.execute_command("REPLICAOF", "NO", "ONE")


def locked(redis: Redis) -> None:
    """Change the password, and close the connections that signed in with the old one."""
    redis.config_set("requirepass", "another")
    redis.auth("another")
    for kind in ("normal", "pubsub"):
        redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def unlocked(redis: Redis) -> None:
    redis.config_set("requirepass", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "repair", "logged"),
    [
        pytest.param(full, emptier, "OutOfMemory|maxmemory", id="full"),
        pytest.param(read_only, master, "ReadOnlyError|read only replica", id="read-only"),
        pytest.param(locked, unlocked, "AuthenticationError|Authentication required", id="another password"),
    ],
)
@pytest.mark.parametrize("point", ["run_advanced", "intent_recorded"])
def test_a_run_survives_a_redis_that_refuses_commands(
    point: Checkpoint,
    spoil: Callable[[Redis], None],
    repair: Callable[[Redis], None],
    logged: str,
    scenarios: Scenarios,
) -> None:
    with scenarios.case("sqlite") as scenario, Redis(port=scenario.redis.port) as redis:
        scenario.come_to(point)
        before = len(scenario.log())
        spoil(redis)
        scenario.breakpoints.release(point)

        until(lambda: re.search(logged, scenario.log()[before:]), timeout=SOON, what=f"{logged} in the log")
        repair(redis)

        well = time.monotonic()
        scenario.check_invariants(scenario.finished(scenario.run_id, timeout=SOON, supervised=True), started=well)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inventory_taken", "intent_recorded", "operation_done"])
def test_a_run_survives_a_restart_of_postgresql(point: Checkpoint, scenarios: Scenarios) -> None:
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
        scenario.check_invariants(scenario.finished(scenario.run_id, timeout=SOON, supervised=True), started=well)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A separate file system of 3 MB."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"filling a disk needs the right to mount: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["inventory_taken", "image_read_again"])
def test_a_full_disk_of_the_store_stops_deletions_until_it_has_space(
    point: Checkpoint, running: Simulator, tmp_path: Path
) -> None:
    """No image is deleted, one log line reports it, and the run continues when the disk has space."""
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

            def wait_for_lines(times: int) -> None:
                message = "the store: database or disk is full"
                until(lambda: scenario.log().count(message, before) >= times, timeout=SOON, what=f"{times} lines of it")

            wait_for_lines(3)  # deletions with an intent from before the full disk are sent
            asked = len(scenario.asked("DELETE"))
            wait_for_lines(5)
            assert len(scenario.asked("DELETE")) == asked
            scenario.intents_first()
            assert "Traceback" not in scenario.log()[before:]
            ballast.unlink()

            well = time.monotonic()
            scenario.check_invariants(scenario.finished(scenario.run_id, timeout=SOON), started=well)


@pytest.mark.slow
def test_the_supervisor_restarts_workers_that_a_message_without_json_ended(tmp_path: Path) -> None:
    """By Celery's design a worker that takes such a message from the queue ends."""
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
