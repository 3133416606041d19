"""Keeps programs running: starts again what ends, stops all of them in good order, leaves no process behind.

Knows nothing of what they do. Each program leads a session of its own, so that a signal to our group (Ctrl-C at a
terminal, a process manager) does not reach a program's children: Celery loses tasks when its pool gets one.
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
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a program that ended is started again
SETTLED = 60.0  # seconds after which a program counts as well, and its pause is short again
PR_SET_PDEATHSIG = 1  # prctl(2)

Say = Callable[[str], None]


class StoppedError(Exception):
    """We were asked to stop."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be kept running."""

    name: str
    command: tuple[str, ...]
    stop_seconds: float  # seconds it may take to end after SIGTERM, before it is killed
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)


class Child:
    """A program and its present process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.pause = FIRST_PAUSE
        self.started_at = 0.0
        self.start_at = 0.0  # time.monotonic() at which it is to be started again

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> int:
        """The number of its new process. Raises OSError."""
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
        """The exit code if it has ended, a killed one's negative; whatever it left in its session is killed as well."""
        if self.process is None:
            return None
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        if os.waitid(os.P_PID, self.process.pid, options) is None:
            return None
        self.kill()  # while its number is still taken: later it could be another's
        code, self.process = self.process.wait(), None
        return code

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def put_off(self, now: float) -> float:
        """Choose when to start again after an end; the seconds until then."""
        if now - self.started_at >= SETTLED:
            self.pause = FIRST_PAUSE
        pause, self.pause = self.pause, min(self.pause * 2, LONGEST_PAUSE)
        self.start_at = now + pause
        return pause


def _prepare(parent: int) -> Callable[[], None]:
    """What a child does before its program: hear signals again, and never outlive us, however we end."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        # A Ctrl-C from before the child had a session of its own is still pending: it is to end it, not to raise.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o077)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # we ended before the line above
                os._exit(1)

    return prepare


class Supervisor:
    """Children in the order of their start. Use it inside `signals_held`, from the main thread."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._children: list[Child] = []

    def start(self, programs: Iterable[Program]) -> None:
        for program in programs:
            child = Child(program)
            self._children.append(child)
            self._launch(child)

    def came_up(self, ready: Callable[[], bool], within: float) -> bool:
        """Whether `ready` holds within so many seconds, before any program ends. Raises StoppedError."""
        since = time.monotonic()
        while not ready():
            if time.monotonic() - since > within or any(child.ended() is not None for child in self._children):
                return False
            self._wait(0.05)
        return True

    def watch(self) -> NoReturn:
        """Start again what ends, for ever. Raises StoppedError."""
        while True:
            now = time.monotonic()
            for child in self._children:
                if (code := child.ended()) is not None:
                    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                    self._say(f"{child.program.name} {how}; it is started again in {child.put_off(now):g} s")
                elif child.process is None and child.start_at <= now:
                    self._launch(child)
            waiting = [child.start_at - now for child in self._children if child.process is None]
            self._wait(min(waiting, default=60.0))

    def _launch(self, child: Child) -> None:
        try:
            pid = child.start()
        except OSError as error:
            pause = child.put_off(time.monotonic())
            self._say(f"{child.program.name} cannot be started: {error.strerror}; tried again in {pause:g} s")
        else:
            self._say(f"{child.program.name} started (process {pid})")

    def _wait(self, seconds: float) -> None:
        """Until a signal, at most so long."""
        matched = signal.sigtimedwait(SIGNALS, max(0.0, seconds))
        if matched is not None and matched.si_signo in STOP_SIGNALS:
            raise StoppedError

    def stop(self, programs: Iterable[Program]) -> None:
        """End these programs, each in its own patience; one more request to stop kills at once."""
        ending = tuple(programs)
        stopping = [child for child in self._children if child.program in ending]
        self._children = [child for child in self._children if child not in stopping]
        if stopping:
            names = ", ".join(child.program.name for child in stopping)
            self._say(f"stopping {names}; asked again, it kills at once")
        for child in stopping:
            child.terminate()
        self._see_out(stopping, time.monotonic())

    def _see_out(self, stopping: list[Child], since: float) -> None:
        killed: list[Child] = []
        while left := [child for child in stopping if child.ended() is None and child.process is not None]:
            passed = time.monotonic() - since
            late = [child for child in left if passed >= child.program.stop_seconds and child not in killed]
            for child in late:
                self._say(f"{child.program.name} did not end within {child.program.stop_seconds:g} s and is killed")
                child.kill()
            killed += late
            nearest = (
                min((child.program.stop_seconds for child in left if child not in killed), default=passed) - passed
            )
            try:
                self._wait(max(0.05, nearest))
            except StoppedError:
                for child in left:
                    child.kill()


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals wait until the supervisor asks for them: none is lost between two looks, none interrupts a start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        while signal.sigtimedwait(SIGNALS, 0) is not None:
            pass  # asked to stop again while ending: that is no reason to be killed by it
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
