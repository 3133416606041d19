"""The command registry-gc: one module for each group of subcommands, loaded only when it is called.

Arguments, exit codes and where results go; what they look like is in `worker.report`.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from worker.cli.errors import explained

INTERRUPTED = 130
BROKEN_PIPE = 141  # as if SIGPIPE had ended us
LATER = ("why", "lint", "test", "forecast", "convert")

# What `--help` shows, in its order. The modules are imported only where a command is called.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Look first (nothing is deleted)": {
        "check": ("check", "Load the configuration and name every mistake in it"),
        "plan": ("plan", "List a registry, decide, and show what would go, why, and how many bytes"),
        "inventory": ("listing", "List a registry as NDJSON, for `plan --inventory`"),
        "schema": ("check", "JSON Schema of the configuration file, for editors"),
    },
    "Delete": {
        "sweep": ("sweep", "Open a run of a registry now"),
        "approve": ("sweep", "Let a blocked run's exact plan go on"),
        "abort": ("sweep", "Stop a run before its next deletion"),
        "restore": ("restore", "Put deleted images and their tags back where the registry still has their blobs"),
    },
    "Keep": {
        "hold": ("hold", "Keep an image or repository, whatever the rules say"),
        "holds": ("holds", "What is held, and what is paused"),
        "release": ("holds", "End a hold"),
        "pause": ("holds", "Delete nothing in a registry, or in any, until it is resumed"),
        "resume": ("holds", "Let it be deleted from again"),
    },
    "Look back": {
        "runs": ("history", "The runs so far, newest first"),
        "show": ("history", "One run with its plan and outcomes"),
        "audit": ("history", "Every deletion: what, when, by which run and rule"),
    },
    "Serve": {
        "up": ("processes", "Everything on one machine: worker, beat, web, and Redis where none is configured"),
        "worker": ("processes", "The process that scans and deletes"),
        "beat": ("processes", "The process that rings when a registry is due"),
        "web": ("processes", "Metrics and health"),
    },
}


class Commands(click.Group):
    """Knows its commands by name and imports them when they are called."""

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
        if name in LATER:
            raise click.UsageError(f"{name} is not built yet; known here: {', '.join(known)}", ctx)
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {close[0]}?" if close else "registry-gc --help lists them"
        raise click.UsageError(f"there is no command {name!r}; {remedy}", ctx)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, help_text) for name, (_, help_text) in section.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="registry-gc", message="%(version)s")
def cli() -> None:
    """A scheduled garbage collector for container registries: it proves before it deletes, and can always say why.

    It is configured by registry-gc.yaml in the working folder, or by the file that --config or REGISTRY_GC_CONFIG
    names. Begin with `registry-gc check`, then `registry-gc plan REGISTRY`.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: with what it answers, or with one line for what went wrong."""
    _stand_in_for_closed_streams()
    try:
        code = _called(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = BROKEN_PIPE  # whoever read our output has enough
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it is, one line and an exit code
        code = explained(error)
    try:
        sys.stdout.flush()
    except OSError:  # what could not be written is given up: Python would complain again when it closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _called(arguments: Sequence[str]) -> int:
    """The exit code of a command. Not `cli.main`, which has ends of its own for interrupts and broken pipes."""
    try:
        with cli.make_context("registry-gc", list(arguments)) as context:
            code = cli.invoke(context)
            return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as done:
        return done.exit_code


def _stand_in_for_closed_streams() -> None:
    """What the caller closed is opened again, as nothing: else the next file of ours would get its number.

    Standard output refuses what is written, so that no result is lost unsaid; what would go to standard error is lost.
    """
    for number, (name, flags) in enumerate((("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, flags)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
