"""Keeps programs running: restarts those that end, stops all of them in order, leaves no process behind.

Each program leads its own session, so that a signal to our process group (Ctrl-C at a terminal, a process manager) does
not reach a program's children: Celery loses tasks when a signal reaches its pool.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
SIGNALS = STOP_SIGNALS | {signal.SIGCHLD}
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a program that ended is restarted
STABLE_SECONDS = 60.0  # a program that ran this long is restarted after the first pause again
PR_SET_PDEATHSIG = 1  # prctl(2)

Say = Callable[[str], None]


class StoppedError(Exception):
    """A signal asked this process to stop."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command that the supervisor keeps running."""

    name: str
    command: tuple[str, ...]
    stop_seconds: float  # seconds between SIGTERM and SIGKILL
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)


class Child:
    """A program and its current process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.pause = FIRST_PAUSE
        self.started_at = 0.0
        self.start_at = 0.0  # time.monotonic() of the next start

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> int:
        """Start a process and return its id. Raises OSError."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            self.program.command,
            env=dict(self.program.environ),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_prepare(os.getpid()),  # noqa: PLW1509 -- this process has one thread
        )
        return self.process.pid

    def ended(self) -> int | None:
        """The exit code if the process has ended, negative after a signal. Its whole session is killed then."""
        if self.process is None:
            return None
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        if os.waitid(os.P_PID, self.process.pid, options) is None:
            return None
        self.kill()  # before wait() frees its id for another process
        code, self.process = self.process.wait(), None
        return code

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and its process group. Does nothing without a process. Call it before `wait`,
        which frees the id for another process.
        """
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def schedule_restart(self, now: float) -> float:
        """Choose the time of the next start; returns the seconds until then. `now`: of time.monotonic(). The pause
        doubles from 1 to 60 s; it is 1 s again after a process that ran for 60 s.
        """
        if now - self.started_at >= STABLE_SECONDS:
            self.pause = FIRST_PAUSE
        pause, self.pause = self.pause, min(self.pause * 2, LONGEST_PAUSE)
        self.start_at = now + pause
        return pause


def _prepare(parent: int) -> Callable[[], None]:
    """What a child does before its program starts: unblock signals, and arrange to be killed when we end."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        # A Ctrl-C may be pending from before the child had its own session: it must end the child, not raise.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o077)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # our process ended before prctl took effect
                os._exit(1)

    return prepare


class Supervisor:
    """Children in the order of their start. Use it inside `signals_blocked`, from the main thread."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._children: list[Child] = []

    def start(self, programs: Iterable[Program]) -> None:
        """Start programs in this order. A program that cannot be started raises nothing: `watch` tries it again."""
        for program in programs:
            child = Child(program)
            self._children.append(child)
            self._launch(child)

    def wait_until_ready(self, ready: Callable[[], bool], within: float) -> bool:
        """Whether `ready` holds within these seconds, before any program ends. Raises StoppedError."""
        since = time.monotonic()
        while not ready():
            if time.monotonic() - since > within or any(child.ended() is not None for child in self._children):
                return False
            self._wait(0.05)
        return True

    def watch(self) -> NoReturn:
        """Restart programs that end, until StoppedError."""
        while True:
            now = time.monotonic()
            for child in self._children:
                if (code := child.ended()) is not None:
                    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                    self._say(f"{child.program.name} {how}; it is restarted in {child.schedule_restart(now):g} s")
                elif child.process is None and child.start_at <= now:
                    self._launch(child)
            waiting = [child.start_at - now for child in self._children if child.process is None]
            self._wait(min(waiting, default=60.0))

    def _launch(self, child: Child) -> None:
        try:
            pid = child.start()
        except OSError as error:
            pause = child.schedule_restart(time.monotonic())
            self._say(f"{child.program.name} cannot be started: {error.strerror}; the next try is in {pause:g} s")
        else:
            self._say(f"{child.program.name} started (process {pid})")

    def _wait(self, seconds: float) -> None:
        """Wait for a signal, at most so long. Raises StoppedError."""
        received = signal.sigtimedwait(SIGNALS, max(0.0, seconds))
        if received is not None and received.si_signo in STOP_SIGNALS:
            raise StoppedError

    def stop(self, programs: Iterable[Program]) -> None:
        """Stop these programs, each within its `stop_seconds`. A further stop signal kills them at once."""
        ending = tuple(programs)
        stopping = [child for child in self._children if child.program in ending]
        self._children = [child for child in self._children if child not in stopping]
        if stopping:
            names = ", ".join(child.program.name for child in stopping)
            self._say(f"stopping {names}; a second signal kills at once")
        for child in stopping:
            child.terminate()
        since = time.monotonic()
        killed: list[Child] = []
        while running := [child for child in stopping if child.ended() is None and child.process is not None]:
            passed = time.monotonic() - since
            late = [child for child in running if passed >= child.program.stop_seconds and child not in killed]
            for child in late:
                self._say(f"{child.program.name} did not end within {child.program.stop_seconds:g} s and is killed")
                child.kill()
            killed += late
            limits = [child.program.stop_seconds for child in running if child not in killed]
            try:
                self._wait(max(0.05, min(limits, default=passed) - passed))
            except StoppedError:
                for child in running:
                    child.kill()


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Signals stay pending until the supervisor reads them: none is lost, and none interrupts a start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        while signal.sigtimedwait(SIGNALS, 0) is not None:
            pass  # discard repeated stop signals, which would kill this process once unblocked
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
