"""`registry-gc holds`, `release`, `pause` and `resume`: what a person's word keeps from being deleted."""

from contextlib import nullcontext
from datetime import UTC, datetime

import click
from sqlalchemy import Connection

from worker.cli.errors import FAILED, USAGE, CommandError
from worker.cli.live import check_known, recorded, remembered
from worker.cli.options import Options, common, who_option, why_option
from worker.report.hold import holds_report, pauses_report, released_report, what_text
from worker.runs.lifecycle import registry_named
from worker.store import holds as rows
from worker.store import open_store


@click.command()
@click.argument("registry", required=False)
@common()
def holds(options: Options, registry: str | None) -> None:
    """What is held, and what is paused, in REGISTRY or in all."""
    held: list[rows.StoredHold] = []
    paused: list[rows.Pause] = []
    with recorded(options.settings_of_store(), registry) as connection:
        if connection is not None:
            held = rows.active_rows(connection, datetime.now(UTC), registries=None if registry is None else (registry,))
            paused = _pauses(connection, registry)
    options.report(holds_report(held, paused))


def _pauses(connection: Connection, registry: str | None) -> list[rows.Pause]:
    """Those that concern a registry, or all of them."""
    return [one for one in rows.pauses(connection) if registry in (None, one.registry) or one.of_all]


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="HOLD | REGISTRY REFERENCE")
@who_option
@common()
def release(options: Options, words: tuple[str, ...], who: str) -> None:
    """End a hold: by its number, which `holds` shows, or all that were placed on REFERENCE of REGISTRY."""
    number = int(words[0]) if len(words) == 1 and words[0].isascii() and words[0].isdigit() else None
    if number is None and len(words) != 2:
        raise click.UsageError("give a hold's number, or REGISTRY and REFERENCE; `registry-gc holds` shows them")
    now = datetime.now(UTC)
    released: list[rows.StoredHold] = []
    with remembered(options.settings_of_store()) as store:
        if store is not None:
            with store.write() as connection:
                for row in rows.active_rows(connection, now):
                    wanted = row.id == number if number is not None else (row.registry, what_text(row.hold)) == words
                    if wanted and rows.release(connection, row.id, who, now):
                        released.append(row)
    if not released:
        raise CommandError(f"nothing is held by {' '.join(words)!r}; `registry-gc holds` shows what is", USAGE)
    options.report(released_report(released))


@click.command()
@click.argument("registry", required=False)
@why_option
@who_option
@common()
def pause(options: Options, registry: str | None, reason: str, who: str) -> None:
    """Delete nothing in REGISTRY, or in any, until it is resumed. Plans still run.

    What a run has begun to delete just now is brought to its end.
    """
    settings = options.settings_of_store()
    if registry is not None:
        registry_named(settings, registry)
    with open_store(settings.store) as store, store.write() as connection:
        rows.pause_registry(connection, registry or rows.ALL, who, reason, datetime.now(UTC))
        paused = _pauses(connection, registry)
    options.report(pauses_report(registry, paused))


@click.command()
@click.argument("registry", required=False)
@who_option
@common()
def resume(options: Options, registry: str | None, who: str) -> None:
    """Let REGISTRY, or all, be deleted from again. What was paused for all is resumed for all only."""
    settings = options.settings_of_store()
    with remembered(settings) as store, nullcontext() if store is None else store.write() as connection:
        check_known(settings, connection, registry)
        now = datetime.now(UTC)
        ended = None if connection is None else rows.resume_registry(connection, registry or rows.ALL, who, now)
        if connection is None or ended is None:
            what = "all registries together are" if registry is None else f"{registry} by itself is"
            raise CommandError(f"{what} not paused; `registry-gc holds` shows what is", FAILED)
        paused = _pauses(connection, registry)
    options.report(pauses_report(registry, paused, ended))
