"""`registry-gc holds`, `release`, `pause` and `resume`."""

from contextlib import nullcontext
from datetime import UTC, datetime

import click
from sqlalchemy import Connection

from worker.cli.errors import FAILED, USAGE, CommandError
from worker.cli.options import Options, common, reason_option, who_option
from worker.cli.resources import check_registry_is_known, existing_store, store_connection
from worker.report.hold import holds_report, pauses_report, released_report, what_text
from worker.runs.lifecycle import registry_named
from worker.store import holds as rows
from worker.store import open_store


@click.command()
@click.argument("registry", required=False)
@common()
def holds(options: Options, registry: str | None) -> None:
    """List the holds and pauses of REGISTRY, or of all registries."""
    held: list[rows.StoredHold] = []
    paused: list[rows.Pause] = []
    with store_connection(options.settings_of_store(), registry) as connection:
        if connection is not None:
            held = rows.active_rows(connection, datetime.now(UTC), registries=None if registry is None else (registry,))
            paused = _pauses(connection, registry)
    options.report(holds_report(held, paused))


def _pauses(connection: Connection, registry: str | None) -> list[rows.Pause]:
    """The pauses in force for a registry, or all of them."""
    return [pause for pause in rows.pauses(connection) if registry in (None, pause.registry) or pause.of_all]


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="HOLD | REGISTRY REFERENCE")
@who_option
@common()
def release(options: Options, words: tuple[str, ...], who: str) -> None:
    """End the hold with this number, which `holds` shows, or all holds on REFERENCE in REGISTRY."""
    number = int(words[0]) if len(words) == 1 and words[0].isascii() and words[0].isdigit() else None
    if number is None and len(words) != 2:
        raise click.UsageError("give a hold's number, or REGISTRY and REFERENCE; `registry-gc holds` lists them")
    now = datetime.now(UTC)
    released: list[rows.StoredHold] = []
    with existing_store(options.settings_of_store()) as store:
        if store is not None:
            with store.write() as connection:
                for row in rows.active_rows(connection, now):
                    matches = row.id == number if number is not None else (row.registry, what_text(row.hold)) == words
                    if matches and rows.release(connection, row.id, who, now):
                        released.append(row)
    if not released:
        raise CommandError(f"there is no hold {' '.join(words)!r}; `registry-gc holds` lists the holds", USAGE)
    options.report(released_report(released))


@click.command()
@click.argument("registry", required=False)
@reason_option
@who_option
@common()
def pause(options: Options, registry: str | None, reason: str, who: str) -> None:
    """Stop all deletions in REGISTRY, or in all registries, until `resume`. Runs still scan and plan.

    A deletion that has already been sent is completed.
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
    """End the pause of REGISTRY, or of all registries. A pause of all registries ends only without REGISTRY."""
    settings = options.settings_of_store()
    with existing_store(settings) as store, nullcontext() if store is None else store.write() as connection:
        check_registry_is_known(settings, connection, registry)
        now = datetime.now(UTC)
        ended = None if connection is None else rows.resume_registry(connection, registry or rows.ALL, who, now)
        if connection is None or ended is None:
            subject = "all registries together are" if registry is None else f"{registry} by itself is"
            raise CommandError(f"{subject} not paused; `registry-gc holds` lists the pauses", FAILED)
        paused = _pauses(connection, registry)
    options.report(pauses_report(registry, paused, ended))
