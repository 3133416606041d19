"""Queries of reclaimed bytes: a blob counts when its last reference is gone, if one of its references was ours.

Each blob that only a run's deletions reference is a row with the number of the references that remain.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, bindparam, case, select, update

from worker.store.tables import blob, item, run

T = TypeVar("T")

MOST_BYTES = 2**53  # of a sum: even those of a thousand runs fit into a column then
ROWS_PER_QUERY = 500  # blobs, or digests, in one query


@dataclass(slots=True)
class _Blob:
    remaining: int
    ours: bool
    kept: bool
    size: int


def release_references(connection: Connection, run_id: str, ours: Mapping[int, bool]) -> dict[int, int]:
    """Take items' references away, in this order (`ours`: by whom each was deleted), and count the run's bytes.

    By item, the bytes of the blobs that lost their last reference with it, if any of those was taken by us.
    """
    rows = connection.execute(
        select(item.c.number, item.c.blobs).where(item.c.run_id == run_id, item.c.number.in_(ours))
    )
    names = {row.number: dict.fromkeys(unpack_numbers(row.blobs)) for row in rows}
    blobs: dict[int, _Blob] = {}
    for some in portions(sorted({number for numbers in names.values() for number in numbers})):
        columns = (blob.c.number, blob.c.remaining, blob.c.deleted_by_us, blob.c.still_referenced, blob.c.size)
        found = connection.execute(select(*columns).where(blob.c.run_id == run_id, blob.c.number.in_(some)))
        blobs |= {number: _Blob(*rest) for number, *rest in found}
    freed = {}
    for number, by_us in ours.items():
        lost = [blobs[one] for one in names[number] if one in blobs]
        for one in lost:
            one.remaining, one.ours = one.remaining - 1, one.ours or by_us
        freed[number] = capped_bytes(sum(one.size for one in lost if one.remaining == 0 and one.ours and not one.kept))
    if blobs:
        taken = update(blob).where(blob.c.run_id == run_id, blob.c.number == bindparam("its_number"))
        taken = taken.values(remaining=bindparam("left"), deleted_by_us=bindparam("by_us"))
        values = [{"its_number": number, "left": one.remaining, "by_us": one.ours} for number, one in blobs.items()]
        connection.execute(taken, values)
    if total := capped_bytes(sum(freed.values())):
        room = MOST_BYTES - total
        counted = case((run.c.reclaimed_bytes > room, MOST_BYTES), else_=run.c.reclaimed_bytes + total)
        connection.execute(update(run).where(run.c.id == run_id).values(reclaimed_bytes=counted))
    return freed


def capped_bytes(total: int) -> int:
    """A sum of bytes, or the most that a column is given of one."""
    return min(total, MOST_BYTES)


def mark_still_referenced(connection: Connection, run_id: str, digests: Collection[str]) -> None:
    """Blobs that an image names which the plan does not know: what is not freed yet of them stays."""
    for some in portions(sorted(digests)):
        named = (blob.c.run_id == run_id) & blob.c.digest.in_(some) & (blob.c.remaining > 0)
        connection.execute(update(blob).where(named).values(still_referenced=True))


def was_deleted_with_owner(connection: Connection, run_id: str, repository: str, owners: Iterable[str]) -> bool:
    """Whether an image that is gone went with one of its indexes or subjects, or theirs, which this run deleted."""
    asked: set[str] = set()
    waiting = set(owners)
    while waiting:
        asked |= waiting
        found = select(item.c.state, item.c.owners).where(
            item.c.run_id == run_id,
            item.c.repository == repository,
            item.c.digest.in_(waiting),
            item.c.state.in_(("deleted", "gone")),
        )
        rows = connection.execute(found).all()
        if any(row.state == "deleted" for row in rows):
            return True
        waiting = {owner for row in rows for owner in json.loads(row.owners)} - asked
    return False


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Numbers of blobs as four bytes each, the way an item keeps them."""
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def unpack_numbers(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)]


def portions(values: Sequence[T], most: int = ROWS_PER_QUERY) -> Iterable[Sequence[T]]:
    """Values in portions that one query takes."""
    return (values[at : at + most] for at in range(0, len(values), most))
