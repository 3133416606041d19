"""Queries on runs: every change of state is a compare-and-set, so who comes late changes nothing."""

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
    """One source of evidence as the plan read it."""

    name: str
    sha256: str  # of what it reads: evidence.gathering.settings_sha256
    max_age: timedelta
    allow_empty: bool
    allow_foreign: bool = False


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan was made by and an edit of the file must not weaken.

    The default: a run without a plan, or one that an earlier version planned.
    """

    file_sha256: str = ""  # of the configuration file's bytes
    in_use: tuple[SourceTerms, ...] = ()
    addresses: tuple[str, ...] = ()
    plan_max_age: timedelta | None = None
    deadline: timedelta | None = None
    settle: timedelta = timedelta(0)
    ignore_unreadable: tuple[str, ...] | None = None  # None: an earlier version's, which did not keep it
    transitional: bool = True  # yandex-cloud-registry: may delete from a registry of that type


def encode_terms(terms: Terms) -> str:
    """As the run's row keeps them."""
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
    audit_sha256: str  # of its newest row in the audit; "": it has none
    fence: int
    lease_until: datetime | None


MAX_WARNINGS = 100  # of one run that are added while it deletes
MAX_RACED_PUSHES = 100  # listed of one run; the tally counts them all

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
    """A run's id: when it was opened, readable and sortable, and enough chance that two never meet."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def add(connection: Connection, values: dict[str, Any]) -> None:
    """Raises sqlalchemy's IntegrityError: another run is active, or this due time or task has its run already."""
    connection.execute(insert(run).values(values))


def get(connection: Connection, run_id: str, *, lock: bool = False) -> Run | None:
    """A run. `lock`: nobody else changes it until this transaction ends.

    Whoever writes to a run's batches or items in the same transaction locks the run first: one order, no deadlock.
    """
    found = select(*_COLUMNS).where(run.c.id == run_id)
    return _first(connection, found.with_for_update() if lock else found)


def _first(connection: Connection, found: Select[Any]) -> Run | None:
    row = connection.execute(found).first()
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
    """Whatever may still need a bell, oldest first: active runs and blocked ones."""
    found = select(*_COLUMNS).where(run.c.state != "finished").order_by(run.c.opened_at)
    return [_record(row) for row in connection.execute(found)]


def newest(connection: Connection, *, registry: str | None = None, limit: int | None = None) -> list[Run]:
    found = select(*_COLUMNS).order_by(*_NEWEST_FIRST).limit(limit)
    if registry is not None:
        found = found.where(run.c.registry == registry)
    return [_record(row) for row in connection.execute(found)]


def last_due_time(connection: Connection, registry_key: str) -> datetime | None:
    found = select(run.c.scheduled_for).where(run.c.registry_key == registry_key, run.c.scheduled_for.is_not(None))
    return connection.execute(found.order_by(run.c.scheduled_for.desc()).limit(1)).scalar()


def change(connection: Connection, run_id: str, states: Sequence[str], **values: Any) -> bool:
    """Set these values if the run is in one of these states; False: it is not, and nothing was changed."""
    done = connection.execute(update(run).where(run.c.id == run_id, run.c.state.in_(states)).values(values))
    return done.rowcount == 1


def finish(
    connection: Connection, one: Run, state: str, outcome: str, now: datetime, message: str | None = None
) -> bool:
    """End a run that is in this state, with a message or the one that it has. False: it is in another one."""
    kept = message if message is not None else one.message
    return change(connection, one.id, [state], state="finished", outcome=outcome, finished_at=now, message=kept)


def record_raced_push(connection: Connection, one: Run, repository: str, digest: str, tags: Sequence[str]) -> None:
    """Keep which tags were pushed while the image they named was deleted. Only for who has locked the run."""
    if len(one.raced_pushes) < MAX_RACED_PUSHES:
        raced = [*one.raced_pushes, {"repository": repository, "digest": digest, "tags": list(tags)}]
        connection.execute(update(run).where(run.c.id == one.id).values(raced_pushes=json.dumps(raced)))


def add_warning(connection: Connection, run_id: str, code: str, message: str) -> None:
    """Add a warning to a run's, once."""
    one, warning = get(connection, run_id, lock=True), {"code": code, "message": message}
    if one is not None and warning not in one.warnings and len(one.warnings) < MAX_WARNINGS:
        warnings = json.dumps([*one.warnings, warning])
        connection.execute(update(run).where(run.c.id == run_id).values(warnings=warnings))


def request_stop(connection: Connection, run_id: str, stop: str, message: str) -> bool:
    """The first reason to stop stays; False: the run is not deleting or planning, or has been asked already."""
    asked = update(run).where(run.c.id == run_id, run.c.state.in_(("planning", "deleting")), run.c.stop.is_(None))
    if connection.execute(asked.values(stop=stop, message=message)).rowcount == 0:
        return False
    connection.execute(update(batch).where(batch.c.run_id == run_id, ~batch.c.done).values(published_at=None))
    return True


def claim_scan(
    connection: Connection, run_id: str, *, owner: str, now: datetime, until: datetime, most: int
) -> Run | None:
    """Take the lease of a run's scan; None: somebody holds it, it is past planning, or it was begun too often."""
    due = run.c.state.in_(("pending", "planning")), run.c.scans < most, run.c.stop.is_(None)
    values = {"state": "planning", "started_at": now, "scans": run.c.scans + 1}
    fence = leases.claim(connection, run, {"id": run_id}, *due, owner=owner, now=now, until=until, **values)
    return None if fence is None else get(connection, run_id)


def scan_lease(one: Run) -> Lease:
    """Of a scan as it was claimed: lost also when its run is asked to stop."""
    return Lease(run, {"id": one.id}, one.fence, (run.c.state == "planning", run.c.stop.is_(None)))


def supersede(connection: Connection, registry: str, registry_key: str, newer: str, now: datetime) -> list[str]:
    """A newer plan ends every blocked one of the same registry, or of the entry that was another registry before: their
    ids.

    What they would delete is no longer what is there.
    """
    same = or_(run.c.registry_key == registry_key, run.c.registry == registry)
    older = list(connection.scalars(select(run.c.id).where(same, run.c.state == "blocked", run.c.id != newer)))
    message = f"superseded by the plan of run {newer}"
    ended = update(run).where(run.c.id.in_(older), run.c.state == "blocked")
    connection.execute(ended.values(state="finished", outcome="blocked", finished_at=now, message=message))
    return older


def finish_swept(connection: Connection, run_id: str, outcome: str, now: datetime, message: str | None) -> bool:
    """Finish a deleting run of which every batch is done: one conditional update, whoever comes first."""
    waiting = exists().where(batch.c.run_id == run_id, ~batch.c.done)
    done = update(run).where(run.c.id == run_id, run.c.state == "deleting", ~waiting)
    values = {"state": "finished", "outcome": outcome, "finished_at": now, "message": message}
    if connection.execute(done.values(values)).rowcount == 0:
        return False
    audit.add_swept(connection, run_id, now)
    return True


def mark_swept(connection: Connection, run_id: str, now: datetime) -> None:
    """Every batch of a deleting run is done, if so: what it left is to be looked at. The scan's lease is over."""
    waiting = exists().where(batch.c.run_id == run_id, ~batch.c.done)
    done = update(run).where(run.c.id == run_id, run.c.state == "deleting", run.c.swept_at.is_(None), ~waiting)
    connection.execute(done.values(swept_at=now, lease_until=None, owner=None))


def count_failure(connection: Connection, run_id: str, *, first: bool = False) -> int:
    """One more systemic failure in a row, or the first of one; how many there are now."""
    before = 0 if first else run.c.systemic_failures
    connection.execute(update(run).where(run.c.id == run_id).values(systemic_failures=before + 1))
    return int(connection.execute(select(run.c.systemic_failures).where(run.c.id == run_id)).scalar_one())


def reset_failures(connection: Connection, run_id: str) -> None:
    """The registry answers as it should: a row of failures ends here, but for refused deletions."""
    refused = exists().where(item.c.run_id == run_id, item.c.refused.is_not(None), item.c.state == "planned")
    failing = update(run).where(run.c.id == run_id, run.c.systemic_failures != 0, ~refused)
    connection.execute(failing.values(systemic_failures=0))


def record_registry(connection: Connection, name: str, cron_line: str | None, now: datetime) -> datetime:
    """Remember a configured registry; since when its cron line stands: nothing before is due by it. Safe to repeat."""
    values = {"name": name, "enabled_since": now, "cron_line": cron_line, "cron_line_since": now}
    connection.execute(insert_for(connection, registry).values(values).on_conflict_do_nothing())
    mine = registry.c.name == name
    connection.execute(
        update(registry)
        .where(mine, registry.c.cron_line.is_distinct_from(cron_line))
        .values(cron_line=cron_line, cron_line_since=now)
    )
    since: datetime = connection.execute(select(registry.c.cron_line_since).where(mine)).scalar_one()
    return since


def record_sign_in(connection: Connection, name: str, *, works: bool) -> None:
    other = update(registry).where(registry.c.name == name, registry.c.auth_ok != works)
    connection.execute(other.values(auth_ok=works))


def accept_vanished(connection: Connection, name: str, now: datetime) -> None:
    """A person's word: what a scan at `now`, or an earlier one, missed of a registry is gone for good reason."""
    connection.execute(update(registry).where(registry.c.name == name).values(vanished_accepted_at=now))


def plan_sizes(connection: Connection, name: str, most: int) -> list[int]:
    """How many images each of a registry's last plans deletes, of those whose runs came to their end; newest first."""
    ended = (run.c.state == "finished") & run.c.outcome.in_(("succeeded", "partial")) & run.c.planned_at.is_not(None)
    newest = select(run.c.planned).where(run.c.registry == name, ended).order_by(*_NEWEST_FIRST)
    return list(connection.execute(newest.limit(most)).scalars())


def record_heartbeat(connection: Connection, name: str, now: datetime) -> None:
    """Leave a sign of life."""
    sign = insert_for(connection, heartbeat).values(name=name, at=now)
    connection.execute(sign.on_conflict_do_update(index_elements=[heartbeat.c.name], set_={"at": now}))
