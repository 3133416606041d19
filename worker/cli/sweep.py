"""`registry-gc sweep`, `approve` and `abort` open, approve and stop a run. With --wait they follow it to its end."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

import click

from policies.limits import exceeded_text
from policies.units import bytes_text
from worker.cli.errors import DONE, FAILED, OVER_LIMITS, say
from worker.cli.options import Options, common, who_option
from worker.cli.resources import ShowProgress, progress_bar, store_of_run
from worker.config.settings import Settings
from worker.report.run import ended_report, run_report
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall, get, registry_named
from worker.runs.terms import changed_since_plan
from worker.store import Store, open_store
from worker.store.runs import Run

POLL_SECONDS = 0.3  # between two reads of the run
PICKUP_SECONDS = 5.0  # a running worker takes an open run within this time


@click.command()
@click.argument("registry")
@click.option("--dry-run", is_flag=True, help="End with the plan, whatever mode the file sets.")
@click.option(
    "--wait", is_flag=True, help="Wait for the end; exit 1 if the run does not succeed, 3 if it is over its limits."
)
@who_option
@common()
def sweep(options: Options, registry: str, dry_run: bool, wait: bool, who: str) -> int:
    """Start a run of REGISTRY now. A worker carries it out, in the mode of the file or as a dry run.

    Exit code 4: another run of REGISTRY is active.
    """
    settings = options.settings()
    registry_named(settings, registry)
    with open_store(settings.store) as store:
        now = datetime.now(UTC)
        opened = lifecycle.open_run(store, settings, registry, trigger="command", now=now, dry_run=dry_run, who=who)
        consequence = "the run is open and starts as soon as beat and Redis are back"
        _enqueue(options, settings, opened.task_calls, consequence)
        if wait:
            return follow(options, store, opened.run_id)
        run = get(store, opened.run_id)
    line = f"run {run.id} of {run.registry} is open, mode {run.mode}; `registry-gc show {run.id}` shows its progress"
    options.report(run_report(run, line))
    return DONE


@click.command()
@click.argument("run")
@click.option("--wait", is_flag=True, help="Wait for the end; exit 1 if the run does not succeed.")
@who_option
@common()
def approve(options: Options, run: str, wait: bool, who: str) -> int:
    """Let the blocked RUN carry out exactly its plan.

    If the policy or the file has changed since, a warning says so; the plan stays the same.

    Exit code 1: the plan is older than plan_max_age, or a newer plan replaced it; 4: another run of the registry is
    active.
    """
    settings = options.settings_of_store()
    with store_of_run(settings, run) as store:
        task_calls = lifecycle.approve(store, settings, run, datetime.now(UTC), who=who)
        if (changed := changed_since_plan(settings, get(store, run))) is not None:
            say(f"warning: {changed}")
        _enqueue(options, settings, task_calls, "the run continues as soon as beat and Redis are back")
        if wait:
            return follow(options, store, run)
        row = get(store, run)
    options.report(run_report(row, f"run {run} of {row.registry}: approved, now {row.outcome or row.state}"))
    return DONE


@click.command()
@click.argument("run")
@who_option
@common()
def abort(options: Options, run: str, who: str) -> int:
    """Stop RUN before its next deletion. Deletions in progress are resolved first.

    Exit code 1: RUN has ended, or is already stopping.
    """
    settings = options.settings_of_store()
    with store_of_run(settings, run) as store:
        task_calls = lifecycle.abort(store, run, datetime.now(UTC), who=who)
        _enqueue(options, settings, task_calls, "deletions in progress are resolved as soon as beat and Redis are back")
        row = get(store, run)
    options.report(run_report(row, f"run {run} of {row.registry}: stopping, now {row.outcome or row.state}"))
    return DONE


def _enqueue(options: Options, settings: Settings, task_calls: Iterable[TaskCall], consequence: str) -> None:
    from worker.cli.with_celery import enqueue  # noqa: PLC0415 - Celery, loaded only where there is a run to enqueue

    if not enqueue(settings, task_calls, verbose=options.verbose):
        say(f"warning: Redis accepts no messages; {consequence}")


def follow(options: Options, store: Store, run_id: str) -> int:
    """Wait until a run is finished or blocked, and report it. An interrupt does not stop the run."""
    try:
        with progress_bar(f"run {run_id}") as show_progress:
            run = _wait_for_end(store, run_id, show_progress)
    except KeyboardInterrupt:
        say(f"run {run_id} continues; `registry-gc abort {run_id}` stops it")
        raise
    options.report(ended_report(run))
    over_limits = run.state == "blocked" or run.outcome == "blocked"
    if run.mode == "dry-run" and run.exceeded:  # the message of a blocked run names its limits
        say(f"warning: The plan is over its limits: {exceeded_text(run.exceeded)}.")
        over_limits = True
    return OVER_LIMITS if over_limits else DONE if run.outcome == "succeeded" else FAILED


def _wait_for_end(store: Store, run_id: str, show_progress: ShowProgress) -> Run:
    began, hinted = time.monotonic(), False
    while True:
        run = get(store, run_id)
        if run.state in ("finished", "blocked"):
            return run
        freed = f"{bytes_text(run.reclaimed_bytes)} of {bytes_text(run.reclaimable_bytes)}"
        note = freed if run.state == "deleting" else run.state
        show_progress(run.deleted + run.gone + run.skipped + run.failed, run.planned, note)
        if run.state == "pending" and not hinted and time.monotonic() - began > PICKUP_SECONDS:
            hinted = True
            say("no worker has taken the run yet; is one running? Start `registry-gc up`, or worker and beat")
        time.sleep(POLL_SECONDS)
