"""The long-running commands: `up` and `worker`, which supervise others, and `beat`, `web` and `worker NODE`."""

import functools
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker import logs
from worker.cli.errors import say
from worker.config.files import private_folder
from worker.processes import embedded
from worker.processes.embedded import NODES

if TYPE_CHECKING:  # slow imports happen when a process starts
    from worker.config.settings import Settings


def serving(function: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a long-running process to a command, which gets the settings as its first argument."""

    @functools.wraps(function)
    def wrapper(*, config: Path | None, verbose: bool, **arguments: Any) -> None:
        logs.configure(verbose=verbose)
        settings = _import("config.settings").load(config)
        os.environ["REGISTRY_GC_CONFIG"] = str(settings.path)  # Celery and child processes read it
        function(settings, verbose=verbose, **arguments)

    help_text = "The configuration file; default: REGISTRY_GC_CONFIG, else registry-gc.yaml."
    options = click.option("--verbose", is_flag=True, help="Log more on standard error.")(wrapper)
    return click.option("--config", type=click.Path(path_type=Path), help=help_text)(options)


def _import(module: str) -> Any:
    """Import pydantic, Celery or the web only when a process starts: `--help` stays fast."""
    return importlib.import_module(f"worker.{module}")


@click.command()
@serving
def up(settings: "Settings", *, verbose: bool) -> None:
    """Run everything on one machine: worker, beat, web, and Redis if none is configured.

    A process that ends is restarted. SIGTERM or Ctrl-C stops everything after the deletions in progress; a second
    signal stops it at once.
    """
    embedded.up(settings, say, verbose=verbose)


@click.command()
@click.argument("node", required=False, type=click.Choice(tuple(NODES)))
@click.option("--slots", type=click.IntRange(1, 64), help="The number of tasks that NODE runs at once.")
@serving
def worker(settings: "Settings", *, node: str | None, slots: int | None, verbose: bool) -> None:
    """Run the processes that scan and delete.

    With NODE, run only that process: `control` opens and monitors runs, `scan` plans them, `delete` carries out
    their plans. Without NODE, run all three, each with its own slots, so that none waits for another.
    """
    if node is None:
        if slots is not None:
            raise click.UsageError("--slots needs a NODE")
        embedded.run_worker(settings, say, verbose=verbose)
        return
    words = ["-n", f"{node}@%h", "-Q", NODES[node].queue, "-c", str(slots or NODES[node].slots)]
    _import("cli.with_celery").become("worker", *words, "--without-gossip", "--without-mingle", verbose=verbose)


@click.command()
@serving
def beat(_settings: "Settings", *, verbose: bool) -> None:
    """Run the scheduler, which starts the run of a registry when it is due. One is enough; a second does no harm."""
    folder = private_folder("beat")  # the schedule file is a pickle, so only this user may write it
    _import("cli.with_celery").become("beat", "--pidfile=", "-s", str(folder / "schedule"), verbose=verbose)


@click.command()
@serving
def web(settings: "Settings", **_options: bool) -> None:
    """Serve metrics, health and the API."""
    _import("web").serve(settings)
