"""Shares the parts of an inventory out between this process and others of our own interpreter.

Subprocesses, not a pool of multiprocessing: a child of Celery's pool may not have children of that kind.
"""

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, cast

from policies.registry_summary import Across
from worker.planning.offline.part import Decider, Job, Outcome, Part, send

# The same modules as here, whatever folder this runs in.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from worker.planning.offline.part import main; main()"
)

Task = tuple[Part, Across | None, frozenset[str]]


class CrewError(Exception):
    """A process that was deciding ended before its answer."""

    exit_code = 1


class _Member(Protocol):
    def take(self, part: Part, across: Across | None, only: frozenset[str]) -> Outcome: ...
    def close(self) -> None: ...


class _Process:
    """A decider in a process of its own. It ends when its input closes, so also when we do."""

    def __init__(self, job: Job, name: str) -> None:
        command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._say((job, name))

    def take(self, part: Part, across: Across | None, only: frozenset[str]) -> Outcome:
        self._say((part, across, only))
        assert self._process.stdout is not None  # noqa: S101 - opened above
        try:
            return cast(Outcome, pickle.load(self._process.stdout))  # noqa: S301 - from our own child's pipe
        except EOFError:
            raise self._ended() from None

    def close(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(BrokenPipeError):  # it ended already
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def _say(self, message: object) -> None:
        assert self._process.stdin is not None  # noqa: S101 - opened above
        try:
            send(message, self._process.stdin)
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> CrewError:
        return CrewError(f"a process that was deciding ended with exit code {self._process.wait()}")


class Crew:
    """`processes` deciders, this process being one of them. A context manager: leaving it ends the others."""

    def __init__(self, job: Job, processes: int) -> None:
        self._own = Decider(job, "0")
        self._others: list[_Process] = []
        try:
            for number in range(1, processes):
                self._others.append(_Process(job, str(number)))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._own.close()
        for member in self._others:
            member.close()

    def decide(self, tasks: Iterable[Task]) -> list[Outcome]:
        """What came of each part, in the order of the file; after one that went wrong no further part is begun."""
        outcomes: list[Outcome] = []
        queue = _Queue(iter(tasks))

        def work(member: _Member) -> None:
            for task in queue:
                outcome = member.take(*task)
                outcomes.append(outcome)
                if outcome.mixed or outcome.error is not None:
                    queue.stop()

        with ThreadPoolExecutor(max(len(self._others), 1)) as threads:
            running = [threads.submit(work, member) for member in self._others]
            try:
                work(self._own)
            finally:
                queue.stop()
            for one in running:
                one.result()
        return sorted(outcomes, key=lambda outcome: outcome.part.number)


class _Queue:
    """Tasks for whoever is free next."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def __iter__(self) -> Iterator[Task]:
        while True:
            with self._lock:
                task = None if self._stopped else next(self._tasks, None)
            if task is None:
                return
            yield task
