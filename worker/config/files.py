"""Reads files, pipes and the output of programs, and names the folders for this machine's own files.

Nothing waits for a named pipe without a writer. A pipe with a writer is read: process substitution (`<(…)`, which is
/dev/fd/N) creates one.
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

PIECE = 1 << 16  # bytes: the capacity of a pipe
SILENCE_SECONDS = 10.0  # of a pipe's writer, for small files
WRITER_SECONDS = 3.0  # wait for a writer, where pipes are usual
DESCRIPTORS = ("/dev/fd/", "/proc/", "/dev/std")


def read_file(path: Path, most: int) -> bytes:
    """The content of a small file, at most `most` + 1 bytes. Raises OSError."""
    content, size = [], 0
    with closing(_pieces(path, writer=0.0, silence=SILENCE_SECONDS)) as pieces:
        for piece in pieces:
            content.append(piece)
            size += len(piece)
            if size > most:
                break
    return b"".join(content)[: most + 1]


def stream(path: Path) -> Iterator[bytes]:
    """The content of a file or a pipe, piece by piece, without a time limit for its writer. Raises OSError."""
    return _pieces(path, writer=WRITER_SECONDS, silence=None)


def _pieces(path: Path, writer: float, silence: float | None) -> Generator[bytes]:
    # Non-blocking: opening a named pipe without a writer would wait forever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        piece = _next(handle, path, silence)
        ends = time.monotonic() + writer
        while not piece and is_named_pipe(path):
            if time.monotonic() >= ends:
                raise OSError(errno.EPIPE, "it is a named pipe without a writer", str(path))
            time.sleep(0.02)  # no system call waits for the writer of an open pipe
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
                raise OSError(
                    errno.ETIMEDOUT, "it is not a regular file, and sent no data in time", str(path)
                ) from None


def is_named_pipe(path: Path) -> bool:
    """Whether the path is a named pipe. A pipe that the shell has opened for this process does not count. False if the
    path does not exist or cannot be accessed. Opens nothing, so it never waits for a writer.
    """
    try:
        return stat.S_ISFIFO(path.stat().st_mode) and not str(path.absolute()).startswith(DESCRIPTORS)
    except OSError:
        return False


class PipeReader(threading.Thread):
    """Reads the output of a program to its end, or until `kept` is `enough`.

    A daemon thread: a child that the program left running may keep the pipe open.
    """

    def __init__(
        self,
        pipe: IO[bytes] | None,
        keep: Callable[[bytes], bytes],
        enough: Callable[[bytes], bool] = lambda _kept: False,
    ) -> None:
        """`keep`: returns the part of the output so far that is kept."""
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
        """The kept output after the program has ended; waits a moment for its last part. After `seconds`, the output so
        far: a child that the program left running may keep the pipe open.
        """
        self.join(seconds)
        return self.kept


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for files that outlive a process: systemd's state folder, or else the user's. It may not exist. Of
    several folders of systemd, the first counts. Source: systemd.exec(5), `StateDirectory=`; XDG Base Directory
    Specification, XDG_STATE_HOME.
    """
    if given := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    home = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or Path.home(), ".local", "state")
    return Path(home) / "registry-gc"


def own_redis_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The file with the URL of the Redis that `registry-gc up` runs."""
    return state_folder(environ) / "redis.url"


def private_folder(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A folder of the state folder that only this user can enter. Raises OSError. Created if it is absent; its mode
    becomes 0700 in any case. Missing parents get the default mode.
    """
    folder = state_folder(environ) / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder
