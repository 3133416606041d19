"""Turns what went wrong into lines on standard error and an exit code. Never a traceback, unless --verbose asks for it.

0 done, or opened · 1 the run failed, or the registry or store cannot be reached · 2 bad usage or configuration, or
not found · 3 over the limits · 4 already running
"""

import errno
import sys
import traceback

import click

from worker.text import escaped

DONE, FAILED, USAGE, OVER_LIMITS, RUNNING = range(5)


class CommandError(Exception):
    """What a command itself found wrong, with its exit code."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(message: str) -> None:
    """One line for the person at the terminal, beside the results."""
    click.echo(escaped(message), err=True)


def explained(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    lines, code = _explanation(error)
    for line in lines:
        say(line)
    return code


def _explanation(error: Exception) -> tuple[tuple[str, ...], int]:
    """Lines and exit code. Our own errors carry their exit code, and their lines if they have several."""
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        where = f"{context.command_path}: " if context else ""
        return (where + " ".join(error.format_message().split()),), USAGE
    if isinstance(code := getattr(error, "exit_code", None), int):
        return getattr(error, "lines", (str(error),)), code
    if isinstance(error, OSError):  # what the system said no to, without its number
        if error.errno == errno.EBADF:
            return ("standard input or output is closed",), FAILED
        said = error.strerror or str(error)
        return (f"{error.filename}: {error.strerror}" if error.filename else said,), FAILED
    if "--verbose" in sys.argv:
        for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
            say(line)
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return (f"registry-gc failed unexpectedly: {what}; --verbose shows where",), FAILED
