"""Lists a repository again before anything in it is deleted, and skips what newly pushed images need.

Where that cannot be known, or an image that the plan keeps is gone, the whole repository is skipped.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from worker.config.settings import RegistrySettings
from worker.logs import Log
from worker.registries import open_registry
from worker.registries.errors import LimiterUnavailableError, RegistryError
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.interface import Registry
from worker.runs import lifecycle
from worker.runs.checkpoints import reach
from worker.runs.circuit_breaker import count_failure, saving_usage
from worker.runs.leases import Heartbeat, identity
from worker.runs.lifecycle import TaskCall
from worker.runs.terms import Watch, current_lease, permitted_registry
from worker.store import Store, freed_bytes, holds, leases, rechecks, sweeping
from worker.store import runs as run_rows
from worker.store.leases import Lease
from worker.store.manifests import StoredManifests
from worker.store.rechecks import OpenItem
from worker.store.runs import Run
from worker.store.sweeping import Outcome
from worker.sweep import outcomes
from worker.sweep.comparison import Comparison, listed_again, snapshot, unlistable
from worker.sweep.recording import log_settled

log = Log(__name__)

LEFT_FOR_A_BATCH = timedelta(minutes=1)  # of the time for which a recheck is valid


def recheck_repository(
    store: Store, watch: Watch, run_id: str, repository: str, *, limiter: Limiter | None = None
) -> tuple[TaskCall, ...]:
    """List a repository again before its next batch, and skip what must stay. Raises StoreError."""
    run = lifecycle.deleting_run(store, run_id)
    if run is None or run.stop is not None:
        return lifecycle.next_task_calls(store, run_id, datetime.now(UTC)) if run else ()
    lease = current_lease(watch)
    with store.write() as connection:
        began = store.now(connection)
        times = {"now": began, "until": began + lease, "fresh": began - lifecycle.RECHECK_VALID_FOR}
        own_lease = rechecks.claim(connection, run_id, repository, owner=identity(), **times)
    if own_lease is None:
        return ()  # another worker rechecks or has rechecked it, and publishes the next task calls
    reach("recheck_claimed")
    try:
        with Heartbeat(store, own_lease, lease):
            comparison = _check(store, permitted_registry(watch, run, repository), run, repository, limiter)
            if comparison is None:
                return (
                    lifecycle.next_task_calls(store, run_id, datetime.now(UTC))
                    if lifecycle.is_stopped(store, run_id)
                    else ()
                )
            with store.read() as connection:
                took = store.now(connection) - began
            _settle(store, run, repository, _in_time(comparison, took), began, own_lease)
            reach("recheck_recorded")
    finally:
        with store.write() as connection:
            leases.release(connection, own_lease)
    return lifecycle.next_task_calls(store, run_id, datetime.now(UTC))


def skip_slow_repository(store: Store, run_id: str, repository: str) -> tuple[TaskCall, ...]:
    """Skip a repository that cannot be listed again in time. Raises StoreError."""
    run = lifecycle.deleting_run(store, run_id)
    if run is not None:
        with store.read() as connection:
            now = store.now(connection)
        _settle(store, run, repository, _in_time(Comparison(), lifecycle.RECHECK_VALID_FOR), now)
    return lifecycle.next_task_calls(store, run_id, datetime.now(UTC))


def _check(
    store: Store, registry: RegistrySettings | str, run: Run, path: str, limiter: Limiter | None
) -> Comparison | None:
    """`registry`: or why nothing may be deleted there. None: the registry fails; reconcile publishes it again."""
    if isinstance(registry, str):
        return Comparison("mode", registry)
    with store.read() as connection:
        pause = holds.paused(connection, run.registry, run.registry_key)
    if pause is not None:
        return Comparison("paused", pause.sentence())
    try:
        manifests = StoredManifests(store, registry.key)
        retries = Retries(waits_for_restarts=True)
        with (
            open_registry(registry, limiter, retries, manifests) as opened,
            saving_usage(store, run.registry, opened),
        ):
            return _list_and_compare(store, opened, registry, run, path)
    except RegistryError as error:
        count_failure(store, run, error)
    except LimiterUnavailableError:
        pass
    return None


def _list_and_compare(store: Store, opened: Registry, registry: RegistrySettings, run: Run, path: str) -> Comparison:
    known = snapshot(store, run, registry, path, opened)
    try:
        seconds = (lifecycle.RECHECK_VALID_FOR - LEFT_FOR_A_BATCH).total_seconds()
        return known.compare(opened, listed_again(opened, registry, known), seconds)
    except RegistryError as error:
        return unlistable(error, path)


def _in_time(comparison: Comparison, took: timedelta) -> Comparison:
    """The comparison, or a skip of the repository if its listing took too long: it would always be too old."""
    if comparison.reason is not None or took < lifecycle.RECHECK_VALID_FOR - LEFT_FOR_A_BATCH:
        return comparison
    minutes = f"{took.total_seconds() / 60:.0f} minutes"
    reason = (
        f"listing it again took {minutes} or more, and is valid for 10: too long for a deletion at this rate; raise"
        " the registry's rate.requests_per_second"
    )
    return Comparison("repository_changed", reason, listed=comparison.listed)


def _settle(
    store: Store, run: Run, path: str, comparison: Comparison, began: datetime, own_lease: Lease | None = None
) -> None:
    """Skip what the comparison objects to, a portion a transaction, then record the recheck.

    `own_lease`: only while this lease is held.
    """
    against = tuple(sorted({*comparison.needed, *comparison.changed}))
    if against or comparison.reason is not None:
        facts = {"run": run.id, "registry": run.registry, "repository": path, "reason": comparison.reason}
        log.info("recheck", **facts, needed=sorted(comparison.needed), changed=sorted(comparison.changed))
    for digests in freed_bytes.portions(against, rechecks.ITEMS_PER_TRANSACTION) if comparison.reason is None else [()]:
        after = -1
        while (last := _settle_some(store, run, path, comparison, after, digests, own_lease)) is not None:
            after = last
    with store.write() as connection:
        if not _is_current(connection, run, own_lease):
            return
        now = store.now(connection)
        rechecks.record(connection, run.id, path, began, now, comparison.reason)
        freed_bytes.mark_still_referenced(connection, run.id, comparison.blobs)
        if comparison.cause not in ("mode", "paused"):  # else the registry was not asked
            run_rows.reset_failures(connection, run.id)


def _settle_some(
    store: Store,
    run: Run,
    path: str,
    comparison: Comparison,
    after: int,
    digests: Sequence[str],
    own_lease: Lease | None,
) -> int | None:
    """The number of the last item of this portion; None: there is none left."""
    with store.write() as connection:
        if not _is_current(connection, run, own_lease):
            return None
        now = store.now(connection)
        undeleted = rechecks.open_items(connection, run.id, path, now, after=after, digests=digests)
        outcomes_by_item = [(row.item, _outcome(connection, row, comparison)) for row in undeleted]
        settled = [(item, outcome) for item, outcome in outcomes_by_item if outcome is not None]
        settled = sweeping.record_outcomes(connection, run.id, settled, now)
    log_settled(run.registry, settled)
    return undeleted[-1].item.number if undeleted else None


def _is_current(connection: Connection, run: Run, own_lease: Lease | None) -> bool:
    """Whether this recheck still holds its lease, and the run was not stopped meanwhile. Locks the run."""
    current = run_rows.get(connection, run.id, lock=True)
    mine = own_lease is None or leases.holds(connection, own_lease)
    return mine and current is not None and current.state == "deleting" and current.stop is None


def _outcome(connection: Connection, row: OpenItem, comparison: Comparison) -> Outcome | None:
    """A planned image is skipped. A begun deletion whose image is listed must not be sent again, not even by the worker
    that holds its batch; an image that is not listed is left to the next claim, which may only read it.
    """
    changed = None if comparison.reason else comparison.changed.get(row.item.digest)
    reason = comparison.reason or changed or "an image pushed since the plan needs it"
    if row.item.state == "planned":
        return Outcome("skipped", "changed" if changed else comparison.cause, reason)
    listed = row.item.digest in comparison.listed
    if listed and not row.held:
        return outcomes.still_there(reason)
    if listed or comparison.cause not in ("mode", "paused"):  # which are read with each intent
        sweeping.record_stop_reason(
            connection, row.item, reason
        )  # unlisted: perhaps not gone, the listing may have failed
    return None
