"""`registry-gc inventory`, and the scan of `plan REGISTRY`. Both read the store if it exists."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from worker.cli.errors import say
from worker.cli.options import Options, common
from worker.cli.resources import configure_logging, existing_store, limiter_for, progress_bar
from worker.config.settings import Settings
from worker.planning.planner import Planned
from worker.planning.scan import list_live, plan_live
from worker.report.inventory import InventoryHead, inventory_report
from worker.runs.lifecycle import registry_named
from worker.text import counted


@click.command()
@click.argument("registry")
@common(formats=("ndjson",))
def inventory(options: Options, registry: str) -> int:
    """List REGISTRY, one image per line, as the JSON of Yandex Container Registry's API with the known children
    and subject."""
    with _listing(options, registry) as (settings, tools):
        listed = list_live(settings.registries[registry], **tools)
    head = InventoryHead(registry=registry, listed_at=listed.listed_at, unreadable=listed.unreadable)
    images = (image for repository in listed.repositories() for image in repository.images)
    options.report(inventory_report(head, images))
    if listed.unreadable:
        say(f"warning: {counted(len(listed.unreadable), 'repository', 'repositories')} could not be read")
    return 0


def plan_registry(options: Options, name: str) -> Planned:
    """List a registry and decide on every image. Records nothing. Raises ConfigError, SecretError,
    UnknownRegistryError, ClockError, RegistryError, EvidenceError, StoreError.
    """
    with _listing(options, name) as (settings, tools):
        return plan_live(settings, name, now=options.now, **tools)


@contextmanager
def _listing(options: Options, name: str) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """The settings, and the keyword arguments of a scan: rate limit, store if it exists, progress bar."""
    settings = options.settings()
    registry = registry_named(settings, name)
    configure_logging(verbose=options.verbose)
    with (
        limiter_for(settings, registry) as limiter,
        existing_store(settings) as store,
        progress_bar(f"listing {name}", "repositories") as progress,
    ):
        yield settings, {"limiter": limiter, "store": store, "progress": progress}
