"""The life of a run: open, advance, publish, finish. Knows nothing of Celery, HTTP or a registry's protocol.

Every function may be called twice, late or never. It returns task calls for the caller to publish; a lost task call
does no harm, because `worker.reconcile` publishes it again.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from policies.limits import exceeded_text
from worker.config.settings import RegistrySettings, Settings
from worker.logs import Log
from worker.runs.checkpoints import reach
from worker.runs.outcome import log_finished, message_of, outcome_of
from worker.runs.schedule import due
from worker.runs.terms import expire
from worker.store import Store, leases, runs, sweeping, verification
from worker.store.runs import Run
from worker.text import instant

log = Log(__name__)

SCANS = 3  # how often a run's scan is started before the run fails
VERIFICATIONS = 3  # how often a verification is started before the run ends without one
VERIFIED = (None, "expired", "deadline", "failed")  # stops after which a sweep is verified
SEARCH_BACK = timedelta(days=8)  # how far back a due time is searched for
RECHECK_VALID_FOR = timedelta(minutes=10)  # how long a recheck permits deletions in its repository


class UnknownRegistryError(Exception):
    """No registry has that name. `known`: the configured names; `where`: the file, and whatever else was searched."""

    exit_code = 2

    def __init__(self, name: str, known: Iterable[str], where: str) -> None:
        self.name, self.known = name, ", ".join(sorted(known)) or "none"
        super().__init__(f"there is no registry {name!r} in {where}; known: {self.known}")


class UnknownRunError(Exception):
    """The store has no such run."""

    exit_code = 2


class AlreadyRunningError(Exception):
    """Another run of the same registry is active. `run_id` None: it was active a moment ago and has just ended."""

    exit_code = 4

    def __init__(self, registry: str, run_id: str | None) -> None:
        active = f"run {run_id} is active; wait for it, or `registry-gc abort {run_id}`"
        super().__init__(f"{registry}: {active if run_id else 'another run was active and has just ended; try again'}")
        self.run_id = run_id


class NothingToStopError(Exception):
    """The run has ended, or is stopping already."""

    exit_code = 1


class NotBlockedError(Exception):
    """The run does not wait for an approval, or no longer."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class TaskCall:
    """A task to publish: its name and row ids, never what to delete."""

    task: str
    args: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class OpenedRun:
    run_id: str
    task_calls: tuple[TaskCall, ...]


def open_run(
    store: Store,
    settings: Settings,
    name: str,
    *,
    trigger: str,
    now: datetime,
    task_id: str | None = None,
    scheduled_for: datetime | None = None,
    dry_run: bool = False,
    who: str | None = None,
) -> OpenedRun:
    """Open a run of a registry; the same task id or due time is the same run. `who`: the person who asked for it.

    Raises UnknownRegistryError, AlreadyRunningError, StoreError.
    """
    registry = registry_named(settings, name)
    values = _new(registry, trigger, now) | {"task_id": task_id, "scheduled_for": scheduled_for, "opened_by": who}
    if dry_run:
        values["mode"] = "dry-run"
    try:
        with store.write() as connection:
            runs.record_registry(connection, name, schedule_line(registry), now)
            runs.add(connection, values)
    except IntegrityError:
        with store.read() as connection:
            same = runs.by_task(connection, task_id) if task_id else None
            if same is None and scheduled_for is not None:
                same = runs.by_due_time(connection, registry.key, scheduled_for)
        if same is None:
            raise _other_run(store, registry.name, registry.key) from None
        return OpenedRun(same.id, ())
    facts = {"run": values["id"], "registry": registry.name, "trigger": trigger, "mode": values["mode"]}
    log.info("run_opened", **facts, policy=registry.policy.name, requested_by=who)
    reach("run_opened")
    return OpenedRun(values["id"], (TaskCall("gc.scan", (values["id"],)),))


def registry_named(settings: Settings, name: str) -> RegistrySettings:
    """The settings of the registry with this name. Raises UnknownRegistryError."""
    if (registry := settings.registries.get(name)) is None:
        raise UnknownRegistryError(name, settings.registries, str(settings.path))
    return registry


def _new(registry: RegistrySettings, trigger: str, now: datetime) -> dict[str, Any]:
    return {
        "id": runs.new_id(now),
        "registry": registry.name,
        "registry_key": registry.key,
        "trigger": trigger,
        "mode": registry.mode,
        "registry_mode": registry.mode,
        "state": "pending",
        "opened_at": now,
        "policy": registry.policy.name,
        "policy_sha256": registry.policy.sha256,
    }


def _other_run(store: Store, registry: str, key: str) -> AlreadyRunningError:
    with store.read() as connection:
        other = runs.active(connection, key)
    return AlreadyRunningError(registry, other.id if other else None)


def schedule_line(registry: RegistrySettings) -> str | None:
    """The cron line with its time zone; another line is another schedule."""
    return f"{registry.schedule} {registry.timezone}" if registry.schedule else None


def note_registries(store: Store, settings: Settings, now: datetime) -> None:
    """Record the configured registries, at the start of every process: a schedule counts from then on. Safe to repeat:
    a registry whose cron line and time zone are as before keeps its times. Raises StoreError.
    """
    with store.write() as connection:
        for registry in settings.registries.values():
            runs.record_registry(connection, registry.name, schedule_line(registry), now)


def open_if_due(store: Store, settings: Settings, name: str, now: datetime) -> tuple[TaskCall, ...]:
    """Open the run that is due now, or record it as missed, once. Raises UnknownRegistryError, StoreError."""
    registry = registry_named(settings, name)
    with store.write() as connection:
        cron_line_since = runs.record_registry(connection, name, schedule_line(registry), now)
        last = runs.last_due_time(connection, registry.key)
    if registry.schedule is None:
        return ()
    after = max(moment for moment in (cron_line_since, last, now - SEARCH_BACK) if moment is not None)
    due_at, _ = due(registry.schedule, registry.timezone, min(after, now), now)
    if due_at is None:
        return ()
    if now - due_at > registry.catch_up:
        message = f"was due at {instant(due_at)} and could not start within catch_up"
        ended = {"state": "finished", "outcome": "missed", "finished_at": now, "message": message}
        missed = _new(registry, "schedule", now) | ended | {"scheduled_for": due_at}
        with suppress(IntegrityError), store.write() as connection:  # else another process recorded it
            runs.add(connection, missed)
        log_finished(store, missed["id"])
        return ()
    try:
        return open_run(store, settings, name, trigger="schedule", now=now, scheduled_for=due_at).task_calls
    except AlreadyRunningError:
        return ()  # reconcile tries again each minute, until catch_up


def advance(store: Store, run_id: str, now: datetime) -> tuple[TaskCall, ...]:
    """Take a planned run to its next state: finished (dry run), blocked, or deleting."""
    with store.write() as connection:
        run = runs.get(connection, run_id, lock=True)
        if run is None or run.state != "planned":
            return ()
        if run.mode != "delete":
            whole = run.complete and not run.unreadable_images
            runs.finish(connection, run, "planned", "succeeded" if whole else "partial", now)
        elif run.exceeded:
            what = f"the plan is over its limits: {exceeded_text(run.exceeded)}"
            message = f"{what}; look at it with `registry-gc show {run.id}`, then approve or abort it"
            runs.change(connection, run_id, ["planned"], state="blocked", message=message)
            limits = [exceeded["limit"] for exceeded in run.exceeded]
            log.warning("blocked", run=run.id, registry=run.registry, limits=limits, reason=message)
        else:
            runs.change(connection, run_id, ["planned"], state="deleting", deleting_at=store.now(connection))
    if run.mode != "delete":
        log_finished(store, run_id)
    return next_task_calls(store, run_id, now)


def next_task_calls(
    store: Store, run_id: str, now: datetime, *, again_after: timedelta = timedelta(seconds=120)
) -> tuple[TaskCall, ...]:
    """The task calls with which a deleting run goes on; finishes the run if nothing is left.

    A task call published within `again_after` is not repeated: else every batch would publish all others.
    """
    if finish_if_done(store, run_id, now):
        return ()
    with store.write() as connection:
        run = runs.get(connection, run_id, lock=True)
        if run is None or run.state != "deleting":
            return ()
        clock = store.now(connection)
        if run.swept_at is not None:
            return () if leases.is_held(run.lease_until, clock) else (TaskCall("gc.verify", (run_id,)),)
        ready = sweeping.mark_published(connection, run_id, clock, clock - again_after, clock - RECHECK_VALID_FOR)
    task_calls: dict[TaskCall, None] = {}
    for row in ready:
        if recheck_is_valid(row.rechecked_at, clock) or run.stop is not None:
            task_calls[TaskCall("gc.delete_batch", (run_id, row.batch))] = None
        else:
            task_calls[TaskCall("gc.recheck", (run_id, row.repository))] = None
    return tuple(task_calls)


def recheck_is_valid(rechecked_at: datetime | None, clock: datetime) -> bool:
    """Whether a recheck that began then is still valid by the store's clock; a recheck from the future is not."""
    return rechecked_at is not None and timedelta() <= clock - rechecked_at < RECHECK_VALID_FOR


def finish_if_done(store: Store, run_id: str, now: datetime) -> bool:
    """Finish a deleting run after its last batch and its verification. True: this call finished it.

    A run is verified if it deleted something and its stop, if any, leaves the registry readable (`VERIFIED`).
    """
    with store.write() as connection:
        run = runs.get(connection, run_id, lock=True)
        if run is None or run.state != "deleting":
            return False
        if run.stop is not None:
            unresolved = ("intent", "accepted")
            sweeping.finish_batches(connection, run_id, store.now(connection), states=unresolved)
        if run.verified_at is None and run.stop in VERIFIED and run.deleted + run.gone:
            if run.verifications < VERIFICATIONS or leases.is_held(run.lease_until, store.now(connection)):
                runs.mark_swept(connection, run_id, now)
                return False
            run = verification.give_up(connection, run, "the verification was begun three times and never ended", now)
        if sweeping.has_open_batches(connection, run_id):
            return False
        left = verification.unsuccessful(connection, run_id)
        outcome, message = outcome_of(run, left), message_of(run, left)
        finished = runs.finish_swept(connection, run_id, outcome, now, message)
    if finished:
        log_finished(store, run_id)
        reach("run_finished")
    return finished


def fail(store: Store, run_id: str, message: str, now: datetime, *, fence: int | None = None) -> None:
    """End a run that could not plan. With `fence`: only if the scan still holds that lease."""
    with store.write() as connection:
        run = runs.get(connection, run_id, lock=True)
        if run is None or run.state not in ("pending", "planning") or (fence is not None and run.fence != fence):
            return
        outcome = "aborted" if run.stop == "aborted" else "failed"
        runs.finish(connection, run, run.state, outcome, now, message)
    log_finished(store, run_id)


def approve(
    store: Store, settings: Settings, run_id: str, now: datetime, *, who: str | None = None
) -> tuple[TaskCall, ...]:
    """Carry out a blocked run's exact plan. Raises UnknownRunError, NotBlockedError, AlreadyRunningError."""
    expire(store, settings, get(store, run_id), now)
    run = get(store, run_id)
    if run.state != "blocked":
        raise NotBlockedError(
            f"run {run_id} waits for no approval: it is {run.outcome or run.state}; {run.message or ''}".rstrip("; ")
        )
    try:
        with store.write() as connection:
            begun = {"deleting_at": store.now(connection), "approved_by": who, "message": None}
            approved = runs.change(connection, run_id, ["blocked"], state="deleting", **begun)
            if approved and any(exceeded["limit"] == "vanished" for exceeded in run.exceeded):
                # Only what this plan's listing missed: the person has not seen what vanished since.
                runs.accept_vanished(connection, run.registry, run.started_at or now)
    except IntegrityError:
        raise _other_run(store, run.registry, run.registry_key) from None
    return next_task_calls(store, run_id, now)


def abort(store: Store, run_id: str, now: datetime, *, who: str | None = None) -> tuple[TaskCall, ...]:
    """Stop a run before its next deletion; begun deletions are resolved first.

    Raises UnknownRunError, NothingToStopError, StoreError.
    """
    with store.write() as connection:
        run = _existing(runs.get(connection, run_id, lock=True), run_id)
        if run.state == "finished" or run.stop is not None:
            raise NothingToStopError(f"run {run_id} is {run.outcome or 'stopping'} already: nothing was stopped")
        runs.change(connection, run_id, [run.state], aborted_by=who)
        idle = run.state not in ("planning", "deleting")
        if idle:
            runs.finish(connection, run, run.state, "aborted", now, "aborted by hand")
        else:
            runs.request_stop(connection, run_id, "aborted", "aborted by hand")
    if idle:
        log_finished(store, run_id)
    return next_task_calls(store, run_id, now)


def get(store: Store, run_id: str) -> Run:
    """The run with this id. Raises UnknownRunError, StoreError."""
    with store.read() as connection:
        return _existing(runs.get(connection, run_id), run_id)


def _existing(run: Run | None, run_id: str) -> Run:
    if run is None:
        raise UnknownRunError(f"no run has the id {run_id!r}; `registry-gc runs` lists them")
    return run


def deleting_run(store: Store, run_id: str) -> Run | None:
    """The run, if its batches may be claimed: it is deleting. None: it is unknown or in another state. A run that was
    asked to stop is still deleting: see `is_stopped`. Raises StoreError.
    """
    with store.read() as connection:
        run = runs.get(connection, run_id)
    return run if run is not None and run.state == "deleting" else None


def is_stopped(store: Store, run_id: str) -> bool:
    """Whether a run may delete nothing more. True also for a run that is unknown, or not deleting. Locks nothing: the
    run may be stopped right after. Raises StoreError.
    """
    run = deleting_run(store, run_id)
    return run is None or run.stop is not None
