"""`registry-gc runs`, `show` and `audit`. They only read the store, and never create it."""

import re
from datetime import datetime
from typing import Any

import click

from worker.cli.errors import DONE, FAILED, CommandError
from worker.cli.options import IMAGE, TIME, Options, Parsed, common
from worker.cli.resources import store_connection, store_of_run
from worker.report.audit import audit_report, verified_report
from worker.report.run import runs_report, show_report
from worker.runs.lifecycle import get
from worker.store import audit as audit_chain
from worker.store import plans
from worker.store import runs as run_rows
from worker.store.history import deletions
from worker.text import counted


def _hash(value: str) -> str:
    """A SHA-256 in hexadecimal."""
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"expected 64 hexadecimal digits, got {value!r}")
    return value


HASH = Parsed("sha256", _hash)


@click.command()
@click.argument("registry", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Maximum number of runs.")
@common()
def runs(options: Options, registry: str | None, limit: int) -> None:
    """List the runs of REGISTRY, or of all registries, newest first."""
    with store_connection(options.settings_of_store(), registry) as connection:
        rows = [] if connection is None else run_rows.newest(connection, registry=registry, limit=limit)
    options.report(runs_report(rows))


@click.command()
@click.argument("run")
@common()
def show(options: Options, run: str) -> None:
    """Show RUN: its settings, its result, and every planned deletion with its outcome."""
    with store_of_run(options.settings_of_store(), run) as store:
        row = get(store, run)
        with store.read() as connection:
            options.report(show_report(row, plans.items_of(connection, run)))


@click.command()
@click.argument("registry", required=False)
@click.argument("reference", required=False, type=IMAGE)
@click.option("--since", type=TIME, metavar="TIME", help="Only deletions at or after this time.")
@click.option("--until", type=TIME, metavar="TIME", help="Only deletions before this time.")
@click.option("--verify", is_flag=True, help="Verify the hash chain of the audit; exit code 1 if it is broken.")
@click.option("--head", type=HASH, help="With --verify: a head saved earlier, which the chain must still contain.")
@common()
def audit(
    options: Options,
    registry: str | None,
    reference: str | None,
    since: datetime | None,
    until: datetime | None,
    verify: bool,
    head: str | None,
) -> int:
    """List the deletions of REGISTRY, or of one image, newest first. REFERENCE: path:tag, path@sha256:…, or an id."""
    if verify and (registry or since or until):
        raise click.UsageError("--verify checks the whole audit and takes no REGISTRY, --since or --until")
    if head is not None and not verify:
        raise click.UsageError("--head needs --verify")
    if verify:
        return _verify(options, head)
    filters: dict[str, Any] = {"registry": registry, "reference": reference, "since": since, "until": until}
    with store_connection(options.settings_of_store(), registry) as connection:
        options.report(audit_report(() if connection is None else deletions(connection, **filters)))
    return DONE


def _verify(options: Options, head: str | None) -> int:
    with store_connection(options.settings_of_store()) as connection:
        if connection is None:
            raise CommandError("the store does not exist yet, so there is no audit to verify", FAILED)
        result = audit_chain.verify(connection, head)
    if result.broken is not None and options.format == "table":
        rows = counted(result.rows, "valid row")
        raise CommandError(f"the audit chain is broken after {rows}: {result.broken}", FAILED)
    options.report(verified_report(result))
    return DONE if result.broken is None else FAILED
