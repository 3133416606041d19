"""The processes that serve: `up` and `worker`, which supervise others; `beat`, `web` and a worker's node."""

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

if TYPE_CHECKING:  # what takes long to load is loaded when a process starts
    from worker.config.settings import Settings


def serving(function: Callable[..., None]) -> Callable[..., None]:
    """A process that prints no result: its options, and the settings as its first argument."""

    @functools.wraps(function)
    def called(*, config: Path | None, verbose: bool, **arguments: Any) -> None:
        logs.configure(verbose=verbose)
        settings = _loaded("config.settings").load(config)
        os.environ["REGISTRY_GC_CONFIG"] = str(settings.path)  # for Celery and for every process that we start
        function(settings, verbose=verbose, **arguments)

    help_text = "The configuration file; else REGISTRY_GC_CONFIG, else registry-gc.yaml."
    options = click.option("--verbose", is_flag=True, help="Say more on standard error.")(called)
    return click.option("--config", type=click.Path(path_type=Path), help=help_text)(options)


def _loaded(module: str) -> Any:
    """Pydantic, Celery or the web: whoever asks for help does not wait for them."""
    return importlib.import_module(f"worker.{module}")


@click.command()
@serving
def up(settings: "Settings", *, verbose: bool) -> None:
    """Run everything on one machine: worker, beat, web, and Redis where none is configured.

    What ends is started again. SIGTERM or Ctrl-C stops it when the deletions under way are done; a second one at once.
    """
    embedded.up(settings, say, verbose=verbose)


@click.command()
@click.argument("node", required=False, type=click.Choice(tuple(NODES)))
@click.option("--slots", type=click.IntRange(1, 64), help="How many tasks NODE carries out at once.")
@serving
def worker(settings: "Settings", *, node: str | None, slots: int | None, verbose: bool) -> None:
    """Run the processes that scan and delete.

    NODE runs one of them alone, in this process: `control` opens and looks after runs, `scan` plans them, `delete`
    carries plans out. Without it all three are run, each with its own slots, so that none waits for another.
    """
    if node is None:
        if slots is not None:
            raise click.UsageError("--slots needs a NODE")
        embedded.work(settings, say, verbose=verbose)
        return
    words = ["-n", f"{node}@%h", "-Q", NODES[node].queue, "-c", str(slots or NODES[node].slots)]
    _loaded("cli.with_celery").become("worker", *words, "--without-gossip", "--without-mingle", verbose=verbose)


@click.command()
@serving
def beat(_settings: "Settings", *, verbose: bool) -> None:
    """Run the process that rings when a registry is due. One is enough; two do no harm."""
    folder = private_folder("beat")  # its file is a pickle: nobody else may write there
    _loaded("cli.with_celery").become("beat", "--pidfile=", "-s", str(folder / "schedule"), verbose=verbose)


@click.command()
@serving
def web(settings: "Settings", **_options: bool) -> None:
    """Serve metrics and health."""
    _loaded("web").serve(settings)
