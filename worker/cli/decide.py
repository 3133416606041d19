"""`registry-gc approve` and `abort`: a person's word on a run."""

from datetime import UTC, datetime

import click

from worker.cli.errors import say
from worker.cli.following import follow
from worker.cli.live import store_of_run
from worker.cli.options import Options, common
from worker.cli.people import who_option
from worker.cli.ringing import ring
from worker.report.run import run_ndjson, said_text
from worker.runs import lifecycle
from worker.store import Store


@click.command()
@click.argument("run")
@click.option("--wait", is_flag=True, help="Follow the run; exit 1 if it did not succeed.")
@who_option
@common()
def approve(options: Options, run: str, wait: bool, who: str) -> int:
    """Let the blocked RUN delete exactly what its plan says, and nothing else.

    A policy or file that has changed since is warned of, and changes nothing about the plan.

    Exit code 1: it is superseded by a newer plan, or older than plan_max_age; 4: another run of the registry is active.
    """
    settings = options.settings_of_store()
    with store_of_run(settings, run) as store:
        bells = lifecycle.approve(store, settings, run, datetime.now(UTC), who=who)
        if (changed := lifecycle.changed_since_plan(settings, lifecycle.get(store, run))) is not None:
            say(f"warning: {changed}")
        if not ring(settings, bells, verbose=options.verbose):
            say("warning: Redis takes no messages; the run goes on as soon as beat and Redis are back")
        if wait:
            return follow(options, store, run)
        _report(options, store, run, "approved")
    return 0


@click.command()
@click.argument("run")
@who_option
@common()
def abort(options: Options, run: str, who: str) -> int:
    """Stop RUN before its next deletion. What is under way is resolved first.

    Exit code 1: it has ended, or is stopping already.
    """
    settings = options.settings_of_store()
    with store_of_run(settings, run) as store:
        bells = lifecycle.abort(store, run, datetime.now(UTC), who=who)
        if not ring(settings, bells, verbose=options.verbose):
            say("warning: Redis takes no messages; what is under way is resolved as soon as beat and Redis are back")
        _report(options, store, run, "asked to stop")
    return 0


def _report(options: Options, store: Store, run_id: str, done: str) -> None:
    run = lifecycle.get(store, run_id)
    with options.open() as output:
        output.report(
            table=lambda _: said_text(run, done), json=lambda: run_ndjson(run), ndjson=lambda: run_ndjson(run)
        )
