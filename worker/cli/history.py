"""`registry-gc runs`, `show` and `audit`: what happened. They only read, and make no store where there is none."""

import re
from datetime import datetime
from typing import Any

import click

from worker.cli.errors import DONE, FAILED, CommandError
from worker.cli.live import recorded, store_of_run
from worker.cli.options import IMAGE, TIME, Options, Parsed, common
from worker.report.audit import audit_report, verified_report
from worker.report.run import runs_report, show_report
from worker.runs.lifecycle import get
from worker.store import audit as chained
from worker.store import plans
from worker.store import runs as run_rows
from worker.store.history import deletions
from worker.text import counted


def _hash(value: str) -> str:
    """A SHA-256 as the audit writes it."""
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"expected 64 hexadecimal digits, got {value!r}")
    return value


HASH = Parsed("sha256", _hash)


@click.command()
@click.argument("registry", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@common()
def runs(options: Options, registry: str | None, limit: int) -> None:
    """The runs so far, newest first, of REGISTRY or of all."""
    with recorded(options.settings_of_store(), registry) as connection:
        found = [] if connection is None else run_rows.newest(connection, registry=registry, limit=limit)
    options.report(runs_report(found))


@click.command()
@click.argument("run")
@common()
def show(options: Options, run: str) -> None:
    """One RUN: what it is, what it did, and every deletion of its plan."""
    with store_of_run(options.settings_of_store(), run) as store:
        found = get(store, run)
        with store.read() as connection:
            options.report(show_report(found, plans.items_of(connection, run)))


@click.command()
@click.argument("registry", required=False)
@click.argument("reference", required=False, type=IMAGE)
@click.option("--since", type=TIME, metavar="TIME", help="Not what went before.")
@click.option("--until", type=TIME, metavar="TIME", help="Nor what went then or later.")
@click.option("--verify", is_flag=True, help="Compute the chain's hashes again; exit code 1 if they do not hold.")
@click.option("--head", type=HASH, help="With --verify: a head noted earlier, which must still be in the chain.")
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
    """Every deletion, newest first, of REGISTRY, or of one image: path:tag, path@sha256:…, or an id."""
    if verify and (registry or since or until):
        raise click.UsageError("--verify is of the whole audit: it takes no REGISTRY, --since or --until")
    if verify:
        return _verify(options, head)
    if head is not None:
        raise click.UsageError("--head needs --verify")
    which: dict[str, Any] = {"registry": registry, "reference": reference, "since": since, "until": until}
    with recorded(options.settings_of_store(), registry) as connection:
        options.report(audit_report(() if connection is None else deletions(connection, **which)))
    return DONE


def _verify(options: Options, head: str | None) -> int:
    """Say whether the chain holds."""
    with recorded(options.settings_of_store()) as connection:
        if connection is None:
            raise CommandError("there is no store yet, and so no audit to verify", FAILED)
        found = chained.verify(connection, head)
    if found.broken is not None and options.format == "table":
        before = counted(found.rows, "row")
        raise CommandError(f"the audit's chain does not hold: {found.broken}; {before} before that", FAILED)
    options.report(verified_report(found))
    return DONE if found.broken is None else FAILED
