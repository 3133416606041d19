"""A sandbox for our processes: a configuration and a state folder, the processes, their logs and their leftovers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import Result, called
from tests.support.servers import free_port
from tests.support.waiting import until

CELERY = (sys.executable, "-m", "celery", "-A", "worker.app")
OURS = (sys.executable, "-m", "worker.cli")
NOWHERE = "http://127.0.0.1:9"  # no process listens there


def registry(**changes: Any) -> dict[str, Any]:
    """The entry of a registry that cannot be reached: enough for everything before a scan."""
    endpoints = dict.fromkeys(("container_registry", "operation", "iam", "docker"), NOWHERE)
    own = {"kind": "yandex-container-registry", "id": "crp1", "credentials": {"iam_token": {"env": "TEST_TOKEN"}}}
    return {**own, "endpoints": endpoints, "policy": "nightly", **changes}


class Sandbox:
    """A folder with a configuration and a state folder; the processes started here find them by their environment."""

    def __init__(self, folder: Path, **document: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.path = folder / "registry-gc.yaml"
        self.state = folder / "state"
        self.write(**document)

    def write(self, **document: Any) -> None:
        whole = {
            "web": {"listen": f"127.0.0.1:{self.port}"},
            "timing": {"reconcile": "1s", "lease": "3s"},
            "registries": {"production": registry()},
            "policies": {"nightly": [{"name": "leftovers", "delete": {"untagged": True, "older_than": "7d"}}]},
        } | document
        self.path.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))

    @property
    def environ(self) -> dict[str, str]:
        ours = {"REGISTRY_GC_CONFIG": str(self.path), "STATE_DIRECTORY": str(self.state), "TEST_TOKEN": "t1.none"}
        return {**os.environ, **ours, "PYTHONUNBUFFERED": "1"}

    @contextmanager
    def running(self, *command: str, log: str = "log") -> Iterator["Running"]:
        """Run a command until the block ends; then kill every process of this sandbox."""
        with (self.folder / log).open("wb") as file:
            process = subprocess.Popen(
                command,
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # a signal to its group is not one to ours
            )
        try:
            yield Running(process, self.folder / log)
        finally:
            process.kill()
            process.wait()
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def call(self, *words: str) -> Result:
        """Call registry-gc in this folder, in a process that has already loaded it."""
        return called(*words, cwd=self.folder, **self.environ)

    def run(self, *command: str, timeout: float = 90, **environ: str) -> "subprocess.CompletedProcess[str]":
        environment = self.environ | environ
        return subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False
        )

    def pids(self) -> dict[int, str]:
        """Pid -> command of every process that was started in this sandbox, whatever its present parent."""
        mark = f"STATE_DIRECTORY={self.state}".encode()
        processes = {}
        for entry in Path("/proc").iterdir():
            try:
                if not entry.name.isdigit():
                    continue
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                started_here = mark in (entry / "environ").read_bytes().split(b"\0")
                # Redis writes its title over its environment, but its socket is in the title. A zombie has no words.
                if words and (started_here or str(self.state) in words):
                    processes[int(entry.name)] = words
            except OSError:
                continue  # it has just ended
        return processes

    def left_empty(self) -> None:
        """Wait until no process of this sandbox runs; a killed process takes a moment to end."""
        until(lambda: not self.pids(), timeout=20, what="the end of every process")


class Running:
    """A process and its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def events(self, **fields: Any) -> list[Mapping[str, Any]]:
        """The log's records that have these fields."""
        records = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [record for record in records if fields.items() <= record.items()]

    def says(self, text: str, *, timeout: float = 60) -> None:
        """Wait until the log has `text`; the error has the end of the log."""
        until(
            lambda: text in self.log() or self.process.poll() is not None, timeout=timeout, what=f"{text!r} in the log"
        )
        assert text in self.log(), self.log()[-2000:]

    def stop(self, *, timeout: float = 60) -> int:
        """SIGTERM; the exit code. Celery may wait 30 s for a pool process whose last result no process reads."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)
