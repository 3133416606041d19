"""How a run ended: its record, outcome, message and log event."""

from collections.abc import Iterable, Sequence
from typing import Any

from worker.logs import Log
from worker.store import Store, runs
from worker.store.runs import Run
from worker.store.verification import Unsuccessful
from worker.text import counted, short

log = Log(__name__)

RUN_KEYS = (
    "id", "registry", "trigger", "task_id", "mode", "state", "outcome", "scheduled_for", "started_at", "finished_at",
    "policy_sha256", "plan_sha256", "message", "images", "planned", "deleted", "gone", "skipped", "failed",
    "selected_bytes", "reclaimable_bytes", "reclaimed_bytes", "registry_bytes",
)  # fmt: skip
PEOPLE_KEYS = ("opened_by", "approved_by", "aborted_by")  # only where they have a value
LOGGED_COUNTS = ("images", "planned", "deleted", "gone", "skipped", "failed", "reclaimed_bytes")
INCOMPLETE = frozenset({"mode", "repository_changed"})  # causes of skips that make a run partial


def run_json(run: Run) -> dict[str, Any]:
    """The keys of a run in the contract, in its order, and who opened, approved or aborted it."""
    return {key: getattr(run, key) for key in RUN_KEYS} | present(run, PEOPLE_KEYS)


def present(run: Run, keys: Iterable[str]) -> dict[str, Any]:
    """The keys for which a run has a value."""
    return {key: value for key in keys if (value := getattr(run, key))}


def log_finished(store: Store, run_id: str) -> None:
    """Log a run's recorded end. Its last hash proves, outside the store, what the run recorded."""
    with store.read() as connection:
        run = runs.get(connection, run_id)
    if run is not None and run.finished_at is not None:
        facts: dict[str, Any] = {"run": run.id, "registry": run.registry, "outcome": run.outcome, "reason": run.message}
        facts["seconds"] = round((run.finished_at - run.opened_at).total_seconds(), 1)
        facts["audit_sha256"] = run.audit_sha256 or None
        log.info("run_finished", **facts, **{name: getattr(run, name) for name in LOGGED_COUNTS})


def outcome_of(run: Run, unsuccessful: Sequence[Unsuccessful]) -> str:
    """The outcome of a run that was deleting. `unsuccessful`: its skipped and failed items. `succeeded`, `partial`,
    `failed` or `aborted`. The outcome of a stopped run depends on its reason alone.
    """
    if run.stop is not None:
        return {"aborted": "aborted", "expired": "partial", "deadline": "partial"}.get(run.stop, "failed")
    incomplete = any(_is_incomplete(group) for group in unsuccessful) or bool(run.unreadable_images)
    return "partial" if not run.complete or incomplete or run.failed or run.differences else "succeeded"


def message_of(run: Run, unsuccessful: Sequence[Unsuccessful]) -> str | None:
    """What a person must know of a finished run; None: it did everything that it planned."""
    if run.message:
        return run.message
    if run.differences:
        count = counted(run.difference_count, "difference") + ("" if run.difference_count == 1 else ", the first")
        what = f"{count}: {difference_text(run.differences[0])}"
        return f"the verification after the sweep found {what}; `registry-gc show {run.id}` lists them"
    if (run.unreadable or run.unreadable_images) and not any(_is_incomplete(group) for group in unsuccessful):
        return _unreadable(run)
    return _commonest(run, unsuccessful) if unsuccessful else None


def _is_incomplete(group: Unsuccessful) -> bool:
    return group.state == "failed" or group.cause in INCOMPLETE


def _commonest(run: Run, unsuccessful: Sequence[Unsuccessful]) -> str:
    """`12 of 20 images skipped (locked), for example shop/api@sha256:…: HTTP 412: …`. Failures come before skips."""
    first = max(unsuccessful, key=lambda group: (_is_incomplete(group), group.count))
    what = f"{first.count:,} of {counted(run.planned, 'image')} {first.state} ({first.cause})"
    if not first.message:
        return what
    named = f"{first.repository}@{short(first.digest)}" in first.message  # as errors of registries do
    return f"{what}, for example {'' if named else f'{first.repository}@{first.digest}: '}{first.message}"


def _unreadable(run: Run) -> str:
    """`1 repository could not be read: shop/x: HTTP 500: …`; the first of several; repositories before images."""
    rows, names = (
        (run.unreadable, ("repository", "repositories")) if run.unreadable else (run.unreadable_images, ("image",))
    )
    where = "@".join(rows[0][key] for key in ("repository", "digest") if key in rows[0])
    what, first = f"{counted(len(rows), *names)} could not be read", f"{where}: {rows[0]['reason']}"
    return (
        f"{what}: {first}" if len(rows) == 1 else f"{what}, the first: {first}; `registry-gc show {run.id}` lists them"
    )


def difference_text(difference: dict[str, Any]) -> str:
    """`shop/api@sha256:…: it was kept, and is gone`."""
    where = "@".join(part for part in (difference["repository"], difference["digest"]) if part)
    return f"{where}: {difference['difference']}" if where else str(difference["difference"])
