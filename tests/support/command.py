"""The command registry-gc as tests call it: in a process, with real streams and exit codes, but already loaded.

Loading the program takes far longer than most commands do. So one process of the tests' own loads it once, and each
call is a fork of that, with the caller's folder, environment and files for its output. What is about starting, about
signals or about who reads the output uses COMMAND: a fresh interpreter.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import pty
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import worker.cli
from worker.cli import main

COMMAND = (sys.executable, "-m", "worker.cli")
ROOT = Path(__file__).resolve().parents[2]


class Result:
    """The result of a call of the command."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def called(*words: str, cwd: Path, timeout: float = 60, **environ: str) -> Result:
    """Call registry-gc in a folder, without the settings of the tests' own environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_GC_")} | environ
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        asked = {"words": words, "cwd": str(cwd), "environ": environment, "seconds": timeout}
        code = _loaded().call(asked, out, err)
        out.seek(0)
        err.seek(0)
        return Result(code, out.read(), err.read())


def on_a_terminal(command: Sequence[str], cwd: Path, columns: int = 100) -> tuple[int, str]:
    """Run a command with a terminal as its standard output and error; return the output."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(command, cwd=cwd, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    written = b""
    try:
        while chunk := os.read(leader, 65536):
            written += chunk
    except OSError:
        pass  # how Linux reports that the other end is closed
    os.close(leader)
    return process.wait(30), written.decode()


class _Loaded:
    """The process that has the program loaded. It ends when we do, as its end of the socket is then closed."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        words = [sys.executable, "-m", "tests.support.command", str(theirs.fileno())]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket = ours

    def call(self, asked: dict[str, Any], out: IO[bytes], err: IO[bytes]) -> int:
        """The exit code; negative: the number of the signal that ended it."""
        answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with answer, tempfile.TemporaryFile() as words:
            words.write(json.dumps(asked).encode())
            words.seek(0)
            with theirs:
                handles = [theirs.fileno(), words.fileno(), out.fileno(), err.fileno()]
                socket.send_fds(self._socket, [b"."], handles)
            code = answer.recv(64)
        assert code, "the command was lost"
        return int(code)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(10)


_one: list[_Loaded] = []


def _loaded() -> _Loaded:
    if not _one:
        _one.append(_Loaded())
        atexit.register(_one[0].close)
    return _one[0]


def _load() -> None:
    """Load all that commands load, each when it is called."""
    for module in pkgutil.walk_packages(worker.cli.__path__, "worker.cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "worker.tasks",
        "worker.web",
        "worker.registries.oci.driver",
        "httpx",
        "rich.console",
        "rich.progress",
    ):
        importlib.import_module(name)


def _serve(asking: socket.socket) -> None:
    """Fork for every call, until the callers' end of the socket is closed."""
    _load()
    gc.freeze()
    while True:
        asked, handles, _, _ = socket.recv_fds(asking, 1, 4)
        if not asked:
            return
        if os.fork() == 0:
            asking.close()
            _see_through(*handles)
        for handle in handles:
            os.close(handle)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _see_through(answer: int, words: int, out: int, err: int) -> NoReturn:
    """The process of one call: starts the command in a child, and reports its exit code."""
    if (pid := os.fork()) == 0:
        os.close(answer)
        with open(words, "rb") as file:
            asked = json.load(file)
        _call(asked, out, err)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        os.write(answer, str(ended).encode())
    os._exit(0)


def _call(asked: dict[str, Any], out: int, err: int) -> NoReturn:
    code = 70
    try:
        os.setsid()
        signal.setitimer(signal.ITIMER_REAL, asked["seconds"])  # nothing catches its signal: it ends the command
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environ"])
        sys.path[0] = asked["cwd"]
        sys.argv = ["registry-gc", *asked["words"]]
        try:
            main()
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 0 if done.code is None else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
