"""A secret as the configuration names it: where it can be read, never its value.

Also reads other files that the configuration names: certificates and Docker's configuration.
"""

import json
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from policies.findings import TAG, Form
from policies.mistakes import BadValueError
from policies.units import shown
from worker.config.connection_urls import ENCODE
from worker.config.files import is_named_pipe, read_file

MAX_BYTES = 64 * 1024  # a service-account key has about 2.5 KiB
MOST_OF_DOCKER = 1024 * 1024  # bytes of Docker's configuration
TO_BE_THERE = "every secret must exist and be readable at the start"


@dataclass(eq=False)
class SecretError(Exception):
    """A secret cannot be read. Names the file or the variable, never the value."""

    exit_code = 1

    where: str  # "file /run/secrets/token" or "environment variable YC_TOKEN"
    what: str  # "is empty"

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


@dataclass(frozen=True)
class Origin:
    """The context in which the values of a file are read."""

    folder: Path  # absolute; paths are relative to it
    environ: Mapping[str, str]
    look_for_secrets: bool


class Model(Form):
    """A mapping of the file, without unknown keys and type conversions."""

    model_config = ConfigDict(strict=True)


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise BadValueError(f"expected text, got {shown(value)}", "put it in quotes")
    if not value:
        raise BadValueError("expected text that is not empty, got ''", "write it")
    return info.context.folder / value if info.context is not None else Path(value)


Text = Annotated[str, Field(min_length=1)]
# The path of a file, relative to the folder of the configuration file.
FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string", "minLength": 1})]


class Secret(Model):
    """A file or an environment variable that contains a secret. Each `read` rereads it, so that it can be rotated."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file: FilePath | None = Field(default=None, description="a file, relative to this one")
    env: Text | None = Field(default=None, description="an environment variable's name")
    _environ: Mapping[str, str] = PrivateAttr(default_factory=lambda: os.environ)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.file, self.env) == (other.file, other.env)

    def __hash__(self) -> int:
        return hash((self.file, self.env))

    @model_validator(mode="before")
    @classmethod
    def is_a_place(cls, value: Any) -> Any:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, dict):
            # The value is not quoted: it is most likely the secret itself.
            raise BadValueError("expected {file: PATH} or {env: NAME}", "store the secret in a file or a variable")
        if not value or {"file", "env"} <= value.keys():
            raise BadValueError(f"expected one of file and env, got {'both' if value else 'neither'}", "keep one")
        return value

    @model_validator(mode="after")
    def is_there(self, info: ValidationInfo) -> Self:
        if isinstance(info.context, Origin):
            self._environ = info.context.environ
            if info.context.look_for_secrets:
                try:
                    self.read()
                except SecretError as error:
                    raise BadValueError(str(error), TO_BE_THERE) from None
        return self

    @property
    def where(self) -> str:
        return f"file {self.file}" if self.file is not None else f"environment variable {self.env}"

    def read(self) -> str:
        """The secret without surrounding white space. Raises SecretError."""
        text = self._from_file(self.file) if self.file is not None else self._environ.get(self.env or "")
        if text is None:
            raise SecretError(self.where, "is not set")
        if not (text := text.strip()):
            raise SecretError(self.where, "is empty")
        return text

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
            # Without a cause: the decoding error contains the bytes.
            raise SecretError(self.where, "is not text in UTF-8") from None


# A URL in the file, or the secret that contains it: a tagged union.
AS_TEXT, AS_SECRET = Tag(f"{TAG}text"), Tag(f"{TAG}secret")
TEXT_OR_SECRET = Discriminator(lambda value: (AS_TEXT if isinstance(value, str) else AS_SECRET).tag)


def holds(flaw: Callable[[str], str], remedy: str = ENCODE) -> AfterValidator:
    """Refuses a secret in which `flaw` finds a problem, if secrets are looked for."""

    def check(secret: Secret, info: ValidationInfo) -> Secret:
        if isinstance(info.context, Origin) and info.context.look_for_secrets:
            with suppress(SecretError):  # `is_there` has reported it
                if problem := flaw(secret.read()):
                    raise BadValueError(f"{secret.where} {problem}", remedy)
        return secret

    return AfterValidator(check)


def url_schema(*schemes: str) -> WithJsonSchema:
    """A URL as text, or a secret that contains it. `schemes`: regular expressions, each for the start of a URL. The
    schema is for editors; readers check the value.
    """
    text = {"type": "string", "pattern": f"^({'|'.join(schemes)})"}
    return WithJsonSchema({"anyOf": [text, Secret.model_json_schema()]})


def add_certificates(context: ssl.SSLContext, file: Path) -> None:
    """Add the certificates of a file to those that `context` trusts. Raises SecretError, which names the file."""
    where = f"file {file}"
    if is_named_pipe(file):
        raise SecretError(where, "cannot be read: it is a named pipe")
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise SecretError(where, "contains no valid certificate in PEM format") from None
    except OSError as error:
        raise SecretError(where, f"cannot be read: {error.strerror}") from None


def read_docker_config(path: Path) -> dict[str, Any]:
    """Docker's configuration as a mapping. Raises SecretError, which shows no part of it."""
    where = f"file {path}"
    if is_named_pipe(path):
        raise SecretError(where, "cannot be read: it is a named pipe")
    try:
        with path.open("rb") as file:
            whole = json.loads(file.read(MOST_OF_DOCKER))
    except OSError as error:
        raise SecretError(where, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        raise SecretError(where, "is not a Docker configuration: it is not a JSON object")
    return whole
