"""Queries of a sweep: batches and their leases, intents before deletions, outcomes after them.

An outcome, its bytes and its audit row are one transaction.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, and_, bindparam, case, exists, func, literal, or_, select, update

from policies.image import Image
from worker.store import audit, freed_bytes, leases
from worker.store.engine import insert_for
from worker.store.leases import Lease, is_free
from worker.store.tables import EPOCH, UNFINISHED, Instant, batch, item, repository, run, tally

Final = Literal["deleted", "gone", "skipped", "failed"]

MAX_PUBLISHED = 32  # batches of one run that are held or published at once

_earlier = batch.alias("earlier")
EARLIER_WAVE = exists().where(
    _earlier.c.run_id == batch.c.run_id,
    _earlier.c.repository == batch.c.repository,
    _earlier.c.wave < batch.c.wave,
    ~_earlier.c.done,
)


class LeaseLostError(Exception):
    """Another worker may hold this batch: stop before the next deletion, write nothing, release nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A final state, and why."""

    state: Final
    cause: str | None = None
    message: str | None = None

    @property
    def shows_health(self) -> bool:
        """Whether the outcome proves that the registry works."""
        return self.state in ("deleted", "gone") or self.cause in ("changed", "used_by_image_lists", "locked")


@dataclass(frozen=True, slots=True)
class ReadyBatch:
    """A batch that a worker may claim now. `rechecked_at`: when its repository was last listed."""

    batch: int
    repository: str
    rechecked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out one batch, until the lease expires or another worker takes the batch over."""

    run_id: str
    batch: int
    repository: str
    fence: int
    takeovers: int

    @property
    def lease(self) -> Lease:
        return Lease(batch, {"run_id": self.run_id, "number": self.batch}, self.fence, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One planned deletion and its progress."""

    run_id: str
    number: int
    repository: str
    image: Image
    digest: str
    owners: tuple[str, ...]
    state: str
    idempotency_key: str | None
    attempts: int
    operation_id: str | None
    intent_at: datetime | None
    refused: str | None = None  # why the registry refused the deletion, while the cause of the refusal is unknown
    refused_hint: bool = False  # whether the refusal hints at protection


def mark_published(
    connection: Connection, run_id: str, now: datetime, published_before: datetime, stale: datetime
) -> list[ReadyBatch]:
    """Mark ready batches as published, and return them: free, in their turn, not published since `published_before`.

    At most MAX_PUBLISHED batches of a run are out at once; the end of each publishes the next. Batches that were never
    published come first. A repository that was not listed since `stale` gets one task call for all its batches, so
    that no repository delays the others.
    """
    unfinished = (batch.c.run_id == run_id) & ~batch.c.done
    held = ~is_free(batch, now)
    published = batch.c.published_at > published_before
    out = select(func.count()).select_from(batch).where(unfinished, or_(held, published))
    room = max(0, MAX_PUBLISHED - connection.execute(out).scalar_one())
    columns = select(batch.c.number, batch.c.repository, repository.c.rechecked_at)
    same = and_(repository.c.run_id == batch.c.run_id, repository.c.path == batch.c.repository)
    unpublished = or_(batch.c.published_at.is_(None), batch.c.published_at <= published_before)
    ready = columns.select_from(batch.join(repository, same)).where(unfinished, is_free(batch, now), unpublished)
    ready = ready.where(~EARLIER_WAVE).order_by(batch.c.published_at.nulls_first(), batch.c.number)
    batches = choose_fairly((ReadyBatch(*row) for row in connection.execute(ready)), room, stale)
    if batches:
        chosen = batch.c.number.in_([ready_batch.batch for ready_batch in batches])
        connection.execute(update(batch).where(batch.c.run_id == run_id, chosen).values(published_at=now))
    return batches


def choose_fairly(candidates: Iterable[ReadyBatch], most: int, stale: datetime) -> list[ReadyBatch]:
    """The first `most` candidates, but only one of each repository that must be rechecked first."""
    chosen: list[ReadyBatch] = []
    to_recheck: set[str] = set()
    for candidate in candidates:
        if len(chosen) == most:
            break
        if candidate.rechecked_at is None or candidate.rechecked_at <= stale:
            if candidate.repository in to_recheck:
                continue
            to_recheck.add(candidate.repository)
        chosen.append(candidate)
    return chosen


def claim(
    connection: Connection, run_id: str, number: int, *, owner: str, now: datetime, until: datetime
) -> Claim | None:
    """Take the lease of a batch; None: the batch is done, held, or an earlier wave is unfinished."""
    deleting = exists().where(run.c.id == run_id, run.c.state == "deleting")
    took_over = case((batch.c.lease_until < now, 1), else_=0)  # a released lease is null, and null is not less
    key: dict[str, str | int] = {"run_id": run_id, "number": number}
    due = (~batch.c.done, deleting, ~EARLIER_WAVE)
    takeovers = batch.c.takeovers + took_over
    if leases.claim(connection, batch, key, *due, owner=owner, now=now, until=until, takeovers=takeovers) is None:
        return None
    columns = (batch.c.run_id, batch.c.number, batch.c.repository, batch.c.fence, batch.c.takeovers)
    return Claim(*connection.execute(select(*columns).where(batch.c.run_id == run_id, batch.c.number == number)).one())


def count_held_batches(connection: Connection, run_id: str, now: datetime) -> int:
    held = select(func.count()).select_from(batch).where(batch.c.run_id == run_id, ~is_free(batch, now))
    return connection.execute(held).scalar_one()


def batches_in_progress(connection: Connection, run_id: str) -> frozenset[int]:
    """Numbers of the batches of a run in which a deletion was started and has no outcome yet."""
    started = (item.c.run_id == run_id) & item.c.state.in_(("intent", "accepted"))
    return frozenset(connection.execute(select(item.c.batch).distinct().where(started)).scalars())


def has_postponed_batches(connection: Connection, run_id: str) -> bool:
    """Whether a batch of a run is to be published after those that were never published."""
    postponed = (batch.c.run_id == run_id) & ~batch.c.done & (batch.c.published_at == EPOCH)
    return connection.execute(select(batch.c.number).where(postponed).limit(1)).first() is not None


def has_open_batches(connection: Connection, run_id: str) -> bool:
    """Whether a batch of a run is not done."""
    unfinished = (batch.c.run_id == run_id) & ~batch.c.done
    return connection.execute(select(batch.c.number).where(unfinished).limit(1)).first() is not None


def mark_unpublished(connection: Connection, run_id: str, now: datetime, path: str | None = None) -> None:
    """Let the free batches of a run, or of one of its repositories, be published again at once. Free: not done, and no
    worker holds its lease at `now`, the store's time. The caller has locked the run. Raises StoreError.
    """
    free = update(batch).where(batch.c.run_id == run_id, ~batch.c.done, is_free(batch, now))
    if path is not None:
        free = free.where(batch.c.repository == path)
    connection.execute(free.values(published_at=None))


def finish_batches(
    connection: Connection, run_id: str, now: datetime, path: str | None = None, states: Collection[str] = UNFINISHED
) -> None:
    """Mark free batches of a run, or of one of its repositories, as done if no item is in one of these states."""
    unfinished = exists().where(item.c.run_id == run_id, item.c.batch == batch.c.number, item.c.state.in_(states))
    free = update(batch).where(batch.c.run_id == run_id, ~batch.c.done, is_free(batch, now), ~unfinished)
    if path is not None:
        free = free.where(batch.c.repository == path)
    connection.execute(free.values(done=True))


def renew(connection: Connection, held: Claim, now: datetime, until: datetime) -> None:
    """Extend the lease of a batch until `until`. `now`, `until`: the store's time, aware. Raises StoreError. Raises
    LeaseLostError: the lease has expired, or another worker took it over.
    """
    if not leases.renew(connection, held.lease, now, until):
        raise LeaseLostError(f"batch {held.batch} of run {held.run_id}")


def release(connection: Connection, held: Claim, published_at: datetime | None) -> None:
    """Release the lease. The batch is done if none of its items is unfinished.

    Else it is published again: at once (`published_at` None), or after the time of a lease.
    """
    unfinished = (item.c.run_id == held.run_id) & (item.c.batch == held.batch) & item.c.state.in_(UNFINISHED)
    leases.release(connection, held.lease, published_at=published_at, done=~exists().where(unfinished))


ITEM_COLUMNS = tuple(item.c[field.name] for field in fields(Item))
decode_image = msgspec.json.Decoder(Image, strict=False).decode


def item_of(row: Row[*tuple[Any, ...]]) -> Item:
    """The record of a row that has ITEM_COLUMNS, and maybe more."""
    values = {field.name: row._mapping[field.name] for field in fields(Item)}
    values["image"] = decode_image(values["image"])
    values["owners"] = tuple(json.loads(values["owners"]))
    return Item(**values)


def unfinished_items(connection: Connection, run_id: str, number: int) -> list[Item]:
    """The items of a batch that have no final state, in order."""
    unfinished = (item.c.run_id == run_id) & (item.c.batch == number) & item.c.state.in_(UNFINISHED)
    rows = connection.execute(select(*ITEM_COLUMNS).where(unfinished).order_by(item.c.number))
    return [item_of(row) for row in rows]


_BY_KEY = (item.c.run_id == bindparam("key_run")) & (item.c.number == bindparam("key_number"))


def _key(planned: Item) -> dict[str, Any]:
    return {"key_run": planned.run_id, "key_number": planned.number}


def items_in_states(
    connection: Connection,
    run_id: str,
    numbers: Collection[int],
    states: Collection[str] = UNFINISHED,
    lock: bool = True,
) -> dict[int, str | None]:
    """The stop reason, or None, of each of these items that is in one of these states."""
    mine = (item.c.run_id == run_id) & item.c.number.in_(numbers) & item.c.state.in_(states)
    query = select(item.c.number, item.c.stop_reason).where(mine).order_by(item.c.number)
    rows = connection.execute(query.with_for_update() if lock else query)
    return {row.number: row.stop_reason for row in rows}


def record_intents(connection: Connection, keys: Sequence[tuple[Item, str]], now: datetime) -> None:
    """Record, before the requests are sent, the deletion of these unfinished items, each with its idempotency key."""
    if not keys:
        return
    first = func.coalesce(item.c.intent_at, literal(now, Instant))
    values = {"state": "intent", "attempts": item.c.attempts + 1, "intent_at": first, "at": now}
    intended = update(item).where(_BY_KEY).values(values | {"idempotency_key": bindparam("key")})
    connection.execute(intended, [_key(planned) | {"key": key} for planned, key in keys])


def withdraw_intents(connection: Connection, items: Sequence[Item]) -> None:
    """Reset items whose deletion requests were certainly not sent to their state when the batch was claimed.

    Only for the holder of the batch's lease, in the same transaction.
    """
    if not items:
        return
    before: dict[str, Any] = {
        name: bindparam(f"old_{name}") for name in ("state", "attempts", "idempotency_key", "intent_at")
    }
    intended = update(item).where(_BY_KEY, item.c.state == "intent").values(before)
    rows = [_key(planned) | {f"old_{name}": getattr(planned, name) for name in before} for planned in items]
    connection.execute(intended, rows)


def record_stop_reason(connection: Connection, held: Item, reason: str) -> None:
    """Let no further deletion request be sent for an item, even by the worker that holds its batch."""
    mine = update(item).where(item.c.run_id == held.run_id, item.c.number == held.number)
    connection.execute(mine.values(stop_reason=reason))


def record_accepted(connection: Connection, accepted: Sequence[tuple[Item, str]], now: datetime) -> None:
    """Record that the registry accepted these deletions as operations: a fact, whoever holds the lease. An item in
    another state than `intent` stays as it is. The caller has locked the run. Raises StoreError.
    """
    if not accepted:
        return
    intended = update(item).where(_BY_KEY, item.c.state == "intent")
    pending = intended.values(state="accepted", operation_id=bindparam("operation"), at=now)
    connection.execute(pending, [_key(planned) | {"operation": operation_id} for planned, operation_id in accepted])


def record_outcomes(
    connection: Connection,
    run_id: str,
    outcomes: Sequence[tuple[Item, Outcome]],
    now: datetime,
    *,
    answers: bool | None = None,
) -> list[tuple[Item, Outcome]]:
    """Record final states of items, with the run's counts, the bytes and the audit; items with a final state keep it.

    Returns what was recorded. `answers`: whether a series of systemic failures ends here; None: if an outcome shows
    that the registry works.
    """
    if not outcomes:
        return []
    # Lock the run's row first: outcomes of one run queue up, so that shared blobs are counted once and in order.
    registry = connection.execute(select(run.c.registry).where(run.c.id == run_id).with_for_update()).scalar_one()
    by_number = {planned.number: (planned, outcome) for planned, outcome in reversed(outcomes)}  # the first one counts
    settled = [by_number[number] for number in items_in_states(connection, run_id, by_number)]
    if not settled:
        return []
    values = [
        _key(planned) | {"final": outcome.state, "cause": outcome.cause, "why": outcome.message}
        for planned, outcome in settled
    ]
    final = {"state": bindparam("final"), "outcome_cause": bindparam("cause"), "message": bindparam("why"), "at": now}
    connection.execute(update(item).where(_BY_KEY).values(final), values)
    counts = Counter(outcome.state for _, outcome in settled)
    totals: dict[str, Any] = {state: run.c[state] + count for state, count in counts.items()}
    if any(outcome.shows_health for _, outcome in settled) if answers is None else answers:
        totals["systemic_failures"] = 0
    connection.execute(update(run).where(run.c.id == run_id).values(totals))
    deletions = [(planned, outcome) for planned, outcome in settled if outcome.state in ("deleted", "gone")]
    if deletions:
        _count_and_audit(connection, run_id, registry, deletions, now)
    causes = Counter((end.state, end.cause or "other") for _, end in settled if end.state in ("skipped", "failed"))
    for (state, cause), count in sorted(causes.items()):
        add_to_tally(connection, registry, state, cause, count)
    return settled


def _count_and_audit(
    connection: Connection, run_id: str, registry: str, deletions: Sequence[tuple[Item, Outcome]], now: datetime
) -> None:
    """Count the bytes of images that are deleted or gone, and append the images to the audit."""
    ours = {
        deleted.number: outcome.state == "deleted"
        or freed_bytes.was_deleted_with_owner(connection, run_id, deleted.repository, deleted.owners)
        for deleted, outcome in deletions
    }
    freed = freed_bytes.release_references(connection, run_id, ours)
    query = select(item.c.number, item.c.decision, item.c.operation_id)
    rows = connection.execute(query.where(item.c.run_id == run_id, item.c.number.in_(ours)))
    facts = {row.number: row for row in rows}
    audited = [
        {
            "at": now,
            "registry": registry,
            "repository": deleted.repository,
            "digest": deleted.digest,
            "image_id": deleted.image.id,
            "tags": json.dumps(deleted.image.tags),
            "run_id": run_id,
            "item": deleted.number,
            "decision": facts[deleted.number].decision,
            "outcome": outcome.state,
            "operation_id": facts[deleted.number].operation_id,
            "reclaimed_bytes": freed[deleted.number],
        }
        for deleted, outcome in deletions
    ]
    audit.append(connection, run_id, audited, now)


def add_to_tally(connection: Connection, registry: str, name: str, label: str, value: float) -> None:
    """Add to a sum that outlives runs: causes of skips and failures, requests, seconds waited for the rate limit. The
    database adds, so that no concurrent addition is lost. `value`: a number, or seconds. Raises StoreError.
    """
    values = {"registry": registry, "name": name, "label": label, "value": value}
    added = insert_for(connection, tally).values(values)
    key = [tally.c.registry, tally.c.name, tally.c.label]
    connection.execute(added.on_conflict_do_update(index_elements=key, set_={"value": tally.c.value + value}))
