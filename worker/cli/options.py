"""What subcommands understand: the common options, and the kinds of values that several of them take."""

import functools
import getpass
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, TypeVar

import click

from worker.cli.output import Output, place_of
from worker.config.settings import Settings, load
from worker.text import DIGEST, PATH, TAG

F = TypeVar("F", bound=Callable[..., Any])
LONGEST = 500  # characters of a reason, or of who gives it
FORMATS = ("table", "json", "ndjson")


@dataclass(frozen=True)
class Options:
    """The common options of one call."""

    config: Path | None = None
    format: str = "table"
    output: Path | None = None
    verbose: bool = False
    now: datetime | None = None

    def settings(self, *, look_for_secrets: bool = True, store_is_needed: bool = False) -> Settings:
        """Raises ConfigError."""
        return load(self.config, look_for_secrets=look_for_secrets, store_is_needed=store_is_needed)

    def settings_of_store(self) -> Settings:
        """For who asks the store alone: no key of a registry needs to be readable. Raises ConfigError."""
        return self.settings(look_for_secrets=False, store_is_needed=True)

    def open(self) -> Output:
        """Where the result goes: standard output, or a file that appears whole or not at all."""
        return Output(self.output, self.format)


class Words(click.ParamType[str]):
    """One line that a table can show."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = " ".join(str(value).split())
        if len(text) > LONGEST:
            self.fail(f"expected at most {LONGEST} characters, got {len(text)}", param, ctx)
        return text


def me() -> str:
    """user@host, as well as the machine can tell: a user without a name by its number."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"


who_option = click.option("--who", type=Words(), default=me, show_default="user@host", help="By whom, for the record.")
why_option = click.option("--reason", type=Words(), default="", help="Why; shown wherever it has an effect.")


REFERENCE = re.compile(rf"{PATH.pattern}(:{TAG.pattern}|@({DIGEST.pattern}))|[A-Za-z0-9]{{1,50}}")


class ReferenceType(click.ParamType[str]):
    """The text, if it can name an image; whether there is one is another question."""

    name = "reference"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not REFERENCE.fullmatch(value):
            self.fail(f"expected an image, got {value!r}; write path:tag, path@sha256:… or an image's id", param, ctx)
        return str(value)


class Format(click.ParamType[str]):
    """table, json or ndjson; html is not built yet."""

    name = "format"

    def __init__(self, known: tuple[str, ...] = FORMATS) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "html":
            self.fail(f"html is not built yet; known here: {', '.join(self.known)}", param, ctx)
        if value not in self.known:
            self.fail(f"expected {' or '.join(self.known)}, got {value!r}", param, ctx)
        return str(value)


class Instant(click.ParamType[datetime]):
    """RFC 3339 with its offset, or a date, which is its midnight in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        moment = _moment(value)
        if moment is None:
            example = "write, for example, 2026-11-23T03:00:00Z or 2026-11-23"
            self.fail(f"expected a time, got {value!r}; {example}", param, ctx)
        return moment


def _moment(text: str) -> datetime | None:
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def common(*, now: bool = False, config: bool = True, formats: tuple[str, ...] = FORMATS) -> Callable[[F], F]:
    """Gives a command the common options, as one `Options`, its first argument. `config=False`: it reads no file."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            names = ("config", "format", "output", "verbose", "now")
            options = Options(**{name: kwargs.pop(name) for name in names if name in kwargs})
            if options.output is not None:
                place_of(options.output)  # before an hour of work, or a run that is opened, and not after it
            return function(options, *args, **kwargs)

        command: Any = called
        for option in reversed(_options(now, config, formats)):
            command = option(command)
        result: F = command
        return result

    return decorate


def _options(now: bool, config: bool, formats: tuple[str, ...]) -> list[Callable[[Any], Any]]:
    file = click.Path(path_type=Path)
    options = [
        click.option(
            "--format",
            type=Format(formats),
            default=formats[0],
            metavar="|".join(formats),
            help="How the result is written.",
            show_default=True,
        ),
        click.option("--output", type=file, help="Write the result to this file, whole or not at all."),
        click.option("--verbose", is_flag=True, help="Say more on standard error."),
    ]
    if config:
        where = "The configuration file; else REGISTRY_GC_CONFIG, else registry-gc.yaml."
        options.insert(0, click.option("--config", type=file, help=where))
    if now:
        options.append(click.option("--now", type=Instant(), metavar="TIME", help="Decide as if it were this time."))
    return options
