"""Where results go: standard output, or a file that appears whole or not at all."""

import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from worker.cli.errors import USAGE, CommandError


class Output:
    """Bytes or lines for standard output or a file. A context manager: an error inside leaves an old file as it was."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
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
            self._stream.flush()
            return
        try:
            with self._stream:
                self._stream.flush()
                os.fsync(self._stream.fileno())
            if kind is None:
                os.replace(self._temporary, self.path)
                self._temporary = None
        except OSError as failure:
            raise CommandError(f"--output {self.path}: {failure.strerror}") from failure
        finally:
            if self._temporary is not None:
                Path(self._temporary).unlink(missing_ok=True)

    @property
    def stream(self) -> BinaryIO:
        return self._stream

    @property
    def width(self) -> int | None:
        """Columns of the terminal that the result goes to; None where it is none."""
        if self.path is not None or not sys.stdout.isatty():
            return None
        return os.get_terminal_size(sys.stdout.fileno()).columns or None

    def line(self, text: str = "") -> None:
        self._stream.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def write(self, content: bytes) -> None:
        self._stream.write(content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
