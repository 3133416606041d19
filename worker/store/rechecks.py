"""Queries of the recheck of one repository in a sweep: its lease, its result, and the states of its items."""

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

    A listing in the future does not count: the clock was set back since.
    """
    stale = or_(
        repository.c.rechecked_at.is_(None), repository.c.rechecked_at <= fresh, repository.c.rechecked_at > now
    )
    key = {"run_id": run_id, "path": path}
    fence = leases.claim(connection, repository, key, stale, owner=owner, now=now, until=until)
    return None if fence is None else Lease(repository, key, fence)


def record(connection: Connection, run_id: str, path: str, began: datetime, now: datetime, refusal: str | None) -> None:
    """Record that a repository was listed from `began` on, and why nothing may be deleted in it (None: it may).

    Its free batches can be published now: this recheck was their task call. Batches without unfinished items are done.
    """
    listed = update(repository).where(repository.c.run_id == run_id, repository.c.path == path)
    connection.execute(listed.values(rechecked_at=began, refusal=refusal))
    sweeping.mark_unpublished(connection, run_id, now, path)
    sweeping.finish_batches(connection, run_id, now, path)


def rechecked_at(connection: Connection, run_id: str, path: str) -> datetime | None:
    """When the last listing of a repository began. Aware, UTC. None: no recheck has listed it yet, or the run's plan
    does not have it. Raises StoreError.
    """
    last = select(repository.c.rechecked_at).where(repository.c.run_id == run_id, repository.c.path == path)
    return connection.execute(last).scalar()


def digests_in_states(connection: Connection, run_id: str, path: str, states: Collection[str]) -> frozenset[str]:
    """Digests of the items of a repository that are in one of these states."""
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.in_(states)
    return frozenset(connection.execute(select(item.c.digest).where(mine)).scalars())


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An item in the state `planned` or `intent`, and whether a worker holds its batch now."""

    item: Item
    held: bool


def open_items(
    connection: Connection, run_id: str, path: str, now: datetime, *, after: int = -1, digests: Sequence[str] = ()
) -> list[OpenItem]:
    """The next ITEMS_PER_TRANSACTION open items of a repository after number `after`; only these digests, if given."""
    its_batch = and_(batch.c.run_id == item.c.run_id, batch.c.number == item.c.batch)
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.in_(("planned", "intent"))
    if digests:
        mine &= item.c.digest.in_(digests)
    query = select(*ITEM_COLUMNS, batch.c.lease_until).select_from(item.join(batch, its_batch))
    query = query.where(mine, item.c.number > after).order_by(item.c.number).limit(ITEMS_PER_TRANSACTION)
    rows = connection.execute(query)
    return [OpenItem(item_of(row), leases.is_held(row.lease_until, now)) for row in rows]


def deleted_digests(connection: Connection, run_id: str, path: str, digests: Collection[str]) -> frozenset[str]:
    """Those of these digests that the run deleted in a repository, or that were gone."""
    gone: set[str] = set()
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.in_(("deleted", "gone"))
    for portion in portions(sorted(digests)):
        gone.update(connection.execute(select(item.c.digest).where(mine, item.c.digest.in_(portion))).scalars())
    return frozenset(gone)


def names_to_delete(connection: Connection, run_id: str, path: str) -> frozenset[str]:
    """Tags and digests of the images that a run deletes in a repository, without skipped and failed ones."""
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.state.not_in(("skipped", "failed"))
    rows = connection.execute(select(item.c.digest, item.c.image).where(mine)).all()
    return frozenset(name for digest, image in rows for name in (digest, *decode_image(image).tags))
