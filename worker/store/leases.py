"""A lease: the right to carry out what one row stands for, until it runs out or somebody takes it over.

A table with leases has the columns `owner`, `fence` and `lease_until` (null: nobody's). Each claim raises the fence;
whoever has an older one has lost the lease, and changes nothing by these queries any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select, update


@dataclass(frozen=True, slots=True)
class Lease:
    """What its holder has in hand."""

    table: Table
    key: Mapping[str, str | int]  # the row's primary key
    fence: int
    holds_while: tuple[ColumnElement[bool], ...] = ()  # else it is lost, whoever has it
    strict: bool = False  # lost as soon as it has run out, though nobody took it over

    @property
    def mine(self) -> ColumnElement[bool]:
        return and_(_row(self.table, self.key), self.table.c.fence == self.fence, *self.holds_while)


def _row(table: Table, key: Mapping[str, str | int]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in key.items()))


def is_free(table: Table, now: datetime) -> ColumnElement[bool]:
    """Whether nobody holds a row. PostgreSQL judges a statement by it again if somebody claims meanwhile."""
    return or_(table.c.lease_until.is_(None), table.c.lease_until < now)


def is_held(until: datetime | None, now: datetime) -> bool:
    """The same of a row that was read: whether somebody holds it."""
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
    """Take the lease of a row that is free, and set these values; its fence. None: it is held, or not to be had."""
    free = update(table).where(_row(table, key), is_free(table, now), *only_if)
    taken = {"owner": owner, "lease_until": until, "fence": table.c.fence + 1}
    if connection.execute(free.values(taken | values)).rowcount == 0:
        return None
    return int(connection.execute(select(table.c.fence).where(_row(table, key))).scalar_one())


def renew(connection: Connection, lease: Lease, now: datetime, until: datetime) -> bool:
    """False: it was lost."""
    mine = update(lease.table).where(lease.mine)
    if lease.strict:
        mine = mine.where(lease.table.c.lease_until > now)
    return connection.execute(mine.values(lease_until=until)).rowcount == 1


def holds(connection: Connection, lease: Lease, *, lock: bool = True) -> bool:
    """Whether it is still ours; locks the row if so and asked for."""
    found = select(lease.table.c.fence).where(lease.mine)
    return connection.execute(found.with_for_update() if lock else found).first() is not None


def release(connection: Connection, lease: Lease, **values: Any) -> bool:
    """Give it back, and set these values. False: it was lost, and nothing was changed."""
    mine = update(lease.table).where(lease.mine)
    return connection.execute(mine.values(lease_until=None, owner=None, **values)).rowcount == 1
