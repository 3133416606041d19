"""The options that subcommands share, and the types of their values."""

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

from worker.cli.output import Output, OutputFile
from worker.config.settings import Settings, load
from worker.report.report import Report
from worker.text import DIGEST, PATH, TAG

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
LONGEST = 500  # characters of --reason and --who
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
        """The settings of a command that uses only the store: it reads no registry's secrets. Raises ConfigError."""
        return self.settings(look_for_secrets=False, store_is_needed=True)

    def report(self, report: Report) -> None:
        """Write the result in the form of --format to standard output or to the file of --output. Raises CommandError
        if the output cannot be written: a regular file is then unchanged. BrokenPipeError passes.
        """
        with Output(self.output, self.format) as output:
            output.report(report)


class Parsed(click.ParamType[T]):
    """A value that a function parses. The function's ValueError is the error message."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _one_line(value: str) -> str:
    """The text with its whitespace reduced to single blanks."""
    text = " ".join(value.split())
    if len(text) > LONGEST:
        raise ValueError(f"expected at most {LONGEST} characters, got {len(text)}")
    return text


def current_user() -> str:
    """user@host; a user without a name by its number. Under sudo, the user who called it. For records only: the
    environment can change the name, and nothing verifies it.
    """
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"


LINE = Parsed("text", _one_line)
who_option = click.option(
    "--who", type=LINE, default=current_user, show_default="user@host", help="Your name in the records."
)
reason_option = click.option("--reason", type=LINE, default="", help="The reason, shown wherever it takes effect.")


REFERENCE = re.compile(rf"{PATH.pattern}(:{TAG.pattern}|@({DIGEST.pattern}))|[A-Za-z0-9]{{1,50}}")


def _reference(value: str) -> str:
    """The text, if its form is that of an image reference. The image need not exist."""
    if not REFERENCE.fullmatch(value):
        raise ValueError(f"expected an image, got {value!r}; write path:tag, path@sha256:… or an image's id")
    return value


def instant(value: str) -> datetime:
    """A time of RFC 3339 with its offset, or midnight (UTC) of a date. Raises ValueError."""
    with suppress(ValueError, OverflowError):
        if len(value) == 10:
            return datetime.combine(date.fromisoformat(value), time(), UTC)
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    raise ValueError(f"expected a time, got {value!r}; write, for example, 2026-11-23T03:00:00Z or 2026-11-23")


def _format(known: tuple[str, ...], value: str) -> str:
    if value == "html":
        raise ValueError(f"html is not implemented yet; available: {', '.join(known)}")
    if value not in known:
        raise ValueError(f"expected {' or '.join(known)}, got {value!r}")
    return value


IMAGE = Parsed("reference", _reference)
TIME = Parsed("time", instant)


def common(*, now: bool = False, config: bool = True, formats: tuple[str, ...] = FORMATS) -> Callable[[F], F]:
    """Adds the common options to a command, which gets them as its first argument. `config=False`: without --config."""
    file = click.Path(path_type=Path)
    common_options: list[Callable[[Any], Any]] = [
        click.option(
            "--format",
            type=Parsed("format", functools.partial(_format, formats)),
            default=formats[0],
            metavar="|".join(formats),
            help="The form of the result.",
            show_default=True,
        ),
        click.option("--output", type=file, help="Write the result to this file; an error leaves the file unchanged."),
        click.option("--verbose", is_flag=True, help="Log more on standard error."),
    ]
    if config:
        help_text = "The configuration file; default: REGISTRY_GC_CONFIG, else registry-gc.yaml."
        common_options.insert(0, click.option("--config", type=file, help=help_text))
    if now:
        common_options.append(click.option("--now", type=TIME, metavar="TIME", help="Decide as of this time."))

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            names = ("config", "format", "output", "verbose", "now")
            options = Options(**{name: kwargs.pop(name) for name in names if name in kwargs})
            if options.output is not None:
                OutputFile.check(options.output)  # report a wrong --output before an hour of work
            return function(options, *args, **kwargs)

        command: Any = wrapper
        for option in reversed(common_options):
            command = option(command)
        result: F = command
        return result

    return decorate
