"""Queries of runs. Every change of state is a compare-and-set, so a late worker changes nothing."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, exists, insert, or_, select, update

from worker.store import audit, leases
from worker.store.engine import insert_for
from worker.store.leases import Lease
from worker.store.tables import ACTIVE, batch, heartbeat, item, registry, run


class SourceTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a source of evidence when the plan was made."""

    name: str
    sha256: str  # of the settings: evidence.gathering.settings_sha256
    max_age: timedelta
    allow_empty: bool
    allow_foreign: bool = False


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The safety settings of a plan, which a later edit of the file must not weaken.

    The default is for runs without a plan, and for plans of earlier versions.
    """

    file_sha256: str = ""  # of the configuration file's bytes
    in_use: tuple[SourceTerms, ...] = ()
    addresses: tuple[str, ...] = ()
    plan_max_age: timedelta | None = None
    deadline: timedelta | None = None
    settle: timedelta = timedelta(0)
    ignore_unreadable: tuple[str, ...] | None = None  # None: a plan of an earlier version, which did not save it
    transitional: bool = True  # yandex-cloud-registry: deletions from a registry of that type are allowed


def encode_terms(terms: Terms) -> str:
    """The JSON of the column `run.terms`."""
    return msgspec.json.encode(terms).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One scan of one registry, with its plan's totals and outcomes. Bytes are bytes, instants aware and UTC."""

    id: str
    registry: str
    registry_key: str
    trigger: str
    task_id: str | None
    mode: str
    registry_mode: str
    state: str
    outcome: str | None
    stop: str | None
    message: str | None
    scheduled_for: datetime | None
    opened_at: datetime
    started_at: datetime | None
    planned_at: datetime | None
    deleting_at: datetime | None
    swept_at: datetime | None
    verified_at: datetime | None
    finished_at: datetime | None
    policy: str
    policy_sha256: str
    plan_sha256: str | None
    complete: bool | None
    exceeded: tuple[dict[str, Any], ...]
    unreadable: tuple[dict[str, str], ...]
    rule_selected: dict[str, int]
    differences: tuple[dict[str, Any], ...]
    raced_pushes: tuple[dict[str, Any], ...]
    warnings: tuple[dict[str, str], ...]
    unreadable_images: tuple[dict[str, str], ...]
    emptied_repositories: tuple[str, ...]
    opened_by: str | None
    approved_by: str | None
    aborted_by: str | None
    terms: Terms
    images: int
    planned: int
    deleted: int
    gone: int
    skipped: int
    failed: int
    selected_bytes: int
    reclaimable_bytes: int
    reclaimed_bytes: int
    registry_bytes: int
    undecidable: int
    difference_count: int
    foreign_deletions: int
    suspicion: str | None
    scans: int
    verifications: int
    systemic_failures: int
    forgotten: bool
    audit_sha256: str  # of its newest audit row; "": none
    fence: int
    lease_until: datetime | None


MAX_WARNINGS = 100  # of one run
MAX_RACED_PUSHES = 100  # listed for one run; the tally counts them all

_COLUMNS = tuple(run.c[field.name] for field in fields(Run))
_LISTS = (
    "exceeded",
    "unreadable",
    "differences",
    "raced_pushes",
    "warnings",
    "unreadable_images",
    "emptied_repositories",
)
_NEWEST_FIRST = (run.c.opened_at.desc(), run.c.id.desc())


def _record(row: Row[Any]) -> Run:
    values = dict(row._mapping)
    for name in _LISTS:
        values[name] = tuple(json.loads(values[name]))
    values["rule_selected"] = json.loads(values["rule_selected"])
    values["terms"] = msgspec.json.decode(values["terms"], type=Terms)
    return Run(**values)


def new_id(now: datetime) -> str:
    """A new run's id: its time, readable and sortable, and random digits that make it unique."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def add(connection: Connection, values: dict[str, Any]) -> None:
    """Add a run. Raises IntegrityError: another run is active, or this due time or task has a run already."""
    connection.execute(insert(run).values(values))


def get(connection: Connection, run_id: str, *, lock: bool = False) -> Run | None:
    """A run. `lock`: no other transaction changes the run until this one ends.

    A transaction that writes to a run's batches or items locks the run first: one order, no deadlock.
    """
    query = select(*_COLUMNS).where(run.c.id == run_id)
    return _first(connection, query.with_for_update() if lock else query)


def _first(connection: Connection, query: Select[Any]) -> Run | None:
    row = connection.execute(query).first()
    return None if row is None else _record(row)


def by_task(connection: Connection, task_id: str) -> Run | None:
    return _first(connection, select(*_COLUMNS).where(run.c.task_id == task_id))


def by_due_time(connection: Connection, registry_key: str, scheduled_for: datetime) -> Run | None:
    due = (run.c.registry_key == registry_key) & (run.c.scheduled_for == scheduled_for)
    return _first(connection, select(*_COLUMNS).where(due))


def active(connection: Connection, registry_key: str) -> Run | None:
    mine = (run.c.registry_key == registry_key) & run.c.state.in_(ACTIVE)
    return _first(connection, select(*_COLUMNS).where(mine))


def unfinished(connection: Connection) -> list[Run]:
    """Active and blocked runs, the oldest first: they may need a task call."""
    query = select(*_COLUMNS).where(run.c.state != "finished").order_by(run.c.opened_at)
    return [_record(row) for row in connection.execute(query)]


def newest(connection: Connection, *, registry: str | None = None, limit: int | None = None) -> list[Run]:
    """Runs, the newest first; only those of this registry, if given. `registry`: a name. `limit`: the most runs; None:
    all. Raises StoreError.
    """
    query = select(*_COLUMNS).order_by(*_NEWEST_FIRST).limit(limit)
    if registry is not None:
        query = query.where(run.c.registry == registry)
    return [_record(row) for row in connection.execute(query)]


def last_due_time(connection: Connection, registry_key: str) -> datetime | None:
    due_times = select(run.c.scheduled_for).where(run.c.registry_key == registry_key, run.c.scheduled_for.is_not(None))
    return connection.execute(due_times.order_by(run.c.scheduled_for.desc()).limit(1)).scalar()


def change(connection: Connection, run_id: str, states: Sequence[str], **values: Any) -> bool:
    """Set these values if the run is in one of these states. False: it is in another state, and nothing is changed.
    False also for an unknown run. Raises StoreError, and IntegrityError if the new state is an active one and another
    run of the registry is active.
    """
    changed = update(run).where(run.c.id == run_id, run.c.state.in_(states)).values(values)
    return connection.execute(changed).rowcount == 1


def finish(
    connection: Connection, ending: Run, state: str, outcome: str, now: datetime, message: str | None = None
) -> bool:
    """Finish a run that is in this state; without a message its own stays. False: the run is in another state."""
    values = {"outcome": outcome, "finished_at": now, "message": ending.message if message is None else message}
    return change(connection, ending.id, [state], state="finished", **values)


def record_raced_push(connection: Connection, locked: Run, repository: str, digest: str, tags: Sequence[str]) -> None:
    """Record tags that were pushed while the image they named was deleted. The caller has locked the run. A run lists
    MAX_RACED_PUSHES at most: a further push is dropped. Raises StoreError.
    """
    if len(locked.raced_pushes) < MAX_RACED_PUSHES:
        pushes = [*locked.raced_pushes, {"repository": repository, "digest": digest, "tags": list(tags)}]
        connection.execute(update(run).where(run.c.id == locked.id).values(raced_pushes=json.dumps(pushes)))


def add_warning(connection: Connection, run_id: str, code: str, message: str) -> None:
    """Add a warning to a run, unless the run has it or MAX_WARNINGS already. Locks the run until the transaction ends.
    For an unknown run nothing is done. Raises StoreError.
    """
    locked, warning = get(connection, run_id, lock=True), {"code": code, "message": message}
    if locked is not None and warning not in locked.warnings and len(locked.warnings) < MAX_WARNINGS:
        warnings = json.dumps([*locked.warnings, warning])
        connection.execute(update(run).where(run.c.id == run_id).values(warnings=warnings))


def request_stop(connection: Connection, run_id: str, stop: str, message: str) -> bool:
    """Ask a run to stop. False: the run is not planning or deleting, or was asked before; the first reason stays.
    Batches that are not done can be published again at once: their next claim resolves begun deletions. Raises
    StoreError.
    """
    working = update(run).where(run.c.id == run_id, run.c.state.in_(("planning", "deleting")), run.c.stop.is_(None))
    if connection.execute(working.values(stop=stop, message=message)).rowcount == 0:
        return False
    connection.execute(update(batch).where(batch.c.run_id == run_id, ~batch.c.done).values(published_at=None))
    return True


def claim_scan(
    connection: Connection, run_id: str, *, owner: str, now: datetime, until: datetime, most: int
) -> Run | None:
    """Take the lease of a run's scan; None: it is held, the run is past planning, or it was started `most` times."""
    due = run.c.state.in_(("pending", "planning")), run.c.scans < most, run.c.stop.is_(None)
    values = {"state": "planning", "started_at": now, "scans": run.c.scans + 1}
    fence = leases.claim(connection, run, {"id": run_id}, *due, owner=owner, now=now, until=until, **values)
    return None if fence is None else get(connection, run_id)


def scan_lease(claimed: Run) -> Lease:
    """The lease of a scan as it was claimed; it is lost too when the run is asked to stop."""
    return Lease(run, {"id": claimed.id}, claimed.fence, (run.c.state == "planning", run.c.stop.is_(None)))


def supersede(connection: Connection, registry: str, registry_key: str, newer: str, now: datetime) -> list[str]:
    """Finish blocked runs of the same registry, or the same entry of the file, after a newer plan; return their ids."""
    same = or_(run.c.registry_key == registry_key, run.c.registry == registry)
    older = list(connection.scalars(select(run.c.id).where(same, run.c.state == "blocked", run.c.id != newer)))
    message = f"superseded by the plan of run {newer}"
    ended = update(run).where(run.c.id.in_(older), run.c.state == "blocked")
    connection.execute(ended.values(state="finished", outcome="blocked", finished_at=now, message=message))
    return older


def finish_swept(connection: Connection, run_id: str, outcome: str, now: datetime, message: str | None) -> bool:
    """Finish a deleting run if every batch is done, in one conditional update. False: not so, or it is finished."""
    unfinished = exists().where(batch.c.run_id == run_id, ~batch.c.done)
    done = update(run).where(run.c.id == run_id, run.c.state == "deleting", ~unfinished)
    values = {"state": "finished", "outcome": outcome, "finished_at": now, "message": message}
    if connection.execute(done.values(values)).rowcount == 0:
        return False
    audit.add_swept(connection, run_id, now)
    return True


def mark_swept(connection: Connection, run_id: str, now: datetime) -> None:
    """Mark a deleting run as swept if every batch is done: its verification is next. Ends the scan's lease."""
    unfinished = exists().where(batch.c.run_id == run_id, ~batch.c.done)
    done = update(run).where(run.c.id == run_id, run.c.state == "deleting", run.c.swept_at.is_(None), ~unfinished)
    connection.execute(done.values(swept_at=now, lease_until=None, owner=None))


def count_failure(connection: Connection, run_id: str, *, first: bool = False) -> int:
    """Count a systemic failure of a series, or the `first` of a new series; return the number in a row."""
    before = 0 if first else run.c.systemic_failures
    connection.execute(update(run).where(run.c.id == run_id).values(systemic_failures=before + 1))
    return int(connection.execute(select(run.c.systemic_failures).where(run.c.id == run_id)).scalar_one())


def reset_failures(connection: Connection, run_id: str) -> None:
    """End a series of systemic failures: the registry works. Deferred refusals let the series go on."""
    refused = exists().where(item.c.run_id == run_id, item.c.refused.is_not(None), item.c.state == "planned")
    failing = update(run).where(run.c.id == run_id, run.c.systemic_failures != 0, ~refused)
    connection.execute(failing.values(systemic_failures=0))


def record_registry(connection: Connection, name: str, cron_line: str | None, now: datetime) -> datetime:
    """Record a configured registry; return since when its cron line is known: nothing is due before. Safe to repeat."""
    values = {"name": name, "enabled_since": now, "cron_line": cron_line, "cron_line_since": now}
    connection.execute(insert_for(connection, registry).values(values).on_conflict_do_nothing())
    mine = registry.c.name == name
    changed = update(registry).where(mine, registry.c.cron_line.is_distinct_from(cron_line))
    connection.execute(changed.values(cron_line=cron_line, cron_line_since=now))
    since: datetime = connection.execute(select(registry.c.cron_line_since).where(mine)).scalar_one()
    return since


def record_sign_in(connection: Connection, name: str, *, works: bool) -> None:
    """Record whether the registry accepted its credentials. `name`: of a registry that `record_registry` has recorded;
    for another name nothing is done. Raises StoreError.
    """
    changed = update(registry).where(registry.c.name == name, registry.c.auth_ok != works)
    connection.execute(changed.values(auth_ok=works))


def accept_vanished(connection: Connection, name: str, now: datetime) -> None:
    """Record a person's acceptance of the absence of images that were missing at `now` or before."""
    connection.execute(update(registry).where(registry.c.name == name).values(vanished_accepted_at=now))


def plan_sizes(connection: Connection, name: str, most: int) -> list[int]:
    """The number of deletions in each of a registry's last plans whose runs ended normally, the newest first."""
    ended = (run.c.state == "finished") & run.c.outcome.in_(("succeeded", "partial")) & run.c.planned_at.is_not(None)
    newest = select(run.c.planned).where(run.c.registry == name, ended).order_by(*_NEWEST_FIRST)
    return list(connection.execute(newest.limit(most)).scalars())


def record_heartbeat(connection: Connection, name: str, now: datetime) -> None:
    """Record that a process is alive."""
    sign = insert_for(connection, heartbeat).values(name=name, at=now)
    connection.execute(sign.on_conflict_do_update(index_elements=[heartbeat.c.name], set_={"at": now}))
