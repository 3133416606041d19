"""Queries of one repository of a sweep: the lease of its look, what that may settle and found, what is gone there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, or_, select, update

from worker.store import leases, sweeping
from worker.store.freed_bytes import portions
from worker.store.leases import Lease
from worker.store.sweeping import ITEM_COLUMNS, Item, decode_image, item_of
from worker.store.tables import batch, item, repository

ITEMS_PER_TRANSACTION = 200  # items settled in one transaction: others want to write, too


def claim(
    connection: Connection, run_id: str, path: str, *, owner: str, now: datetime, until: datetime, fresh: datetime
) -> Lease | None:
    """Take the lease of a repository's recheck. None: it is held, or the repository was listed since `fresh`.

    A listing that lies in the future says nothing: the clock was set back since.
    """
    stale = or_(
        repository.c.rechecked_at.is_(None), repository.c.rechecked_at <= fresh, repository.c.rechecked_at > now
    )
    key = {"run_id": run_id, "path": path}
    fence = leases.claim(connection, repository, key, stale, owner=owner, now=now, until=until)
    return None if fence is None else Lease(repository, key, fence)


def record(connection: Connection, run_id: str, path: str, began: datetime, now: datetime, refusal: str | None) -> None:
    """That a repository was listed again from `began` on, and why nothing is to be deleted in it, if so.

    What waits in it is to be rung: what was rung was this look. Batches of which nothing is left are done.
    """
    seen = update(repository).where(repository.c.run_id == run_id, repository.c.path == path)
    connection.execute(seen.values(rechecked_at=began, refusal=refusal))
    sweeping.mark_unpublished(connection, run_id, now, path)
    sweeping.finish_batches(connection, run_id, now, path)


def rechecked_at(connection: Connection, run_id: str, path: str) -> datetime | None:
    """When the last listing of a repository began."""
    found = select(repository.c.rechecked_at).where(repository.c.run_id == run_id, repository.c.path == path)
    return connection.execute(found).scalar()


def digests_in_states(connection: Connection, run_id: str, path: str, states: Collection[str]) -> frozenset[str]:
    """Digests of a repository's items that are in one of these states."""
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.in_(states)
    return frozenset(connection.execute(select(item.c.digest).where(mine)).scalars())


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An item that is planned or intended, and whether a worker holds its batch now."""

    item: Item
    held: bool


def open_items(
    connection: Connection, run_id: str, path: str, now: datetime, *, after: int = -1, digests: Sequence[str] = ()
) -> list[OpenItem]:
    """The next AT_ONCE of a repository's items behind number `after`, in order; of these digests, where given."""
    its_batch = and_(batch.c.run_id == item.c.run_id, batch.c.number == item.c.batch)
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.in_(("planned", "intent"))
    found = select(*ITEM_COLUMNS, batch.c.lease_until).select_from(item.join(batch, its_batch)).where(mine)
    found = found.where(item.c.number > after).order_by(item.c.number).limit(ITEMS_PER_TRANSACTION)
    if digests:
        found = found.where(item.c.digest.in_(digests))
    rows = connection.execute(found)
    return [OpenItem(item_of(row), leases.is_held(row.lease_until, now)) for row in rows]


def deleted_digests(connection: Connection, run_id: str, path: str, digests: Collection[str]) -> frozenset[str]:
    """Which of these images of a repository the run has deleted, or found gone."""
    gone: set[str] = set()
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.in_(("deleted", "gone"))
    for some in portions(sorted(digests)):
        gone |= set(connection.execute(select(item.c.digest).where(mine, item.c.digest.in_(some))).scalars())
    return frozenset(gone)


def names_to_delete(connection: Connection, run_id: str, path: str) -> frozenset[str]:
    """Tags and digests of all that a run deletes in a repository; of what was skipped or failed nothing."""
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.not_in(("skipped", "failed"))
    rows = connection.execute(select(item.c.digest, item.c.image).where(mine)).all()
    return frozenset(name for digest, image in rows for name in (digest, *decode_image(image).tags))
