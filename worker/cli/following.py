"""Follows a run until it is finished or blocked: a bar on a terminal, a hint when no worker takes it, an exit code."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from policies.limits import exceeded_text
from policies.units import bytes_text
from worker.cli.errors import DONE, FAILED, OVER_LIMITS, say
from worker.cli.options import Options
from worker.report.run import ended_text, run_ndjson
from worker.runs.lifecycle import get
from worker.store import Store
from worker.store.runs import Run

EVERY = 0.3  # seconds between two looks at the row
PATIENCE = 5.0  # seconds in which a worker that is there has taken an open run

Tell = Callable[[int, int, str], None]


def follow(options: Options, store: Store, run_id: str) -> int:
    """Wait for a run and report it. Interrupted, it goes on without us."""
    try:
        with _bar(run_id) as tell:
            run = _until_ended(store, run_id, tell)
    except KeyboardInterrupt:
        say(f"run {run_id} goes on; `registry-gc abort {run_id}` stops it")
        raise
    with options.open() as output:
        output.report(table=lambda _: ended_text(run), json=lambda: run_ndjson(run), ndjson=lambda: run_ndjson(run))
    if run.mode == "dry-run" and run.exceeded:  # a blocked run says so itself
        say(f"warning: The plan is over its limits: {exceeded_text(run.exceeded)}.")
    return exit_code(run)


def exit_code(run: Run) -> int:
    """0 succeeded; 3 blocked, or a dry run that would have been; 1 anything else."""
    if run.state == "blocked" or run.outcome == "blocked" or (run.mode == "dry-run" and run.exceeded):
        return OVER_LIMITS
    return DONE if run.outcome == "succeeded" else FAILED


def _until_ended(store: Store, run_id: str, tell: Tell) -> Run:
    began, hinted = time.monotonic(), False
    while True:
        run = get(store, run_id)
        if run.state in ("finished", "blocked"):
            return run
        tell(run.deleted + run.gone + run.skipped + run.failed, run.planned, _beside(run))
        if run.state == "pending" and not hinted and time.monotonic() - began > PATIENCE:
            hinted = True
            say("no worker has taken the run yet; is one running? `registry-gc up`, or worker and beat, start one")
        time.sleep(EVERY)


def _beside(run: Run) -> str:
    if run.state != "deleting":
        return run.state
    return f"{bytes_text(run.reclaimed_bytes)} of {bytes_text(run.reclaimable_bytes)}"


@contextmanager
def _bar(run_id: str) -> Iterator[Tell]:
    if not sys.stderr.isatty():
        yield lambda _done, _all, _beside: None
        return
    from worker.cli.bars import telling_bar  # noqa: PLC0415 - rich is loaded only for terminals

    with telling_bar(f"run {run_id}") as tell:
        yield tell
