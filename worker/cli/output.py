"""Where results go: standard output, or a file that appears whole or not at all."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from worker.cli.errors import USAGE, CommandError


class Output:
    """Bytes or lines for standard output or a file. A context manager: an error inside leaves an old file as it was."""

    def __init__(self, path: Path | None, form: str) -> None:
        self.path = path
        self.form = form  # table, json or ndjson
        self._stream: BinaryIO = sys.stdout.buffer
        self._temporary: str | None = None

    def __enter__(self) -> "Output":
        if self.path is None:
            return self
        try:
            handle, self._temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:
            raise CommandError(f"--output {self.path}: {error.strerror}", USAGE) from error
        os.fchmod(handle, 0o666 & ~_umask())
        self._stream = os.fdopen(handle, "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary is None or self.path is None:
            if kind is None:
                with _told("standard output"):
                    self._stream.flush()
            return
        try:
            with _told(f"--output {self.path}"), self._stream:
                self._stream.flush()
                os.fsync(self._stream.fileno())
                if kind is None:
                    os.replace(self._temporary, self.path)
                    self._temporary = None
        finally:
            if self._temporary is not None:
                Path(self._temporary).unlink(missing_ok=True)

    @property
    def width(self) -> int | None:
        """Columns of the terminal that the result goes to; None where it is none."""
        if self.path is not None or not sys.stdout.isatty():
            return None
        return os.get_terminal_size(sys.stdout.fileno()).columns or None

    def line(self, text: str = "") -> None:
        self.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def write(self, content: bytes) -> None:
        with _told("standard output" if self.path is None else f"--output {self.path}"):
            self._stream.write(content)

    def report(
        self,
        *,
        table: Callable[[int | None], Iterable[str]],
        json: Callable[[], Iterable[bytes]],
        ndjson: Callable[[], Iterable[bytes]],
    ) -> None:
        """Write the report in the form that was asked for; only that one is made. `table` is told the width."""
        if self.form == "table":
            for line in table(self.width):
                self.line(line)
            return
        for piece in json() if self.form == "json" else ndjson():
            self.write(piece)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """A full disk by its name; a reader that has enough stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{where}: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
