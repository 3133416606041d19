"""Reads what is expected to be a file, and what a program writes; and where this machine keeps files of its own.

Nothing waits for a named pipe that nobody writes to. A pipe that has a writer is read: process substitution (`<(…)`,
which is /dev/fd/N) makes one.
"""

import errno
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

PIECE = 1 << 16  # bytes: what a pipe holds
SILENCE_SECONDS = 10.0  # of a pipe's writer, where what is expected is small
WRITER_SECONDS = 3.0  # until a pipe has one, where pipes are usual
DESCRIPTORS = ("/dev/fd/", "/proc/", "/dev/std")


def read_file(path: Path, most: int) -> bytes:
    """What a small file holds, no more than `most` bytes and one. Raises OSError."""
    content, size = [], 0
    with closing(_pieces(path, writer=0.0, silence=SILENCE_SECONDS)) as pieces:
        for piece in pieces:
            content.append(piece)
            size += len(piece)
            if size > most:
                break
    return b"".join(content)[: most + 1]


def stream(path: Path) -> Iterator[bytes]:
    """What a file or a pipe holds, piece by piece, however long its writer takes. Raises OSError."""
    return _pieces(path, writer=WRITER_SECONDS, silence=None)


def _pieces(path: Path, writer: float, silence: float | None) -> Generator[bytes]:
    # Without waiting: opening a named pipe that nobody writes to would take for ever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        piece = _next(handle, path, silence)
        ends = time.monotonic() + writer
        while not piece and is_named_pipe(path):
            if time.monotonic() >= ends:
                raise OSError(errno.EPIPE, "it is a named pipe, and nobody writes to it", str(path))
            time.sleep(0.02)  # no call waits for the writer of a pipe that is open already
            piece = _next(handle, path, silence)
        while piece:
            yield piece
            piece = _next(handle, path, silence)
    finally:
        os.close(handle)


def _next(handle: int, path: Path, silence: float | None) -> bytes:
    while True:
        try:
            return os.read(handle, PIECE)
        except BlockingIOError:
            if not select.select([handle], [], [], silence)[0]:
                raise OSError(errno.ETIMEDOUT, "it is no regular file, and sent nothing in time", str(path)) from None


def is_named_pipe(path: Path) -> bool:
    """Whether there is a named pipe, which is no file; what a shell has opened for us is none."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode) and not str(path.absolute()).startswith(DESCRIPTORS)
    except OSError:
        return False


class PipeReader(threading.Thread):
    """Reads what a program writes, to the end or until `kept` is `enough`, whatever the program has left running.

    A daemon: what still holds the pipe may write for ever.
    """

    def __init__(
        self,
        pipe: IO[bytes] | None,
        keep: Callable[[bytes], bytes],
        enough: Callable[[bytes], bool] = lambda _kept: False,
    ) -> None:
        """`keep`: what is kept of what was read so far."""
        super().__init__(daemon=True)
        self._pipe, self._keep, self._enough = pipe, keep, enough
        self.kept = b""
        self.start()

    def run(self) -> None:
        if self._pipe is None:
            return
        with self._pipe as pipe, suppress(OSError):
            while not self._enough(self.kept) and (piece := os.read(pipe.fileno(), 4096)):
                self.kept = self._keep(self.kept + piece)

    def ended(self, seconds: float = 1.0) -> bytes:
        """What was kept, once the program has ended: what it wrote last may take a moment to be read."""
        self.join(seconds)
        return self.kept


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where one machine keeps what must outlive a process: systemd's folder for our state, else the user's.

    It may not be there yet.
    """
    if given := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or Path.home(), ".local", "state")
    return Path(home) / "registry-gc"


def own_redis_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where `registry-gc up` writes the URL of its own Redis while it runs."""
    return state_folder(environ) / "redis.url"


def private_folder(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A folder of the state folder that only this user can enter. Raises OSError."""
    folder = state_folder(environ) / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder
