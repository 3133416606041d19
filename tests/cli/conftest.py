"""One simulator a module, the command as a real process, and a night whose store it reads."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.night import Night
from tests.simulator.client import Simulator

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


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Iterator[Simulator]:
    running.reset()
    yield running
    assert running.state()["refused"] == []


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
