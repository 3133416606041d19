"""`registry-gc inventory`: a registry's listing as NDJSON, from which `plan --inventory` decides the same."""

import click

from worker.cli.errors import say
from worker.cli.live import limiter_for, listing_bar, log_if_asked, remembered
from worker.cli.options import Options, common
from worker.planning.scan import list_live
from worker.report.inventory import InventoryHead, inventory_ndjson
from worker.runs.lifecycle import registry_named
from worker.text import counted


@click.command()
@click.argument("registry")
@common(formats=("ndjson",))
def inventory(options: Options, registry: str) -> int:
    """List REGISTRY: one image a line in the API's own JSON, with children and subject where they are known."""
    settings = options.settings()
    named = registry_named(settings, registry)
    log_if_asked(verbose=options.verbose)
    with limiter_for(settings, named) as limiter, remembered(settings) as store, listing_bar(registry) as progress:
        listed = list_live(named, limiter=limiter, progress=progress, store=store)
    head = InventoryHead(registry=registry, listed_at=listed.listed_at, unreadable=listed.unreadable)
    images = (image for repository in listed.repositories() for image in repository.images)
    with options.open() as output:
        for line in inventory_ndjson(head, images):
            output.write(line)
    if listed.unreadable:
        say(f"warning: {counted(len(listed.unreadable), 'repository', 'repositories')} could not be read")
    return 0
