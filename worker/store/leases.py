"""A lease: the right to do the work of one row, until the lease expires and another worker takes it over.

A table with leases has the columns `owner`, `fence` and `lease_until` (null: free). Each claim raises the fence; a
worker with an older fence has lost the lease, and these queries change nothing for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select, update


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed row. The lease is lost when the row's fence has changed."""

    table: Table
    key: Mapping[str, str | int]  # the row's primary key
    fence: int
    holds_while: tuple[ColumnElement[bool], ...] = ()  # else the lease is lost
    strict: bool = False  # an expired lease is lost, even if no worker took it over

    @property
    def mine(self) -> ColumnElement[bool]:
        return and_(_row(self.table, self.key), self.table.c.fence == self.fence, *self.holds_while)


def _row(table: Table, key: Mapping[str, str | int]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in key.items()))


def is_free(table: Table, now: datetime) -> ColumnElement[bool]:
    """Whether nobody holds a row. PostgreSQL evaluates it again if another worker claims the row meanwhile."""
    return or_(table.c.lease_until.is_(None), table.c.lease_until < now)


def is_held(until: datetime | None, now: datetime) -> bool:
    """Whether a row is held that was read with this `lease_until`."""
    return until is not None and until >= now


def claim(
    connection: Connection,
    table: Table,
    key: Mapping[str, str | int],
    *only_if: ColumnElement[bool],
    owner: str,
    now: datetime,
    until: datetime,
    **values: Any,
) -> int | None:
    """Take the lease of a free row, set these values, and return the fence. None: held, or `only_if` is not met."""
    free = update(table).where(_row(table, key), is_free(table, now), *only_if)
    taken = {"owner": owner, "lease_until": until, "fence": table.c.fence + 1}
    if connection.execute(free.values(taken | values)).rowcount == 0:
        return None
    return int(connection.execute(select(table.c.fence).where(_row(table, key))).scalar_one())


def renew(connection: Connection, lease: Lease, now: datetime, until: datetime) -> bool:
    """Extend a lease. False: the lease was lost. A lease that has expired, and that no other worker took over, is
    extended unless it is `strict`. `now`, `until`: the store's time, aware. Raises StoreError.
    """
    mine = update(lease.table).where(lease.mine)
    if lease.strict:
        mine = mine.where(lease.table.c.lease_until > now)
    return connection.execute(mine.values(lease_until=until)).rowcount == 1


def holds(connection: Connection, lease: Lease, *, lock: bool = True) -> bool:
    """Whether the lease is not lost. `lock`: lock the row too. No clock is read: an expired lease counts as held until
    another worker takes it over, even if it is `strict`. Raises StoreError.
    """
    mine = select(lease.table.c.fence).where(lease.mine)
    return connection.execute(mine.with_for_update() if lock else mine).first() is not None


def release(connection: Connection, lease: Lease, **values: Any) -> bool:
    """Release a lease, and set these values. False: the lease was lost, and nothing is changed. `values`: columns of
    the lease's table. An expired lease that no other worker took over is released, too. Raises StoreError.
    """
    mine = update(lease.table).where(lease.mine)
    return connection.execute(mine.values(lease_until=None, owner=None, **values)).rowcount == 1
