"""The processes that serve: `up` and `worker`, which supervise others; `beat`, `web` and a worker's node."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from worker import logs
from worker.cli.errors import say
from worker.config.files import private_folder
from worker.config.settings import Settings, load
from worker.processes import embedded
from worker.processes.embedded import NODES


def serving(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a process that prints no result."""
    file = click.Path(path_type=Path)
    function = click.option("--verbose", is_flag=True, help="Say more on standard error.")(function)
    help_text = "The configuration file; else REGISTRY_GC_CONFIG, else registry-gc.yaml."
    return click.option("--config", type=file, help=help_text)(function)


@click.command()
@serving
def up(config: Path | None, verbose: bool) -> None:
    """Run everything on one machine: worker, beat, web, and Redis where none is configured.

    What ends is started again. SIGTERM or Ctrl-C stops it when the deletions under way are done; a second one at once.
    """
    embedded.up(_settings(config, verbose), say, verbose=verbose)


@click.command()
@click.argument("node", required=False, type=click.Choice(tuple(NODES)))
@click.option("--slots", type=click.IntRange(1, 64), help="How many tasks NODE carries out at once.")
@serving
def worker(node: str | None, slots: int | None, config: Path | None, verbose: bool) -> None:
    """Run the processes that scan and delete.

    NODE runs one of them alone, in this process: `control` opens and looks after runs, `scan` plans them, `delete`
    carries plans out. Without it all three are run, each with its own slots, so that none waits for another.
    """
    settings = _settings(config, verbose)
    if node is None:
        if slots is not None:
            raise click.UsageError("--slots needs a NODE")
        embedded.work(settings, say, verbose=verbose)
        return
    words = ["-n", f"{node}@%h", "-Q", NODES[node].queue, "-c", str(slots or NODES[node].slots)]
    _celery("worker", *words, "--without-gossip", "--without-mingle", verbose=verbose)


@click.command()
@serving
def beat(config: Path | None, verbose: bool) -> None:
    """Run the process that rings when a registry is due. One is enough; two do no harm."""
    _settings(config, verbose)
    folder = private_folder("beat")  # its file is a pickle: nobody else may write there
    _celery("beat", "--pidfile=", "-s", str(folder / "schedule"), verbose=verbose)


@click.command()
@serving
def web(config: Path | None, verbose: bool) -> None:
    """Serve metrics and health."""
    from worker.web import serve  # noqa: PLC0415 - starlette and uvicorn, which only this process needs

    serve(_settings(config, verbose))


def _settings(config: Path | None, verbose: bool) -> Settings:
    """The configuration, also named for Celery and for every process that we start. Raises ConfigError."""
    logs.configure(verbose=verbose)
    settings = load(config)
    os.environ["REGISTRY_GC_CONFIG"] = str(settings.path)
    return settings


def _celery(*words: str, verbose: bool) -> None:
    from worker.cli.with_celery import become  # noqa: PLC0415 - Celery, which only the nodes and beat need

    become(*words, verbose=verbose)
