"""`registry-gc restore` restores deleted images whose blobs the registry still has."""

from dataclasses import replace

import click

from worker.cli.errors import DONE, FAILED, USAGE, CommandError
from worker.cli.options import Options, common, who_option
from worker.cli.resources import configure_logging, existing_store, limiter_for, progress_bar
from worker.registries import open_registry
from worker.report.restore import restored_report
from worker.restore.restore import resolve_request
from worker.restore.restore import restore as restore_images


@click.command()
@click.argument("what", metavar="RUN | IMAGE")
@click.option("--registry", help="The registry of IMAGE, if several registries have deleted it.")
@click.option("--partly", is_flag=True, help="Restore an index's tags although some of its children are missing.")
@who_option
@common()
def restore(options: Options, what: str, registry: str | None, partly: bool, who: str) -> int:
    """Restore the images that RUN deleted, or one IMAGE with its children and referrers. IMAGE: path:tag,
    path@sha256:…, a digest, or an id.

    Children are restored before indexes. A tag that was pushed again since stays as it is. Each restored image is read
    back, with one byte of every blob; the answer is whole, partly, lost or unfinished. Exit code 1: not all images are
    whole; 4: a run may be deleting in the registry.
    """
    settings = options.settings(store_is_needed=True)
    configure_logging(verbose=options.verbose)
    with existing_store(settings) as store:
        if store is None:
            raise CommandError("the store does not exist yet, so nothing has been deleted", USAGE)
        asked = replace(resolve_request(store, settings, what, registry), who=who, partly=partly)
        with (
            limiter_for(settings, asked.registry) as limiter,
            open_registry(asked.registry, limiter) as opened,
            progress_bar(f"restoring {asked.registry.name}", "images") as show_progress,
        ):
            images = restore_images(store, asked, opened, show_progress)
    options.report(restored_report(asked, images))
    return DONE if not asked.unsaved and all(image.answer == "whole" for image in images) else FAILED
