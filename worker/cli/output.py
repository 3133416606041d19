"""Where results go: standard output, or a file that appears whole or not at all."""

import errno
import functools
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from worker.cli.errors import USAGE, CommandError
from worker.report.report import Report
from worker.text import plain_json


@dataclass(frozen=True)
class Place:
    """What `--output` names, found out before any work is done."""

    named: Path
    path: Path  # behind all symbolic links
    status: os.stat_result | None  # None: nothing is there yet

    @property
    def replaced(self) -> bool:
        """A regular file is replaced whole; what else is there (a device, a named pipe) is written through."""
        return self.status is None or stat.S_ISREG(self.status.st_mode)

    def temporary(self) -> tuple[int, str]:
        """A file beside the one to come, with its mode and owner. Raises OSError."""
        handle, path = tempfile.mkstemp(prefix=".registry-gc-", dir=self.path.parent)
        if self.status is None:
            os.umask(mask := os.umask(0))  # there is no other way to ask for it
            os.fchmod(handle, 0o666 & ~mask)
            return handle, path
        with suppress(PermissionError):  # only root gives files away
            os.fchown(handle, self.status.st_uid, self.status.st_gid)
        os.fchmod(handle, stat.S_IMODE(self.status.st_mode))
        return handle, path


def place_of(named: Path) -> Place:
    """Raises CommandError: it is a folder, or there is none to hold it."""
    path = Path(os.path.realpath(named))
    try:
        status = named.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            message = f"--output {named}: there is no folder {path.parent}; make it, or name another"
            raise CommandError(message, USAGE) from None
        return Place(named, path, None)
    except OSError as error:
        raise CommandError(f"--output {named}: {error.strerror}; name another file", USAGE) from error
    if stat.S_ISDIR(status.st_mode):
        raise CommandError(f"--output {named}: this is a folder; name a file in it", USAGE)
    return Place(named, path, status)


class Output:
    """Bytes or lines for standard output or a file. A context manager: an error inside leaves an old file as it was."""

    def __init__(self, path: Path | None, form: str) -> None:
        self.path = path
        self.form = form  # table, json or ndjson
        self._stream: BinaryIO = sys.stdout.buffer
        self._place: Place | None = None
        self._temporary: str | None = None

    def __enter__(self) -> "Output":
        if self.path is None:
            return self
        self._place = place_of(self.path)
        try:
            if self._place.replaced:
                handle, self._temporary = self._place.temporary()
            else:
                handle = os.open(self._place.named, os.O_WRONLY)
        except OSError as error:
            raise CommandError(f"--output {self.path}: {error.strerror}", USAGE) from error
        self._stream = os.fdopen(handle, "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._place is None:
            if kind is None:
                with _told("standard output"):
                    self._stream.flush()
            return
        try:
            with _told(f"--output {self.path}"), self._stream:
                self._stream.flush()
                if self._temporary is not None and kind is None:
                    os.fsync(self._stream.fileno())
                    os.replace(self._temporary, self._place.path)
                    self._temporary = None
        finally:
            if self._temporary is not None:
                Path(self._temporary).unlink(missing_ok=True)

    @functools.cached_property
    def on_terminal(self) -> bool:
        """Whether the result goes to a terminal, however wide that says it is."""
        return self.path is None and sys.stdout.isatty()

    @property
    def width(self) -> int | None:
        """Columns of the terminal that the result goes to; None where it is none, or does not say."""
        if not self.on_terminal:
            return None
        return os.get_terminal_size(sys.stdout.fileno()).columns or None

    def line(self, text: str = "") -> None:
        self.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def write(self, content: bytes) -> None:
        """UTF-8. On a terminal, what does not print becomes JSON's own code for it."""
        if self.on_terminal:
            content = plain_json(content.decode()).encode()
        with _told("standard output" if self.path is None else f"--output {self.path}"):
            self._stream.write(content)

    def report(self, report: Report) -> None:
        """Write the report in the form that was asked for; only that one is made."""
        if self.form == "table":
            for line in report.table(self.width):
                self.line(line)
            return
        for piece in report.json() if self.form == "json" else report.ndjson():
            self.write(piece)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """A full disk by its name; a reader that has enough stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{where}: {'is closed' if error.errno == errno.EBADF else error.strerror}") from error
