"""What subcommands understand: the common options, and the kinds of values that several of them take."""

import functools
import getpass
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, TypeVar

import click

from worker.cli.output import Output, place_of
from worker.config.settings import Settings, load
from worker.report.report import Report
from worker.text import DIGEST, PATH, TAG

T = TypeVar("T")
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

    def report(self, report: Report) -> None:
        """Write the command's answer, in the form that was asked for, to standard output or to a file."""
        with Output(self.output, self.format) as output:
            output.report(report)


class Parsed(click.ParamType[T]):
    """What a function makes of a text. A ValueError of it says what is wrong with the text."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _words(value: str) -> str:
    """One line that a table can show."""
    text = " ".join(value.split())
    if len(text) > LONGEST:
        raise ValueError(f"expected at most {LONGEST} characters, got {len(text)}")
    return text


def me() -> str:
    """user@host, as well as the machine can tell: a user without a name by its number."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"


WORDS = Parsed("text", _words)
who_option = click.option("--who", type=WORDS, default=me, show_default="user@host", help="By whom, for the record.")
why_option = click.option("--reason", type=WORDS, default="", help="Why; shown wherever it has an effect.")


REFERENCE = re.compile(rf"{PATH.pattern}(:{TAG.pattern}|@({DIGEST.pattern}))|[A-Za-z0-9]{{1,50}}")


def _reference(value: str) -> str:
    """The text, if it can name an image; whether there is one is another question."""
    if not REFERENCE.fullmatch(value):
        raise ValueError(f"expected an image, got {value!r}; write path:tag, path@sha256:… or an image's id")
    return value


def instant(value: str) -> datetime:
    """RFC 3339 with its offset, or a date, which is its midnight in UTC. Raises ValueError."""
    with suppress(ValueError, OverflowError):
        if len(value) == 10:
            return datetime.combine(date.fromisoformat(value), time(), UTC)
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    raise ValueError(f"expected a time, got {value!r}; write, for example, 2026-11-23T03:00:00Z or 2026-11-23")


def _format(known: tuple[str, ...], value: str) -> str:
    """table, json or ndjson; html is not built yet."""
    if value == "html":
        raise ValueError(f"html is not built yet; known here: {', '.join(known)}")
    if value not in known:
        raise ValueError(f"expected {' or '.join(known)}, got {value!r}")
    return value


IMAGE = Parsed("reference", _reference)
TIME = Parsed("time", instant)


def common(*, now: bool = False, config: bool = True, formats: tuple[str, ...] = FORMATS) -> Callable[[F], F]:
    """Gives a command the common options, as one `Options`, its first argument. `config=False`: it reads no file."""
    file = click.Path(path_type=Path)
    understood: list[Callable[[Any], Any]] = [
        click.option(
            "--format",
            type=Parsed("format", functools.partial(_format, formats)),
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
        understood.insert(0, click.option("--config", type=file, help=where))
    if now:
        understood.append(click.option("--now", type=TIME, metavar="TIME", help="Decide as if it were this time."))

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            names = ("config", "format", "output", "verbose", "now")
            options = Options(**{name: kwargs.pop(name) for name in names if name in kwargs})
            if options.output is not None:
                place_of(options.output)  # before an hour of work, or a run that is opened, and not after it
            return function(options, *args, **kwargs)

        command: Any = called
        for option in reversed(understood):
            command = option(command)
        result: F = command
        return result

    return decorate
