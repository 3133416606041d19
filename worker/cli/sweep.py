"""`registry-gc sweep`, `approve` and `abort`: open a run now, let it go on, or stop it; and follow it to its end."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

import click

from policies.limits import exceeded_text
from policies.units import bytes_text
from worker.cli.errors import DONE, FAILED, OVER_LIMITS, say
from worker.cli.live import Tell, progress_bar, store_of_run
from worker.cli.options import Options, common, who_option
from worker.config.settings import Settings
from worker.report.run import ended_report, run_report
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall, get, registry_named
from worker.runs.terms import changed_since_plan
from worker.store import Store, open_store
from worker.store.runs import Run

EVERY = 0.3  # seconds between two looks at the row
PICKUP_SECONDS = 5.0  # seconds in which a worker that is there has taken an open run


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
    with open_store(settings.store) as store:
        now = datetime.now(UTC)
        opened = lifecycle.open_run(store, settings, registry, trigger="command", now=now, dry_run=dry_run, who=who)
        away = "the run is open and starts as soon as beat and Redis are back"
        _enqueue(options, settings, opened.task_calls, away)
        if wait:
            return follow(options, store, opened.run_id)
        run = get(store, opened.run_id)
    told = f"run {run.id} of {run.registry} is open, mode {run.mode}; `registry-gc show {run.id}` tells how it goes"
    options.report(run_report(run, told))
    return DONE


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
        task_calls = lifecycle.approve(store, settings, run, datetime.now(UTC), who=who)
        if (changed := changed_since_plan(settings, get(store, run))) is not None:
            say(f"warning: {changed}")
        _enqueue(options, settings, task_calls, "the run goes on as soon as beat and Redis are back")
        if wait:
            return follow(options, store, run)
        _report(options, get(store, run), "approved")
    return DONE


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
        task_calls = lifecycle.abort(store, run, datetime.now(UTC), who=who)
        _enqueue(options, settings, task_calls, "what is under way is resolved as soon as beat and Redis are back")
        _report(options, get(store, run), "asked to stop")
    return DONE


def _enqueue(options: Options, settings: Settings, task_calls: Iterable[TaskCall], away: str) -> None:
    """`away`: what happens if Redis is."""
    from worker.cli.with_celery import enqueue  # noqa: PLC0415 - Celery, loaded only where there is a run to enqueue

    if not enqueue(settings, task_calls, verbose=options.verbose):
        say(f"warning: Redis takes no messages; {away}")


def _report(options: Options, run: Run, done: str) -> None:
    options.report(run_report(run, f"run {run.id} of {run.registry}: {done}, now {run.outcome or run.state}"))


def follow(options: Options, store: Store, run_id: str) -> int:
    """Wait until a run is finished or blocked, and report it. Interrupted, it goes on without us."""
    try:
        with progress_bar(f"run {run_id}") as tell:
            run = _until_ended(store, run_id, tell)
    except KeyboardInterrupt:
        say(f"run {run_id} goes on; `registry-gc abort {run_id}` stops it")
        raise
    options.report(ended_report(run))
    over = run.state == "blocked" or run.outcome == "blocked"
    if run.mode == "dry-run" and run.exceeded:  # a blocked run says so itself
        say(f"warning: The plan is over its limits: {exceeded_text(run.exceeded)}.")
        over = True
    return OVER_LIMITS if over else DONE if run.outcome == "succeeded" else FAILED


def _until_ended(store: Store, run_id: str, tell: Tell) -> Run:
    began, hinted = time.monotonic(), False
    while True:
        run = get(store, run_id)
        if run.state in ("finished", "blocked"):
            return run
        freed = f"{bytes_text(run.reclaimed_bytes)} of {bytes_text(run.reclaimable_bytes)}"
        beside = freed if run.state == "deleting" else run.state
        tell(run.deleted + run.gone + run.skipped + run.failed, run.planned, beside)
        if run.state == "pending" and not hinted and time.monotonic() - began > PICKUP_SECONDS:
            hinted = True
            say("no worker has taken the run yet; is one running? `registry-gc up`, or worker and beat, start one")
        time.sleep(EVERY)
