"""One simulator a module, the command as a real process, and a night whose store it reads."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.night import Night
from tests.support.simulator.client import Simulator

COMMAND = (sys.executable, "-m", "worker.cli")


class Result:
    """What a call of the command left behind."""

    def __init__(self, done: "subprocess.CompletedProcess[bytes]") -> None:
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def called(*words: str, cwd: Path, timeout: float = 60, **environ: str) -> Result:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_GC_")}
    command = [*COMMAND, *words]
    done = subprocess.run(
        command, cwd=cwd, env=environment | environ, capture_output=True, timeout=timeout, check=False
    )
    return Result(done)


def on_a_terminal(command: Sequence[str], cwd: Path, columns: int = 100) -> tuple[int, str]:
    """Run a command with a terminal as its standard output and error; what it wrote there."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(command, cwd=cwd, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    written = b""
    try:
        while chunk := os.read(leader, 65536):
            written += chunk
    except OSError:
        pass  # how Linux says that nobody writes there any more
    os.close(leader)
    return process.wait(30), written.decode()


@pytest.fixture
def night(simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., Night]]:
    made: list[Night] = []

    def make(**registry: Any) -> Night:
        made.append(Night(simulator, tmp_path, **registry))
        return made[-1]

    yield make
    for one in made:
        one.store.dispose()


@pytest.fixture
def gc(tmp_path: Path) -> Callable[..., Result]:
    """Calls registry-gc in the test's folder."""

    def call(*words: str, **environ: str) -> Result:
        return called(*words, cwd=tmp_path, **environ)

    return call
