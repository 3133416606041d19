"""Queries of reclaimed bytes: a blob counts once its last reference is gone, if this run deleted one of its references.

Each blob that only a run's deletions reference is a row with the number of its remaining references.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, bindparam, case, select, update

from worker.store.tables import blob, item, run

T = TypeVar("T")

MOST_BYTES = 2**53  # of one sum, so that the sum over a thousand runs fits into a column
ROWS_PER_QUERY = 500  # blobs, or digests


@dataclass(slots=True)
class _Blob:
    remaining: int
    deleted_by_us: bool
    still_referenced: bool
    size: int


def release_references(connection: Connection, run_id: str, ours: Mapping[int, bool]) -> dict[int, int]:
    """Release the blob references of items, in this order, and add the freed bytes to the run's.

    `ours`: by item, whether this run deleted the image. Returns, by item, the bytes of the blobs that lost their last
    reference with it, if the run deleted one of their references.
    """
    mine = (item.c.run_id == run_id) & item.c.number.in_(ours)
    rows = connection.execute(select(item.c.number, item.c.blobs).where(mine))
    references = {row.number: dict.fromkeys(unpack_numbers(row.blobs)) for row in rows}
    columns = (blob.c.number, blob.c.remaining, blob.c.deleted_by_us, blob.c.still_referenced, blob.c.size)
    blobs: dict[int, _Blob] = {}
    for portion in portions(sorted({number for numbers in references.values() for number in numbers})):
        rows = connection.execute(select(*columns).where(blob.c.run_id == run_id, blob.c.number.in_(portion)))
        blobs |= {number: _Blob(*facts) for number, *facts in rows}
    freed = {}
    for item_number, by_us in ours.items():
        size = 0
        for referenced in (blobs[number] for number in references[item_number] if number in blobs):
            referenced.remaining -= 1
            referenced.deleted_by_us |= by_us
            if referenced.remaining == 0 and referenced.deleted_by_us and not referenced.still_referenced:
                size += referenced.size
        freed[item_number] = capped_bytes(size)
    if blobs:
        changed = update(blob).where(blob.c.run_id == run_id, blob.c.number == bindparam("blob_number"))
        changed = changed.values(remaining=bindparam("left"), deleted_by_us=bindparam("by_us"))
        values = [{"blob_number": n, "left": b.remaining, "by_us": b.deleted_by_us} for n, b in blobs.items()]
        connection.execute(changed, values)
    if total := capped_bytes(sum(freed.values())):
        room = MOST_BYTES - total
        counted = case((run.c.reclaimed_bytes > room, MOST_BYTES), else_=run.c.reclaimed_bytes + total)
        connection.execute(update(run).where(run.c.id == run_id).values(reclaimed_bytes=counted))
    return freed


def capped_bytes(total: int) -> int:
    """A sum of bytes, at most MOST_BYTES."""
    return min(total, MOST_BYTES)


def mark_still_referenced(connection: Connection, run_id: str, digests: Collection[str]) -> None:
    """Never count these blobs, as far as they are not freed: an image that the plan does not know references them."""
    for portion in portions(sorted(digests)):
        unfreed = (blob.c.run_id == run_id) & blob.c.digest.in_(portion) & (blob.c.remaining > 0)
        connection.execute(update(blob).where(unfreed).values(still_referenced=True))


def was_deleted_with_owner(connection: Connection, run_id: str, repository: str, owners: Iterable[str]) -> bool:
    """Whether this run deleted an index or subject of a gone image, or one of theirs, however far up."""
    visited: set[str] = set()
    pending = set(owners)
    deleted_or_gone = item.c.state.in_(("deleted", "gone"))
    while pending:
        visited |= pending
        mine = (item.c.run_id == run_id) & (item.c.repository == repository) & item.c.digest.in_(pending)
        rows = connection.execute(select(item.c.state, item.c.owners).where(mine, deleted_or_gone)).all()
        if any(row.state == "deleted" for row in rows):
            return True
        pending = {owner for row in rows for owner in json.loads(row.owners)} - visited
    return False


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Numbers of blobs, four bytes each, as the column `item.blobs` stores them."""
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def unpack_numbers(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)]


def portions(values: Sequence[T], most: int = ROWS_PER_QUERY) -> Iterable[Sequence[T]]:
    """Values in portions, each small enough for one query."""
    return (values[at : at + most] for at in range(0, len(values), most))
