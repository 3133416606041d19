"""Lists a registry, plans it with `planner`, and stores the plan of a run. Deletes nothing."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from policies.limits import UNUSUAL_WINDOW, unusual
from worker.config.settings import RegistrySettings, Settings
from worker.evidence.reading import EvidenceError
from worker.logs import Log
from worker.planning.context import plan_context_of, record_held_digests
from worker.planning.inventory import (
    Alive,
    Inventory,
    Progress,
    ScanStoppedError,
    take_inventory,
)
from worker.planning.planner import NEVER_SCANNED, Planned, plan
from worker.planning.reader import RepositoryReader
from worker.planning.scan_history import ScanHistoryRows
from worker.planning.subjects import plan_with_subjects
from worker.registries import open_registry
from worker.registries.errors import RegistryError, SignInError
from worker.registries.http.rate_limit import Limiter
from worker.registries.interface import Registry
from worker.runs import lifecycle
from worker.runs.checkpoints import reach
from worker.runs.circuit_breaker import gone_remedy, note_sign_in, saving_usage
from worker.runs.clocks import ClockError, check_clocks
from worker.runs.leases import Heartbeat, identity
from worker.runs.lifecycle import TaskCall
from worker.runs.outcome import log_finished
from worker.runs.terms import expire, registry_of, terms_of, why_unconfigured
from worker.store import Store, leases, plans, retention, scan_history
from worker.store import runs as run_rows
from worker.store.freed_bytes import capped_bytes
from worker.store.manifests import StoredManifests
from worker.store.plans import PlanRows, PlanWriter, Segment
from worker.store.runs import Run, encode_terms
from worker.store.scan_history import RegistryHistory

log = Log(__name__)


class _ListedImage(msgspec.Struct):
    """The facts of an image for the scan history, as its decision has them."""

    digest: str
    tags: tuple[str, ...]


_listed_images = msgspec.json.Decoder(_ListedImage)


def load_history(store: Store | None, registry: RegistrySettings) -> RegistryHistory:
    """The scan history of a registry. Raises StoreError. Without a store: the history of a registry that was never
    scanned. Reads in a transaction of its own. The history of a repository is unpacked whenever it is used; that raises
    StoreError if it is damaged.
    """
    if store is None:
        return NEVER_SCANNED
    with store.read() as connection:
        return scan_history.load(connection, registry.history_key, registry.name)


def plan_live(
    settings: Settings,
    name: str,
    *,
    now: datetime | None = None,
    limiter: Limiter | None = None,
    progress: Progress = lambda _done, _all: None,
    store: Store | None = None,
) -> Planned:
    """List a registry and plan it; record nothing. `store`: read, never written.

    Raises UnknownRegistryError, ClockError, RegistryError, EvidenceError, StoreError.
    """
    registry = lifecycle.registry_named(settings, name)
    reader = RepositoryReader(store, registry, load_history(store, registry), datetime.now(UTC))
    inventory = _list(store, registry, reader, limiter, progress)
    at = now or inventory.listed_at
    plan_context, warnings = plan_context_of(store, settings, registry, inventory, at, save=False)

    def reopened() -> AbstractContextManager[Registry]:
        return open_registry(registry, limiter, manifests=StoredManifests(store, registry.key, save=False))

    planned = plan_with_subjects(lambda: plan(inventory, registry, at, plan_context, reader.history), reopened)
    planned = replace(planned, warnings=(*planned.warnings, *warnings))
    return planned if store is None else _with_size_limit(store, planned)


def list_live(
    registry: RegistrySettings,
    *,
    limiter: Limiter | None = None,
    progress: Progress = lambda _done, _all: None,
    store: Store | None = None,
) -> Inventory:
    """A registry's inventory. Records nothing. Raises ClockError, RegistryError, StoreError."""
    reader = RepositoryReader(store, registry, load_history(store, registry), datetime.now(UTC))
    return _list(store, registry, reader, limiter, progress)


def _list(
    store: Store | None,
    registry: RegistrySettings,
    reader: RepositoryReader,
    limiter: Limiter | None,
    progress: Progress,
) -> Inventory:
    manifests = StoredManifests(store, registry.key, save=False)
    with open_registry(registry, limiter, manifests=manifests) as opened:
        check_clocks(_utc_now, store, opened)
        concurrency = registry.rate.concurrency
        return take_inventory(opened, now=reader.now, concurrency=concurrency, read=reader.read, progress=progress)


def carry_out_scan(
    store: Store, settings: Settings, run_id: str, *, limiter: Limiter | None = None
) -> tuple[TaskCall, ...]:
    """Plan a run: claim it, list, decide, store the whole plan in one transaction. Safe to run twice, late, or never.

    Raises StoreError. An error of the registry ends the run as failed, with a message of one line.
    """
    run = _claim(store, settings, run_id)
    if run is None:
        return ()  # another worker claimed the run, or the run waited too long and was ended
    began = time.monotonic()
    log.info("scan_started", run=run_id, registry=run.registry, attempt=run.scans)
    reach("scan_claimed")
    registry = registry_of(settings, run)
    if registry is None:
        lifecycle.fail(store, run_id, why_unconfigured(settings, run), datetime.now(UTC), fence=run.fence)
        return ()
    try:
        with Heartbeat(store, run_rows.scan_lease(run), settings.timing.lease) as heartbeat:
            planned = _plan_run(store, settings, registry, run, limiter, _check_lease(heartbeat))
            reach("inventory_taken")
            if not _store_plan(store, run, planned, settings):
                return ()
            _log_plan(run, planned, time.monotonic() - began)
    except ScanStoppedError:
        _end_stopped(store, run)
        return ()
    except (RegistryError, ClockError, EvidenceError) as error:
        lifecycle.fail(store, run_id, f"{error}{gone_remedy(registry, error)}", datetime.now(UTC), fence=run.fence)
        return ()
    reach("plan_stored")
    task_calls = lifecycle.advance(store, run_id, datetime.now(UTC))
    reach("run_advanced")
    return task_calls


def _claim(store: Store, settings: Settings, run_id: str) -> Run | None:
    with store.read() as connection:
        run, now = run_rows.get(connection, run_id), store.now(connection)
    if run is None or expire(store, settings, run, now):
        return None
    with store.write() as connection:
        now = store.now(connection)
        until = now + settings.timing.lease
        return run_rows.claim_scan(connection, run_id, owner=identity(), now=now, until=until, most=lifecycle.SCANS)


def _check_lease(heartbeat: Heartbeat) -> Alive:

    def alive() -> None:
        if heartbeat.lost.is_set():
            raise ScanStoppedError

    return alive


def _end_stopped(store: Store, run: Run) -> None:
    """End the run of a stopped scan if its stop was requested. If only the lease was lost, its new holder continues."""
    now = datetime.now(UTC)
    with store.read() as connection:
        current = run_rows.get(connection, run.id)
    if current is not None and current.stop is not None:
        lifecycle.fail(store, run.id, current.message or "stopped", now, fence=run.fence)


def _plan_run(
    store: Store, settings: Settings, registry: RegistrySettings, run: Run, limiter: Limiter | None, alive: Alive
) -> Planned:
    manifests = StoredManifests(store, registry.key)
    started = run.started_at or run.opened_at
    reader = RepositoryReader(store, registry, load_history(store, registry), started)
    with open_registry(registry, limiter, manifests=manifests) as opened, saving_usage(store, registry.name, opened):
        try:
            check_clocks(_utc_now, store, opened)
            inventory = take_inventory(
                opened, now=started, concurrency=registry.rate.concurrency, read=reader.read, alive=alive
            )
            check_clocks(_utc_now, store, opened)  # a scan may take hours, and the age of evidence counts at its end
        except SignInError:
            note_sign_in(store, registry.name, works=False)
            raise
    note_sign_in(store, registry.name, works=inventory.signed_in)
    at = inventory.listed_at
    plan_context, warnings = plan_context_of(store, settings, registry, inventory, at)
    record_held_digests(store, registry, plan_context, inventory)

    @contextmanager
    def reopened() -> Iterator[Registry]:
        with (
            open_registry(registry, limiter, manifests=manifests) as again,
            saving_usage(store, registry.name, again),
        ):
            yield again

    planned = plan_with_subjects(lambda: plan(inventory, registry, at, plan_context, reader.history), reopened, alive)
    planned = replace(planned, warnings=(*planned.warnings, *warnings))
    return _with_size_limit(store, planned)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _with_size_limit(store: Store, planned: Planned) -> Planned:
    """The plan, which exceeds the limit `unusual` if it deletes far more images than the registry's earlier plans."""
    with store.read() as connection:
        sizes = run_rows.plan_sizes(connection, planned.registry.name, UNUSUAL_WINDOW)
    return replace(planned, exceeded=planned.exceeded + unusual(planned.plan.summary.totals, sizes))


def _store_plan(store: Store, run: Run, planned: Planned, settings: Settings) -> bool:
    """Store the whole plan or none: its rows in portions, then the update that makes them a plan. False: lease lost.

    A million decisions in one transaction would block every other writer. Nothing reads the rows of a run that is
    still planning, and a repeated scan deletes them first.
    """
    writer = PlanWriter(run.id, planned.plan.summary)
    history_rows = ScanHistoryRows(planned.compared, planned.now)
    staged: list[tuple[str, bytes]] = []

    def rows() -> Iterator[tuple[Segment, PlanRows]]:
        for segment, decided in zip(planned.inventory.segments, planned.decisions, strict=True):
            staged.extend(history_rows.repository_rows(decided.path, _listed_images.decode_lines(decided.lines)))
            yield segment, writer.rows(segment, decided.lines, decided.deletions)

    with store.write() as connection:
        if not leases.holds(connection, run_rows.scan_lease(run)):
            return False
        plans.clear(connection, run.id)
    for portion in plans.portions(rows()):
        with store.write() as connection:
            if not leases.holds(connection, run_rows.scan_lease(run)):
                return False
            for segment, repository_rows in portion:
                plans.write_rows(connection, segment, repository_rows)
            scan_history.stage(connection, run.id, staged)
            staged.clear()
    with store.write() as connection:
        now = store.now(connection)
        if not leases.holds(connection, run_rows.scan_lease(run)):
            return False
        scan_history.stage(connection, run.id, history_rows.remaining_rows(planned.suspicion))
        scan_history.apply_staged(connection, run.id, planned.registry.history_key)
        facts = _plan_columns(planned, writer) | {"terms": encode_terms(terms_of(settings, planned.registry))}
        run_rows.change(connection, run.id, ["planning"], state="planned", planned_at=now, **facts)
        older: list[str] = []
        if run.mode == "delete":  # a dry run does not replace a plan that waits for its approval
            older = run_rows.supersede(connection, run.registry, run.registry_key, run.id, now)
        retention.forget(connection, run.registry, plans=settings.retention.plans)
    for superseded in older:
        log_finished(store, superseded)
    return True


def _log_plan(run: Run, planned: Planned, seconds: float) -> None:
    """Log unreadable repositories, and the totals of the plan."""
    facts: dict[str, Any] = {"run": run.id, "registry": run.registry}
    for unreadable in planned.inventory.unreadable:
        log.warning("repository_unreadable", **facts, repository=unreadable.repository, reason=unreadable.reason)
    totals = planned.plan.summary.totals
    facts |= {"images": totals.images, "deletions": totals.delete, "reclaimable_bytes": totals.reclaimable_bytes}
    log.info("planned", **facts, complete=planned.plan.complete, seconds=round(seconds, 1))


def _plan_columns(planned: Planned, writer: PlanWriter) -> dict[str, Any]:
    """The columns of a run's row about its plan."""
    totals = planned.plan.summary.totals
    return {
        "plan_sha256": writer.plan_sha256,
        "policy_sha256": planned.registry.policy.sha256,
        "complete": planned.plan.complete,
        "exceeded": msgspec.json.encode(planned.exceeded).decode(),
        "unreadable": msgspec.json.encode(planned.inventory.unreadable).decode(),
        "warnings": msgspec.json.encode(planned.warnings).decode(),
        "undecidable": planned.plan.summary.undecidable,
        "unreadable_images": msgspec.json.encode(planned.unreadable_images).decode(),
        "rule_selected": msgspec.json.encode(dict(planned.plan.summary.rule_selected)).decode(),
        "images": totals.images,
        "planned": totals.delete,
        "selected_bytes": capped_bytes(totals.selected_bytes),
        "reclaimable_bytes": capped_bytes(totals.reclaimable_bytes),
        "registry_bytes": capped_bytes(totals.registry_bytes),
        "foreign_deletions": planned.compared.vanished.new,
        "suspicion": planned.suspicion or None,
    }
