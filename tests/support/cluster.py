"""Real processes: Redis, a Celery worker with its pool, and beat; tests halt, kill and restart them."""

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
    """Breakpoints at the checkpoints of `worker/runs/checkpoints.py`: a folder that the processes watch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def arm(self, point: Checkpoint) -> None:
        """Halt the next process that reaches the checkpoint, once."""
        (self.folder / point).touch()

    def is_reached(self, point: Checkpoint) -> bool:
        """Whether a process is halted at the checkpoint."""
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
        """`ways`: configuration keys that lead to the registry, Redis or the store through a proxy."""
        self.redis = redis
        self.settings: dict[str, Any] = {"timing": TIMING, "redis": redis.url, **registry, **ways}
        self.harness = Harness(served, folder, **self.settings)
        self.folder = folder
        self.breakpoints = Breakpoints(folder / "halts")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        self.restarted: list[str] = []  # names of the processes that `restart_ended` started again

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
        """Start every process again that ended by itself, as a supervisor does."""
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                self.restarted.append(name)
                self.kill(name)  # its pool children too
                words, environ = self._started[name]
                self.start(name, *words, **environ)

    def kill(self, name: str) -> None:
        """Send SIGKILL to the process and its children, and wait for its end."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def terminate(self, name: str) -> None:
        """Send SIGTERM to the main process, as a process manager does; `wait` waits for its end."""
        self._processes[name].terminate()

    def wait(self, name: str, timeout: float) -> int:
        """The exit code of a process that ends within `timeout` seconds; its children are killed afterwards."""
        code = self._processes[name].wait(timeout)
        self.kill(name)
        return code

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)

    def call(self, task: str, *arguments: Any) -> str:
        """Publish a task as any Celery client does; the id of its message."""
        caller = Celery("outside", broker=self.redis.url, set_as_current=False)
        caller.conf.broker_transport_options = {"global_keyprefix": KEY_PREFIX}
        with caller.connection_for_write() as connection:
            sent = caller.send_task(task, args=arguments, queue="gc.control", connection=connection)
        return str(sent.id)

    def call_sweep(self, arguments: str = '["production"]') -> subprocess.CompletedProcess[str]:
        """Call gc.sweep by the command of the documentation."""
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
        """The run when it is finished. `supervised`: restart processes that end before that."""

        def over() -> Run | None:
            if supervised:
                self.restart_ended()
            try:
                run = lifecycle.get(self.harness.store, run_id)
            except StoreError:
                return None  # some tests stop the store
            return run if run.state == "finished" else None

        finished = until(over, timeout=timeout, what=f"the end of run {run_id}", every=0.1)
        assert finished is not None
        return finished


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
    """Delete the files that a stopped Redis would load when it starts."""
    for path in redis.folder.iterdir():
        if path.name != "redis.log":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def command(made: Cluster, *words: str) -> Result:
    """Run a command of registry-gc, whatever its exit code."""
    return called(*words, cwd=ROOT, timeout=120, **made.environ)


def metric(made: Cluster, line: str) -> float:
    """The value of one sample of a scrape."""
    registry = CollectorRegistry()
    registry.register(StoreCollector(lambda: contextlib.nullcontext(made.harness.store), lambda: made.harness.settings))
    text = generate_latest(registry).decode()
    (sample,) = [row for row in text.splitlines() if row.startswith(line + " ")]
    return float(sample.rpartition(" ")[2])
