"""The command registry-gc: one module for each group of subcommands, imported only when a subcommand runs.

It handles arguments, exit codes and output files. `worker.report` formats the results.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from worker.cli.errors import report_error

INTERRUPTED = 130
BROKEN_PIPE = 141  # the exit code of a process that SIGPIPE ends
NOT_BUILT = ("why", "lint", "test", "forecast", "convert")

# The sections of `--help` in order: command -> (module, help). A module is imported when its command runs.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Inspect (deletes nothing)": {
        "check": ("check", "Check the configuration and list every mistake in it"),
        "plan": ("plan", "Show which images of a registry would be deleted, why, and how many bytes that frees"),
        "inventory": ("listing", "List a registry as NDJSON, for `plan --inventory`"),
        "schema": ("check", "Print the JSON Schema of the configuration file, for editors"),
    },
    "Delete": {
        "sweep": ("sweep", "Start a run of a registry now"),
        "approve": ("sweep", "Let a blocked run carry out its plan"),
        "abort": ("sweep", "Stop a run before its next deletion"),
        "restore": ("restore", "Restore deleted images and tags whose blobs the registry still has"),
    },
    "Keep": {
        "hold": ("hold", "Keep an image or repository, whatever the rules say"),
        "holds": ("holds", "List holds and pauses"),
        "release": ("holds", "End a hold"),
        "pause": ("holds", "Stop all deletions in a registry, or in all, until it is resumed"),
        "resume": ("holds", "End a pause"),
    },
    "Review": {
        "runs": ("history", "List runs, newest first"),
        "show": ("history", "Show a run, its plan and its outcomes"),
        "audit": ("history", "List every deletion: image, time, run and rule"),
    },
    "Serve": {
        "up": ("processes", "Run everything on one machine: worker, beat, web, and Redis if none is configured"),
        "worker": ("processes", "Run the processes that scan and delete"),
        "beat": ("processes", "Run the scheduler, which starts due runs"),
        "web": ("processes", "Serve metrics, health and the API"),
    },
}


class Commands(click.Group):
    """Imports the module of a command when the command is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in SECTIONS.values():
            if cmd_name in section:
                module = importlib.import_module(f"worker.cli.{section[cmd_name][0]}")
                command: click.Command = getattr(module, cmd_name)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0] if args else "-", self.list_commands(ctx)
        if name.startswith("-") or name in known:
            return super().resolve_command(ctx, args)
        if name in NOT_BUILT:
            raise click.UsageError(f"{name} is not implemented yet; available: {', '.join(known)}", ctx)
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {close[0]}?" if close else "registry-gc --help lists the commands"
        raise click.UsageError(f"there is no command {name!r}; {remedy}", ctx)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, help_text) for name, (_, help_text) in section.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="registry-gc", message="%(version)s")
def cli() -> None:
    """A scheduled garbage collector for container registries. It proves that an image may be deleted before it deletes
    the image, and gives the reason for every decision.

    The configuration is registry-gc.yaml in the working folder, or the file of --config or REGISTRY_GC_CONFIG. Start
    with `registry-gc check`, then `registry-gc plan REGISTRY`.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code. An error is reported in one line."""
    _reopen_closed_streams()
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = BROKEN_PIPE  # the reader of our output has closed it
    except Exception as error:  # noqa: BLE001 - every error becomes a message and an exit code
        code = report_error(error)
    try:
        sys.stdout.flush()
    except OSError:  # discard the rest: Python would report the same error again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    """The exit code of a command. `cli.main` would handle interrupts and broken pipes in its own way."""
    try:
        with cli.make_context("registry-gc", list(arguments)) as context:
            code = cli.invoke(context)
            return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as done:
        return done.exit_code


def _reopen_closed_streams() -> None:
    """Open /dev/null in place of each closed standard stream: otherwise the next file would get its descriptor.

    Standard output is opened for reading, so that a lost result is an error; standard error discards its text.
    """
    for number, (name, flags) in enumerate((("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, flags)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
