"""`registry-gc restore`: puts deleted images back where the registry still has what they name."""

from dataclasses import replace

import click

from worker.cli.errors import DONE, FAILED, USAGE, CommandError
from worker.cli.live import limiter_for, log_if_asked, progress_bar, remembered
from worker.cli.options import Options, common, who_option
from worker.registries import open_registry
from worker.report.restore import restored_report
from worker.restore.restore import resolve_request
from worker.restore.restore import restore as restore_images


@click.command()
@click.argument("what", metavar="RUN | IMAGE")
@click.option("--registry", help="Whose IMAGE it is, where several registries have deleted it.")
@click.option("--partly", is_flag=True, help="Give an index its tags back, though images that it lists are not there.")
@who_option
@common()
def restore(options: Options, what: str, registry: str | None, partly: bool, who: str) -> int:
    """Put back what RUN deleted, or one IMAGE, with what belongs to it: path:tag, path@sha256:…, a digest, or an id.

    Children come before indexes; a tag that somebody has pushed since is left to them. Each image is read back, with a
    byte of every blob: it is whole, partly there, or lost. Exit code 1: not all are whole; 4: a run may be deleting
    there.
    """
    settings = options.settings(store_is_needed=True)
    log_if_asked(verbose=options.verbose)
    with remembered(settings) as store:
        if store is None:
            raise CommandError("there is no store yet, and so nothing that was deleted", USAGE)
        asked = replace(resolve_request(store, settings, what, registry), who=who, partly=partly)
        named = asked.registry
        with (
            limiter_for(settings, named) as limiter,
            open_registry(named, limiter) as opened,
            progress_bar(f"restoring {named.name}", "images") as tell,
        ):
            found = restore_images(store, asked, opened, tell)
    options.report(restored_report(asked, found))
    return DONE if not asked.unsaved and all(one.answer == "whole" for one in found) else FAILED
