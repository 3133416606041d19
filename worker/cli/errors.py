"""Turns an error into lines on standard error and an exit code. Only --verbose prints a traceback.

0 done, or run opened · 1 run failed, or registry or store unavailable · 2 invalid usage or configuration, or not
found · 3 limits exceeded · 4 another run is active
"""

import errno
import sys
import traceback

import click

from worker.text import escaped

DONE, FAILED, USAGE, OVER_LIMITS, RUNNING = range(5)


class CommandError(Exception):
    """An error of a command itself, with its exit code."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(message: str) -> None:
    """Print one line on standard error; standard output has only results."""
    click.echo(escaped(message), err=True)


def report_error(error: Exception) -> int:
    """Print the error and return its exit code. Our own errors have an `exit_code`, and some have `lines`."""
    code = getattr(error, "exit_code", FAILED)
    if isinstance(error, click.ClickException):
        context, code = getattr(error, "ctx", None), USAGE
        say((f"{context.command_path}: " if context else "") + " ".join(error.format_message().split()))
    elif hasattr(error, "exit_code"):
        for line in getattr(error, "lines", (str(error),)):
            say(line)
    elif isinstance(error, OSError) and error.errno == errno.EBADF:
        say("standard input or output is closed")
    elif isinstance(error, OSError):  # the system's message without its number
        say(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    else:
        if "--verbose" in sys.argv:
            for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
                say(line)
        message = f"{type(error).__name__}: {error}".rstrip(": ")
        say(f"registry-gc failed unexpectedly: {message}; --verbose prints the traceback")
    return int(code)
