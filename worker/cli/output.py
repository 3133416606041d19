"""Writes results to standard output, or to a file that appears only when it is complete."""

import errno
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
class OutputFile:
    """The file of `--output`, checked before the command does its work."""

    named: Path  # as the user wrote it
    path: Path  # with all symbolic links resolved
    status: os.stat_result | None  # None: the file does not exist

    @classmethod
    def check(cls, named: Path) -> "OutputFile":
        """Raises CommandError: the path is a folder, its folder does not exist, or it cannot be accessed."""
        path = Path(os.path.realpath(named))
        try:
            status = named.stat()
        except FileNotFoundError:
            if not path.parent.is_dir():
                message = f"--output {named}: the folder {path.parent} does not exist; create it, or name another file"
                raise CommandError(message, USAGE) from None
            return cls(named, path, None)
        except OSError as error:
            raise CommandError(f"--output {named}: {error.strerror}; name another file", USAGE) from error
        if stat.S_ISDIR(status.st_mode):
            raise CommandError(f"--output {named}: this is a folder; name a file in it", USAGE)
        return cls(named, path, status)

    def temporary(self) -> tuple[int, str]:
        """A temporary file in the same folder, with the mode and owner of the final file. Raises OSError."""
        handle, path = tempfile.mkstemp(prefix=".registry-gc-", dir=self.path.parent)
        if self.status is None:
            os.umask(mask := os.umask(0))  # the only way to read the umask
            os.fchmod(handle, 0o666 & ~mask)
            return handle, path
        with suppress(PermissionError):  # only root may change the owner
            os.fchown(handle, self.status.st_uid, self.status.st_gid)
        os.fchmod(handle, stat.S_IMODE(self.status.st_mode))
        return handle, path


class Output:
    """A context manager that writes to standard output or a file. An error inside leaves a regular file unchanged."""

    def __init__(self, path: Path | None, form: str) -> None:
        self.path = path
        self.form = form  # table, json or ndjson
        self.on_terminal = path is None and sys.stdout.isatty()
        self._stream: BinaryIO = sys.stdout.buffer
        self._file: OutputFile | None = None
        self._temporary: str | None = None

    def __enter__(self) -> "Output":
        if self.path is None:
            return self
        self._file = OutputFile.check(self.path)
        try:
            if self._file.status is None or stat.S_ISREG(self._file.status.st_mode):
                handle, self._temporary = self._file.temporary()
            else:  # a device or a named pipe is written to
                handle = os.open(self._file.named, os.O_WRONLY)
        except OSError as error:
            raise CommandError(f"--output {self.path}: {error.strerror}", USAGE) from error
        self._stream = os.fdopen(handle, "wb")
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            if error_type is None:
                with _translate_errors("standard output"):
                    self._stream.flush()
            return
        try:
            with _translate_errors(f"--output {self.path}"), self._stream:
                self._stream.flush()
                if self._temporary is not None and error_type is None:
                    os.fsync(self._stream.fileno())
                    os.replace(self._temporary, self._file.path)
                    self._temporary = None
        finally:
            if self._temporary is not None:
                Path(self._temporary).unlink(missing_ok=True)

    def line(self, text: str = "") -> None:
        self.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def write(self, content: bytes) -> None:
        """Write UTF-8. On a terminal, characters that do not print become JSON escapes. Raises CommandError, for
        example on a full disk; BrokenPipeError passes. Call it inside `with`.
        """
        if self.on_terminal:
            content = plain_json(content.decode()).encode()
        with _translate_errors("standard output" if self.path is None else f"--output {self.path}"):
            self._stream.write(content)

    def report(self, report: Report) -> None:
        """Write the report in the format of --format."""
        if self.form == "table":
            columns = os.get_terminal_size(sys.stdout.fileno()).columns if self.on_terminal else 0  # 0: unknown
            for line in report.table(columns or None):
                self.line(line)
            return
        for piece in report.json() if self.form == "json" else report.ndjson():
            self.write(piece)


@contextmanager
def _translate_errors(where: str) -> Iterator[None]:
    """Adds the name of the output to an error such as a full disk. BrokenPipeError passes unchanged."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{where}: {'is closed' if error.errno == errno.EBADF else error.strerror}") from error
