"""Real processes: Redis, a Celery worker with its pool, beat; halted at a named point, killed, started again."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from celery import Celery
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.command import Result, called
from tests.support.harness import Harness, Served
from tests.support.servers import RedisServer, redis_server
from tests.support.waiting import until
from worker.app import KEY_PREFIX
from worker.runs import lifecycle
from worker.runs.checkpoints import HALTS, Checkpoint
from worker.store import StoreError
from worker.store.runs import Run
from worker.web.metrics import StoreCollector

ROOT = Path(__file__).resolve().parents[2]
TIMING = {"reconcile": "1s", "lease": "2s"}


class Breakpoints:
    """Where processes are to stand still: see `worker/runs/checkpoints.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def arm(self, point: Checkpoint) -> None:
        """The next one that comes by stands still there, once."""
        (self.folder / point).touch()

    def is_reached(self, point: Checkpoint) -> bool:
        """Whether a process stands still there."""
        return (self.folder / f"{point}.halted").exists()

    def pid(self, point: Checkpoint) -> int:
        return int((self.folder / f"{point}.halted").read_text())

    def release(self, point: Checkpoint) -> None:
        (self.folder / f"{point}.halted").unlink()

    def clear(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()


class Cluster:
    """One configuration and the processes that serve it. Their output goes to files in the folder."""

    def __init__(
        self,
        served: Served,
        folder: Path,
        redis: RedisServer,
        *,
        ways: Mapping[str, Any] = MappingProxyType({}),
        **registry: Any,
    ) -> None:
        """`ways`: what the file says instead of how to reach the registry, Redis and the store straight."""
        self.redis = redis
        self.settings: dict[str, Any] = {"timing": TIMING, "redis": redis.url, **registry, **ways}
        self.harness = Harness(served, folder, **self.settings)
        self.folder = folder
        self.breakpoints = Breakpoints(folder / "halts")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        self.restarted: list[str] = []  # what `look_after` had to start again

    def start(self, name: str, *words: str, **environ: str) -> None:
        """`python -m words…`"""
        self._started[name] = words, environ
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def environ(self) -> dict[str, str]:
        ours = {"REGISTRY_GC_CONFIG": str(self.harness.path), "STATE_DIRECTORY": str(self.folder / "state")}
        return os.environ | ours | {HALTS: str(self.breakpoints.folder)}

    def start_worker(self, name: str = "worker", *, slots: int = 2) -> None:
        """Start a worker of all queues."""
        words = ["celery", "-A", "worker.app", "worker", "-n", f"{name}@%h", "-c", str(slots)]
        words += ["-Q", "gc.control,gc.scan,gc.delete", "--without-gossip", "--without-mingle"]
        self.start(name, *words)

    def start_beat(self, name: str = "beat") -> None:
        self.start(
            name, "celery", "-A", "worker.app", "beat", "--pidfile=", "-s", str(self.folder / f"{name}-schedule")
        )

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def restart_ended(self) -> None:
        """Start again what ended by itself, as a supervisor does."""
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                self.restarted.append(name)
                self.kill(name)  # with whatever it left behind
                words, environ = self._started[name]
                self.start(name, *words, **environ)

    def kill(self, name: str) -> None:
        """SIGKILL to the whole tree, and wait for it."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def terminate(self, name: str) -> None:
        """SIGTERM to the main process, as a process manager does it; `wait` sees it out."""
        self._processes[name].terminate()

    def wait(self, name: str, timeout: float) -> int:
        """The exit code of a process that is about to end."""
        code = self._processes[name].wait(timeout)
        self.kill(name)
        return code

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)

    def call(self, task: str, *arguments: Any) -> str:
        """Ring as any Celery client does; the id of the message."""
        caller = Celery("outside", broker=self.redis.url, set_as_current=False)
        caller.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
        with caller.connection_for_write() as connection:
            sent = caller.send_task(task, args=arguments, queue="gc.control", connection=connection)
        return str(sent.id)

    def call_sweep(self, arguments: str = '["production"]') -> subprocess.CompletedProcess[str]:
        """As a person does it by hand."""
        words = ["-m", "celery", "-A", "worker.app", "call", "gc.sweep", "--args", arguments]
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def log(self, name: str = "worker") -> str:
        return (self.folder / f"{name}.log").read_text()

    def finished(self, run_id: str, timeout: float = 60, *, supervised: bool = False) -> Run:
        """The run, once it is finished. `supervised`: what ends meanwhile is started again."""

        def over() -> Run | None:
            if supervised:
                self.restart_ended()
            try:
                run = lifecycle.get(self.harness.store, run_id)
            except StoreError:
                return None  # it is away: that is what some tests are about
            return run if run.state == "finished" else None

        found = until(over, timeout=timeout, what=f"the end of run {run_id}", every=0.1)
        assert found is not None
        return found


@contextlib.contextmanager
def cluster(served: Served, folder: Path, **registry: Any) -> Iterator[Cluster]:
    with redis_server() as redis:
        made = Cluster(served, folder, redis, **registry)
        try:
            yield made
        finally:
            made.stop()
            made.harness.store.dispose()


def forget(redis: RedisServer) -> None:
    """Take away what a Redis that does not run would start with."""
    for kept in redis.folder.iterdir():
        if kept.name != "redis.log":
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()


def command(made: Cluster, *words: str) -> Result:
    """A command as a person runs it, whatever its exit code."""
    return called(*words, cwd=ROOT, timeout=120, **made.environ)


def metric(made: Cluster, line: str) -> float:
    """One sample, as a scrape would tell it."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(lambda: contextlib.nullcontext(made.harness.store), lambda: made.harness.settings))
    text = generate_latest(registry).decode()
    (found,) = [row for row in text.splitlines() if row.startswith(line + " ")]
    return float(found.rpartition(" ")[2])
