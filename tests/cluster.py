"""Real processes: Redis, a Celery worker with its pool, beat; halted at a named point, killed, started again."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.night import Night
from tests.servers import RedisServer, redis_server
from tests.simulator.client import Simulator
from tests.waiting import until
from worker import runs
from worker.checkpoints import Checkpoint
from worker.store.runs import Run

ROOT = Path(__file__).resolve().parents[1]
TIMING = {"reconcile": "1s", "lease": "2s"}


class Cluster:
    """One configuration and the processes that serve it. Their output goes to files in the folder."""

    def __init__(self, simulator: Simulator, folder: Path, redis: RedisServer, **registry: Any) -> None:
        self.redis = redis
        self.night = Night(simulator, folder, **{"timing": TIMING, "redis": redis.url, **registry})
        self.folder = folder
        self.run_id = ""  # of the run a test is about
        self._flags = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *words: str, **environ: str) -> None:
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
        return os.environ | {"REGISTRY_GC_CONFIG": str(self.night.path), "STATE_DIRECTORY": str(self.folder / "state")}

    def start_worker(self, name: str = "worker", *, halt_at: Checkpoint | None = None) -> Path | None:
        """Start a worker of all queues; with `halt_at` it stands still there once, and makes the returned file."""
        queues = "gc.control,gc.scan,gc.delete"
        words = ["celery", "-A", "worker.app", "worker", "-n", f"{name}@%h", "-Q", queues, "-c", "2"]
        flag = None
        environ: dict[str, str] = {}
        if halt_at is not None:
            self._flags += 1
            flag = self.folder / f"halted-{self._flags}"
            environ = {"REGISTRY_GC_HALT_AT": halt_at, "REGISTRY_GC_HALT_FILE": str(flag)}
        self.start(name, *words, "--without-gossip", "--without-mingle", **environ)
        return flag

    def start_beat(self, name: str = "beat") -> None:
        self.start(
            name, "celery", "-A", "worker.app", "beat", "--pidfile=", "-s", str(self.folder / f"{name}-schedule")
        )

    def kill(self, name: str) -> None:
        """SIGKILL to the whole tree, and wait for it."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for name in list(self._processes):
            self.kill(name)

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

    def finished(self, run_id: str, timeout: float = 60) -> Run:
        """The run, once it is finished."""

        def over() -> Run | None:
            run = runs.get(self.night.store, run_id)
            return run if run.state == "finished" else None

        found = until(over, timeout=timeout, what=f"the end of run {run_id}", every=0.1)
        assert found is not None
        return found


@contextlib.contextmanager
def cluster(simulator: Simulator, folder: Path, **registry: Any) -> Iterator[Cluster]:
    with redis_server() as redis:
        made = Cluster(simulator, folder, redis, **registry)
        try:
            yield made
        finally:
            made.stop()
