"""Each minute: finds lost task calls and runs that were due in the store, and publishes or opens them again."""

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from worker.notify import after_run, notification
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall
from worker.runs.terms import expire, late, registry_of, why_unconfigured
from worker.store import Store, StoreError, audit, leases
from worker.store import runs as run_rows
from worker.store.runs import Run

if TYPE_CHECKING:
    from worker.config.settings import Settings


def reconcile(store: Store, settings: "Settings | None", now: datetime) -> tuple[TaskCall, ...]:
    """Open runs that are due, and return the task calls of every unfinished run. Raises StoreError.

    `settings` None: the file is invalid. No run is opened then, and deleting runs go on so that the rest is skipped.
    """
    with store.write() as connection:
        run_rows.record_heartbeat(connection, "beat", now)
    task_calls: list[TaskCall] = []
    with store.read() as connection:
        unfinished = run_rows.unfinished(connection)
    if settings is None:
        return tuple(
            task_call
            for run in unfinished
            if run.state == "deleting"
            for task_call in lifecycle.next_task_calls(store, run.id, now)
        )
    for name in settings.registries:
        task_calls += lifecycle.open_if_due(store, settings, name, now)
    for run in unfinished:
        task_calls += _recover(store, settings, run, now)
    with suppress(StoreError):  # these can wait a minute, the task calls above cannot
        task_calls += notification.task_calls(store, settings, now)
        task_calls += after_run.task_calls(store, settings, now)
        audit.forget(store, now - settings.retention.audit)
    return tuple(dict.fromkeys(task_calls))


def _recover(store: Store, settings: "Settings", run: Run, now: datetime) -> tuple[TaskCall, ...]:
    match run.state:
        case "pending" | "planning":
            return _recover_scan(store, settings, run, now)
        case "planned":
            return lifecycle.advance(store, run.id, now)
        case "blocked":
            expire(store, settings, run, now)
            return ()
        case _:
            registry = registry_of(settings, run) if run.swept_at is None else None
            if registry is not None and (reason := late(run, registry, now)) is not None:
                with store.write() as connection:
                    run_rows.request_stop(connection, run.id, *reason)
            return lifecycle.next_task_calls(store, run.id, now, again_after=settings.timing.lease)


def _recover_scan(store: Store, settings: "Settings", run: Run, now: datetime) -> tuple[TaskCall, ...]:
    leased = run.state == "planning" and leases.is_held(run.lease_until, now)
    if leased or expire(store, settings, run, now):
        return ()
    if registry_of(settings, run) is None:
        lifecycle.fail(store, run.id, why_unconfigured(settings, run), now)
    elif run.stop is not None or run.scans >= lifecycle.SCANS:
        lifecycle.fail(store, run.id, run.message or f"its scan was begun {run.scans} times and never ended", now)
    else:
        return (TaskCall("gc.scan", (run.id,)),)
    return ()
