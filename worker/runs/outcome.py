"""A run as a record, how it ended, the one sentence that says so, and the line of the log."""

from collections.abc import Iterable, Sequence
from typing import Any

from worker.logs import Log
from worker.store import Store, runs
from worker.store.runs import Run
from worker.store.verification import Unsuccessful

log = Log(__name__)

RUN_KEYS = (
    "id", "registry", "trigger", "task_id", "mode", "state", "outcome", "scheduled_for", "started_at", "finished_at",
    "policy_sha256", "plan_sha256", "message", "images", "planned", "deleted", "gone", "skipped", "failed",
    "selected_bytes", "reclaimable_bytes", "reclaimed_bytes", "registry_bytes",
)  # fmt: skip
PEOPLE_KEYS = ("opened_by", "approved_by", "aborted_by")  # only where there is something to say
LOGGED_COUNTS = ("images", "planned", "deleted", "gone", "skipped", "failed", "reclaimed_bytes")
INCOMPLETE = frozenset({"mode", "repository_changed"})  # causes of skips for which a run is not what it was to be


def run_json(run: Run) -> dict[str, Any]:
    """The keys of a run in the contract, in its order, and who opened, approved or aborted it."""
    return {key: getattr(run, key) for key in RUN_KEYS} | present(run, PEOPLE_KEYS)


def present(run: Run, keys: Iterable[str]) -> dict[str, Any]:
    """Those of these keys under which a run has something."""
    return {key: value for key in keys if (value := getattr(run, key))}


def log_finished(store: Store, run_id: str) -> None:
    """Log a run's end, once it is recorded. Its last hash proves outside the store what the run recorded."""
    with store.read() as connection:
        run = runs.get(connection, run_id)
    if run is not None and run.finished_at is not None:
        facts: dict[str, Any] = {"run": run.id, "registry": run.registry, "outcome": run.outcome, "reason": run.message}
        facts["seconds"] = round((run.finished_at - run.opened_at).total_seconds(), 1)
        facts["audit_sha256"] = run.audit_sha256 or None
        log.info("run_finished", **facts, **{name: getattr(run, name) for name in LOGGED_COUNTS})


def outcome_of(run: Run, unsuccessful: Sequence[Unsuccessful]) -> str:
    """The outcome of a run that was deleting. `unsuccessful`: its skipped and failed items."""
    if run.stop is not None:
        return {"aborted": "aborted", "expired": "partial", "deadline": "partial"}.get(run.stop, "failed")
    incomplete = any(_is_incomplete(one) for one in unsuccessful) or bool(run.unreadable_images)
    return "partial" if not run.complete or incomplete or run.failed or run.differences else "succeeded"


def message_of(run: Run, unsuccessful: Sequence[Unsuccessful]) -> str | None:
    """What a person has to know of a run that has ended; None: it did what it had planned."""
    if run.message:
        return run.message
    if run.differences:
        return _differences(run)
    if (run.unreadable or run.unreadable_images) and not any(_is_incomplete(one) for one in unsuccessful):
        return _unreadable(run)
    return _commonest(run, unsuccessful) if unsuccessful else None


def _is_incomplete(one: Unsuccessful) -> bool:
    return one.state == "failed" or one.cause in INCOMPLETE


def _commonest(run: Run, unsuccessful: Sequence[Unsuccessful]) -> str:
    """`12 of 20 images skipped (locked), for example shop/api@sha256:…: HTTP 412: …`. Failures come before skips."""
    first = max(unsuccessful, key=lambda one: (_is_incomplete(one), one.count))
    images = "1 image" if run.planned == 1 else f"{run.planned:,} images"
    what = f"{first.count:,} of {images} {first.state} ({first.cause})"
    if not first.message:
        return what
    named = f"{first.repository}@{first.digest[:19]}" in first.message  # as errors of registries do
    return f"{what}, for example {'' if named else f'{first.repository}@{first.digest}: '}{first.message}"


def _unreadable(run: Run) -> str:
    """`1 repository could not be read: shop/x: HTTP 500: …`; of several, the first; repositories before images."""
    rows, one, several = run.unreadable, "1 repository", "repositories"
    if not rows:
        rows, one, several = run.unreadable_images, "1 image", "images"
    where = "@".join(rows[0][key] for key in ("repository", "digest") if key in rows[0])
    first = f"{where}: {rows[0]['reason']}"
    if len(rows) == 1:
        return f"{one} could not be read: {first}"
    return f"{len(rows):,} {several} could not be read, the first: {first}; `registry-gc show {run.id}` lists them"


def _differences(run: Run) -> str:
    """`… 2 differences, the first: shop/api@sha256:…: it was kept, and is gone`."""
    first = run.differences[0]
    where = "@".join(part for part in (first["repository"], first["digest"]) if part)
    what = f"{where}: {first['difference']}" if where else first["difference"]
    count = "1 difference" if run.different == 1 else f"{run.different:,} differences, the first"
    return f"the verification after the sweep found {count}: {what}; `registry-gc show {run.id}` lists them"
