"""`registry-gc runs`, `show` and `audit`: what happened. They only read, and make no store where there is none."""

from collections.abc import Iterator
from contextlib import ExitStack

import click

from worker.cli.live import check_known, remembered, store_of_run
from worker.cli.options import Options, common
from worker.cli.reference import Reference
from worker.report.audit import audit_json, audit_ndjson, audit_table
from worker.report.run import runs_json, runs_ndjson, runs_table, show_json, show_ndjson, show_table
from worker.runs import get
from worker.store import plans
from worker.store import runs as run_rows
from worker.store.history import Audited, deletions


@click.command()
@click.argument("registry", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@common()
def runs(options: Options, registry: str | None, limit: int) -> None:
    """The runs so far, newest first, of REGISTRY or of all."""
    found = []
    settings = options.settings_of_store()
    with remembered(settings) as store:
        check_known(settings, store, registry)
        if store is not None:
            with store.read() as connection:
                found = run_rows.newest(connection, registry=registry, limit=limit)
    with options.open() as output:
        output.report(
            table=lambda width: runs_table(found, width),
            json=lambda: runs_json(found),
            ndjson=lambda: runs_ndjson(found),
        )


@click.command()
@click.argument("run")
@common()
def show(options: Options, run: str) -> None:
    """One RUN: what it is, what it did, and every deletion of its plan."""
    with store_of_run(options.settings_of_store(), run) as store:
        found = get(store, run)
        with store.read() as connection, options.open() as output:
            items = plans.items_of(connection, run)
            output.report(
                table=lambda width: show_table(found, items, width),
                json=lambda: show_json(found, items),
                ndjson=lambda: show_ndjson(found, items),
            )


@click.command()
@click.argument("registry", required=False)
@click.argument("reference", required=False, type=Reference())
@common()
def audit(options: Options, registry: str | None, reference: str | None) -> None:
    """Every deletion, newest first, of REGISTRY, or of one image: path:tag, path@sha256:…, or an id."""
    settings = options.settings_of_store()
    with remembered(settings) as store, ExitStack() as stack:
        check_known(settings, store, registry)
        output = stack.enter_context(options.open())
        found: Iterator[Audited] = iter(())
        if store is not None:
            connection = stack.enter_context(store.read())
            found = deletions(connection, registry=registry, reference=reference)
        output.report(
            table=lambda width: audit_table(found, width),
            json=lambda: audit_json(found),
            ndjson=lambda: audit_ndjson(found),
        )
