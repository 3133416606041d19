"""Queries of a sweep: leases with fences, intents before, outcomes after.

An outcome, its bytes and its audit are one transaction.
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

MAX_PUBLISHED = 32  # batches of one run

_earlier = batch.alias("earlier")
EARLIER_WAVE = exists().where(
    _earlier.c.run_id == batch.c.run_id,
    _earlier.c.repository == batch.c.repository,
    _earlier.c.wave < batch.c.wave,
    ~_earlier.c.done,
)


class LeaseLostError(Exception):
    """Somebody else may hold this batch by now: stop before the next deletion, write nothing, release nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A final state, and why."""

    state: Final
    cause: str | None = None
    message: str | None = None

    @property
    def shows_health(self) -> bool:
        """Whether it says that the registry answers as it should."""
        return self.state in ("deleted", "gone") or self.cause in ("changed", "used_by_image_lists", "locked")


@dataclass(frozen=True, slots=True)
class ReadyBatch:
    """A batch that may be claimed now, and when its repository was listed again."""

    batch: int
    repository: str
    rechecked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry out one batch, until the lease runs out or somebody takes it over."""

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
    """One planned deletion and how far it has come."""

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
    refused: str | None = None  # why its deletion was refused, while it is not known what that means
    refused_hint: bool = False  # whether that hints at protection


def mark_published(
    connection: Connection, run_id: str, now: datetime, published_before: datetime, stale: datetime
) -> list[ReadyBatch]:
    """Batches that nobody holds, whose turn has come, and that were not rung since `rung_before`; now they are.

    No more than MOST_RUNG of a run are out at once: the end of each rings the next. What was never rung comes first,
    and of a repository that was not listed since `stale` one batch speaks for all: none can keep the others waiting.
    """
    mine = (batch.c.run_id == run_id) & ~batch.c.done
    held = ~is_free(batch, now)
    rung = batch.c.published_at > published_before
    out = connection.execute(select(func.count()).select_from(batch).where(mine, or_(held, rung))).scalar_one()
    columns = select(batch.c.number, batch.c.repository, repository.c.rechecked_at)
    same = and_(repository.c.run_id == batch.c.run_id, repository.c.path == batch.c.repository)
    unrung = or_(batch.c.published_at.is_(None), batch.c.published_at <= published_before)
    found = columns.select_from(batch.join(repository, same)).where(mine, is_free(batch, now), unrung, ~EARLIER_WAVE)
    rows = connection.execute(found.order_by(batch.c.published_at.nulls_first(), batch.c.number))
    ready = choose_fairly((ReadyBatch(*row) for row in rows), max(0, MAX_PUBLISHED - out), stale)
    if ready:
        some = update(batch).where(batch.c.run_id == run_id, batch.c.number.in_([one.batch for one in ready]))
        connection.execute(some.values(published_at=now))
    return ready


def choose_fairly(candidates: Iterable[ReadyBatch], most: int, stale: datetime) -> list[ReadyBatch]:
    """At most so many of the candidates, in their order; of a repository that has to be looked at first, one."""
    chosen: list[ReadyBatch] = []
    to_look_at: set[str] = set()
    for one in candidates:
        if len(chosen) == most:
            break
        if one.rechecked_at is None or one.rechecked_at <= stale:
            if one.repository in to_look_at:
                continue
            to_look_at.add(one.repository)
        chosen.append(one)
    return chosen


def claim(
    connection: Connection, run_id: str, number: int, *, owner: str, now: datetime, until: datetime
) -> Claim | None:
    """Take the lease of a batch; None: it is done, held, or its turn has not come."""
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
    """How many batches of a run somebody holds."""
    held = select(func.count()).select_from(batch).where(batch.c.run_id == run_id, ~is_free(batch, now))
    return connection.execute(held).scalar_one()


def batches_in_progress(connection: Connection, run_id: str) -> frozenset[int]:
    """The batches of a run with a deletion that was begun and has no outcome yet."""
    begun = (item.c.run_id == run_id) & item.c.state.in_(("intent", "accepted"))
    return frozenset(connection.execute(select(item.c.batch).distinct().where(begun)).scalars())


def has_postponed_batches(connection: Connection, run_id: str) -> bool:
    """Whether a batch of a run waits to be rung behind those that were never rung."""
    waiting = (batch.c.run_id == run_id) & ~batch.c.done & (batch.c.published_at == EPOCH)
    return connection.execute(select(batch.c.number).where(waiting).limit(1)).first() is not None


def mark_unpublished(connection: Connection, run_id: str, now: datetime, path: str | None = None) -> None:
    """What waits in a run, or in one of its repositories, is to be rung again: what it waited for is done."""
    waiting = update(batch).where(batch.c.run_id == run_id, ~batch.c.done, is_free(batch, now))
    mine = waiting if path is None else waiting.where(batch.c.repository == path)
    connection.execute(mine.values(published_at=None))


def finish_batches(
    connection: Connection, run_id: str, now: datetime, path: str | None = None, states: Collection[str] = UNFINISHED
) -> None:
    """Batches of a run, or of one of its repositories, that nobody holds and that have no item in these states."""
    left = exists().where(item.c.run_id == run_id, item.c.batch == batch.c.number, item.c.state.in_(states))
    done = update(batch).where(batch.c.run_id == run_id, ~batch.c.done, is_free(batch, now), ~left)
    mine = done if path is None else done.where(batch.c.repository == path)
    connection.execute(mine.values(done=True))


def has_open_batches(connection: Connection, run_id: str) -> bool:
    """Whether a batch of a run is not done."""
    found = select(batch.c.number).where(batch.c.run_id == run_id, ~batch.c.done).limit(1)
    return connection.execute(found).first() is not None


def renew(connection: Connection, held: Claim, now: datetime, until: datetime) -> None:
    """Raises LeaseLostError."""
    if not leases.renew(connection, held.lease, now, until):
        raise LeaseLostError(f"batch {held.batch} of run {held.run_id}")


def release(connection: Connection, held: Claim, published_at: datetime | None) -> None:
    """Give the lease back; the batch is done if none of its items is left unfinished.

    What is left may go on at once (`rung_at` None), or when a lease has passed since then.
    """
    left = exists().where(item.c.run_id == held.run_id, item.c.batch == held.batch, item.c.state.in_(UNFINISHED))
    leases.release(connection, held.lease, published_at=published_at, done=~left)


ITEM_COLUMNS = tuple(item.c[field.name] for field in fields(Item))
decode_image = msgspec.json.Decoder(Image, strict=False).decode


def item_of(row: Row[*tuple[Any, ...]]) -> Item:
    """The record of a row that has ITEM_COLUMNS, and maybe more."""
    values = {field.name: row._mapping[field.name] for field in fields(Item)}
    values["image"] = decode_image(values["image"])
    values["owners"] = tuple(json.loads(values["owners"]))
    return Item(**values)


def unfinished_items(connection: Connection, run_id: str, number: int) -> list[Item]:
    found = select(*ITEM_COLUMNS).where(item.c.run_id == run_id, item.c.batch == number, item.c.state.in_(UNFINISHED))
    return [item_of(row) for row in connection.execute(found.order_by(item.c.number))]


_one_of_run = (item.c.run_id == bindparam("its_run")) & (item.c.number == bindparam("its_number"))


def _key(one: Item) -> dict[str, Any]:
    return {"its_run": one.run_id, "its_number": one.number}


def items_in_states(
    connection: Connection,
    run_id: str,
    numbers: Collection[int],
    states: Collection[str] = UNFINISHED,
    lock: bool = True,
) -> dict[int, str | None]:
    """Those of a run's items that are in one of these states, with why nothing more is to be asked for them."""
    mine = (item.c.run_id == run_id) & item.c.number.in_(numbers) & item.c.state.in_(states)
    found = select(item.c.number, item.c.stop_reason).where(mine).order_by(item.c.number)
    return {row.number: row.stop_reason for row in connection.execute(found.with_for_update() if lock else found)}


def record_intents(connection: Connection, keys: Sequence[tuple[Item, str]], now: datetime) -> None:
    """Write down that these items are about to be deleted, each under its idempotency key; they are `open_items`."""
    if not keys:
        return
    first = func.coalesce(item.c.intent_at, literal(now, Instant))
    values = {"state": "intent", "attempts": item.c.attempts + 1, "intent_at": first, "at": now}
    intended = update(item).where(_one_of_run).values(values | {"idempotency_key": bindparam("key")})
    connection.execute(intended, [_key(one) | {"key": key} for one, key in keys])


def withdraw_intents(connection: Connection, items: Sequence[Item]) -> None:
    """The deletions that were intended were surely not sent: the items are as they were when they were claimed.

    Only for who holds their batch's lease, in the same transaction.
    """
    if not items:
        return
    before: dict[str, Any] = {
        name: bindparam(f"its_{name}") for name in ("state", "attempts", "idempotency_key", "intent_at")
    }
    mine = update(item).where(_one_of_run, item.c.state == "intent").values(before)
    rows = [_key(one) | {f"its_{name}": getattr(one, name) for name in before} for one in items]
    connection.execute(mine, rows)


def record_stop_reason(connection: Connection, one: Item, reason: str) -> None:
    """Nothing more is to be asked of the registry for this item, though a worker holds it just now."""
    mine = update(item).where(item.c.run_id == one.run_id, item.c.number == one.number)
    connection.execute(mine.values(stop_reason=reason))


def record_accepted(connection: Connection, accepted: Sequence[tuple[Item, str]], now: datetime) -> None:
    """The registry took these deletions on, each as an operation: true, so recorded whoever holds the lease."""
    if not accepted:
        return
    mine = update(item).where(_one_of_run, item.c.state == "intent")
    taken = mine.values(state="accepted", operation_id=bindparam("operation"), at=now)
    connection.execute(taken, [_key(one) | {"operation": operation_id} for one, operation_id in accepted])


def record_outcomes(
    connection: Connection,
    run_id: str,
    outcomes: Sequence[tuple[Item, Outcome]],
    now: datetime,
    *,
    answers: bool | None = None,
) -> list[tuple[Item, Outcome]]:
    """Final states of items of a run, with the run's counts, the bytes and the audit; those that had none before.

    `answers`: whether a row of systemic failures ends here; None: if one of the outcomes says that the registry answers
    as it should.
    """
    if not outcomes:
        return []
    # The run's row first: it makes outcomes of one run queue up, so that shared blobs are counted once and in order.
    registry = connection.execute(select(run.c.registry).where(run.c.id == run_id).with_for_update()).scalar_one()
    by_number = {one.number: (one, outcome) for one, outcome in reversed(outcomes)}  # the first of an item counts
    unfinished = items_in_states(connection, run_id, by_number)
    settled = [by_number[number] for number in unfinished]
    if not settled:
        return []
    final = {
        "state": bindparam("its_state"),
        "outcome_cause": bindparam("cause"),
        "message": bindparam("why"),
        "at": now,
    }
    values = [
        _key(one) | {"its_state": outcome.state, "cause": outcome.cause, "why": outcome.message}
        for one, outcome in settled
    ]
    connection.execute(update(item).where(_one_of_run).values(final), values)
    counts = Counter(outcome.state for _, outcome in settled)
    counted: dict[str, Any] = {state: run.c[state] + count for state, count in counts.items()}
    if any(outcome.shows_health for _, outcome in settled) if answers is None else answers:
        counted["systemic_failures"] = 0
    connection.execute(update(run).where(run.c.id == run_id).values(counted))
    _free_and_audit(connection, registry, [pair for pair in settled if pair[1].state in ("deleted", "gone")], now)
    causes = Counter(
        (pair[1].state, pair[1].cause or "other") for pair in settled if pair[1].state in ("skipped", "failed")
    )
    for (state, cause), count in sorted(causes.items()):
        add_to_tally(connection, registry, state, cause, count)
    return settled


def _free_and_audit(connection: Connection, registry: str, gone: Sequence[tuple[Item, Outcome]], now: datetime) -> None:
    """Count the bytes of what is gone, and write it down for as long as the audit is kept."""
    if not gone:
        return
    run_id = gone[0][0].run_id
    ours = {
        one.number: outcome.state == "deleted"
        or freed_bytes.was_deleted_with_owner(connection, run_id, one.repository, one.owners)
        for one, outcome in gone
    }
    freed = freed_bytes.release_references(connection, run_id, ours)
    found = select(item.c.number, item.c.decision, item.c.operation_id)
    rows = connection.execute(found.where(item.c.run_id == run_id, item.c.number.in_(ours)))
    facts = {row.number: row for row in rows}
    audited = [
        {
            "at": now,
            "registry": registry,
            "repository": one.repository,
            "digest": one.digest,
            "image_id": one.image.id,
            "tags": json.dumps(one.image.tags),
            "run_id": run_id,
            "item": one.number,
            "decision": facts[one.number].decision,
            "outcome": outcome.state,
            "operation_id": facts[one.number].operation_id,
            "reclaimed_bytes": freed[one.number],
        }
        for one, outcome in gone
    ]
    audit.append(connection, run_id, audited, now)


def add_to_tally(connection: Connection, registry: str, name: str, label: str, value: float) -> None:
    """Add to a sum that outlives runs: causes of skips and failures, requests, waits for the rate."""
    values = {"registry": registry, "name": name, "label": label, "value": value}
    added = insert_for(connection, tally).values(values)
    key = [tally.c.registry, tally.c.name, tally.c.label]
    connection.execute(added.on_conflict_do_update(index_elements=key, set_={"value": tally.c.value + value}))
