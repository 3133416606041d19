"""A secret as the configuration names it: where it can be read, never what it is."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.config.files import read_file

MAX_BYTES = 64 * 1024  # a service-account key has about 2.5 KiB


@dataclass(eq=False)
class SecretError(Exception):
    """A secret cannot be read. Names the file or the variable, never a value."""

    exit_code = 1

    where: str  # "file /run/secrets/token" or "environment variable YC_TOKEN"
    what: str  # "is empty"

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


@dataclass(frozen=True, slots=True)
class Secret:
    """A file or an environment variable that holds a secret; read anew at each call, so that it may be rotated."""

    file: Path | None = None
    env: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False, compare=False, hash=False)

    @property
    def where(self) -> str:
        return f"file {self.file}" if self.file is not None else f"environment variable {self.env}"

    def read(self) -> str:
        """The secret without surrounding white space. Raises SecretError."""
        text = self._from_file(self.file) if self.file is not None else self._from_environment()
        text = text.strip()
        if not text:
            raise SecretError(self.where, "is empty")
        return text

    def _from_environment(self) -> str:
        value = self.environ.get(self.env or "")
        if value is None:
            raise SecretError(self.where, "is not set")
        return value

    def _from_file(self, file: Path) -> str:
        try:
            content = read_file(file, MAX_BYTES)
        except FileNotFoundError:
            raise SecretError(self.where, "does not exist") from None
        except OSError as error:
            raise SecretError(self.where, f"cannot be read: {error.strerror}") from error
        if len(content) > MAX_BYTES:
            raise SecretError(self.where, "is larger than 64 KiB")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            # Without a cause: the decoding error would carry the bytes.
            raise SecretError(self.where, "is not text in UTF-8") from None
