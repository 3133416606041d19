"""`registry-gc up` keeps all processes of one machine running. `registry-gc worker` uses the same Celery nodes.

Each node reads its own queue, so that neither scans nor a backlog of deletions delay the control tasks, and scans never
take a slot from deletions.
"""

import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.config.files import own_redis_file, private_folder, state_folder
from worker.processes.embedded_redis import NoServerError, OwnRedis
from worker.processes.supervisor import Program, Say, StoppedError, Supervisor, signals_blocked

if TYPE_CHECKING:
    from worker.config.settings import Settings

REDIS_STARTS_WITHIN = 30.0  # seconds; a long append-only file takes a while to read


class AlreadyUpError(Exception):
    """Another `registry-gc up` uses this state folder."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Node:
    """A Celery worker: its queue, the number of parallel tasks, and the seconds that a stop waits for them."""

    queue: str
    slots: int
    stop_seconds: float


NODES: Mapping[str, Node] = {
    "control": Node("gc.control", slots=1, stop_seconds=30.0),
    # A scan deletes nothing and is repeated, so a stop does not wait for it.
    "scan": Node("gc.scan", slots=2, stop_seconds=10.0),
    # A stop waits for a batch: its hard time limit and a margin.
    "delete": Node("gc.delete", slots=2, stop_seconds=210.0),
}


def up(settings: "Settings", say: Say, *, verbose: bool = False) -> None:
    """Run Redis (if none is configured), the worker's nodes, beat and web until a signal stops them.

    Raises AlreadyUpError, NoServerError, OSError.
    """
    programs = _programs(settings, "beat", "web", verbose=verbose)
    with one_per_state_folder(), signals_blocked(), suppress(StoppedError):
        supervisor = Supervisor(say)
        with _own_redis(supervisor) if settings.redis is None else nullcontext():
            _run(supervisor, programs)


def run_worker(settings: "Settings", say: Say, *, verbose: bool = False) -> None:
    """Run only the worker's nodes until a signal stops them. Returns when all have ended; a second signal kills them at
    once. Starts no Redis. Call it from the main thread.
    """
    with signals_blocked(), suppress(StoppedError):
        _run(Supervisor(say), _programs(settings, verbose=verbose))


def _run(supervisor: Supervisor, programs: list[Program]) -> None:
    """Keep the programs running until StoppedError, then stop them. Our own Redis is stopped later."""
    try:
        supervisor.start(programs)
        supervisor.watch()
    finally:
        supervisor.stop(programs)


def _programs(settings: "Settings", *others: str, verbose: bool) -> list[Program]:
    """The worker's nodes, then other commands."""
    # -P: Python must not import a folder `worker` or `celery` of the working folder.
    python, options = (sys.executable, "-P", "-m", "worker.cli"), ["--verbose"] if verbose else []
    environ = {**os.environ, "REGISTRY_GC_CONFIG": str(settings.path)}
    seconds = {f"worker {name}": node.stop_seconds for name, node in NODES.items()} | dict.fromkeys(others, 10.0)
    return [
        Program(words, (*python, *words.split(), *options), stop_seconds, environ)
        for words, stop_seconds in seconds.items()
    ]


@contextmanager
def _own_redis(supervisor: Supervisor) -> Iterator[None]:
    """A running Redis of our own. It stops after everything that uses it."""
    redis = OwnRedis.prepare(private_folder("redis"))
    program = redis.program()
    try:
        supervisor.start([program])
        if not supervisor.wait_until_ready(redis.answers, REDIS_STARTS_WITHIN):
            raise NoServerError(f"our own Redis does not start: {redis.last_log_line()}")
        url_file = own_redis_file()
        new = url_file.with_suffix(".new")  # it replaces the file as a whole; only this user may read it
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"unix://{redis.socket}?db=0")
        new.replace(url_file)
        yield
    finally:
        own_redis_file().unlink(missing_ok=True)
        supervisor.stop([program])
        redis.remove_socket()


@contextmanager
def one_per_state_folder() -> Iterator[None]:
    """Raises AlreadyUpError. The kernel releases the lock when the process ends, however it ends."""
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyUpError(
                f"`registry-gc up` already uses the state folder {folder} (process {file.read().strip() or '?'})"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
