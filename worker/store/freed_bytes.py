"""Queries of reclaimed bytes: a blob counts when its last reference is gone, if one of its references was ours.

Each blob that only a run's deletions reference is a row with the number of the references that remain.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, case, select, update

from worker.store.tables import blob, item, run

T = TypeVar("T")

MOST_BYTES = 2**53  # of a sum: even those of a thousand runs fit into a column then
AT_ONCE = 500  # blobs, or digests, in one query


def free(connection: Connection, run_id: str, number: int, *, ours: bool) -> int:
    """Take an item's references away; the bytes of the blobs that lost their last one, if any was taken by us."""
    packed = connection.execute(
        select(item.c.blobs).where(item.c.run_id == run_id, item.c.number == number)
    ).scalar_one()
    freed = 0
    for numbers in _portions(unpack(packed)):
        these = (blob.c.run_id == run_id) & blob.c.number.in_(numbers)
        taken = {"remaining": blob.c.remaining - 1} | ({"ours": True} if ours else {})
        connection.execute(update(blob).where(these).values(taken))
        last = select(blob.c.size).where(these, blob.c.remaining == 0, blob.c.ours, ~blob.c.kept)
        freed += sum(connection.execute(last).scalars())  # not in SQL: sizes are what pushers wrote
    freed = storable(freed)
    if freed:
        counted = update(run).where(run.c.id == run_id)
        room = MOST_BYTES - freed
        total = case((run.c.reclaimed_bytes > room, MOST_BYTES), else_=run.c.reclaimed_bytes + freed)
        connection.execute(counted.values(reclaimed_bytes=total))
    return freed


def storable(total: int) -> int:
    """A sum of bytes, or the most that a column is given of one."""
    return min(total, MOST_BYTES)


def keep(connection: Connection, run_id: str, digests: Collection[str]) -> None:
    """Blobs that an image names which the plan does not know: what is not freed yet of them stays."""
    for some in _portions(sorted(digests)):
        named = (blob.c.run_id == run_id) & blob.c.digest.in_(some) & (blob.c.remaining > 0)
        connection.execute(update(blob).where(named).values(kept=True))


def went_along(connection: Connection, run_id: str, repository: str, owners: Iterable[str]) -> bool:
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


def pack(numbers: Iterable[int]) -> bytes:
    """Numbers of blobs as four bytes each, the way an item keeps them."""
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def unpack(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)]


def _portions(values: Sequence[T]) -> Iterable[Sequence[T]]:
    return (values[at : at + AT_ONCE] for at in range(0, len(values), AT_ONCE))
