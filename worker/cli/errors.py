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
    """Say what went wrong; the exit code. Our own errors carry theirs, and their lines if they have several."""
    code = getattr(error, "exit_code", FAILED)
    if isinstance(error, click.ClickException):
        context, code = getattr(error, "ctx", None), USAGE
        say((f"{context.command_path}: " if context else "") + " ".join(error.format_message().split()))
    elif hasattr(error, "exit_code"):
        for line in getattr(error, "lines", (str(error),)):
            say(line)
    elif isinstance(error, OSError) and error.errno == errno.EBADF:
        say("standard input or output is closed")
    elif isinstance(error, OSError):  # what the system said no to, without its number
        say(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    else:
        if "--verbose" in sys.argv:
            for line in "".join(traceback.format_exception(error)).rstrip("\n").split("\n"):
                say(line)
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        say(f"registry-gc failed unexpectedly: {what}; --verbose shows where")
    return int(code)
