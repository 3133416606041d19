"""`registry-gc sweep`: opens a run now, and, asked to wait, follows it to its end."""

from datetime import UTC, datetime

import click

from worker.cli.errors import say
from worker.cli.following import follow
from worker.cli.live import opened_store
from worker.cli.options import Options, common
from worker.cli.people import who_option
from worker.cli.ringing import ring
from worker.report.run import opened_text, run_ndjson
from worker.runs.lifecycle import get, open_run, registry_named


@click.command()
@click.argument("registry")
@click.option("--dry-run", is_flag=True, help="End with the plan, whatever the file's mode says.")
@click.option("--wait", is_flag=True, help="Follow the run; exit 1 if it did not succeed, 3 if it is over its limits.")
@who_option
@common()
def sweep(options: Options, registry: str, dry_run: bool, wait: bool, who: str) -> int:
    """Open a run of REGISTRY now. The worker carries it out: in the file's mode, or as a dry run.

    Exit code 4: another run of it is active.
    """
    settings = options.settings()
    registry_named(settings, registry)
    with opened_store(settings) as store:
        now = datetime.now(UTC)
        opened = open_run(store, settings, registry, trigger="command", now=now, dry_run=dry_run, who=who)
        if not ring(settings, opened.bells, verbose=options.verbose):
            say("warning: Redis takes no messages; the run is open and starts as soon as beat and Redis are back")
        if wait:
            return follow(options, store, opened.run_id)
        run = get(store, opened.run_id)
    with options.open() as output:
        output.report(table=lambda _: opened_text(run), json=lambda: run_ndjson(run), ndjson=lambda: run_ndjson(run))
    return 0
