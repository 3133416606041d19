"""The audit: a row for each deletion, bound to the row before it by a hash. Added to, and forgotten from its beginning.

A row's `sha256` is that of this text: the `sha256` of the row before, a line feed, and its own facts (FACTS) as a
compact JSON array. The table `chain` knows the newest row (`head`) and the newest forgotten one (`anchor`: at first 0
and "").
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    delete,
    func,
    insert,
    select,
    text,
    type_coerce,
    update,
)

from worker.store.engine import Store, StoreError
from worker.store.tables import EPOCH, audit, chain

FACTS = (
    *("seq", "at", "registry", "repository", "digest", "image_id", "tags", "run_id", "item", "decision", "outcome"),
    *("operation_id", "reclaimed_bytes"),
)
PORTION = 1000  # rows forgotten in one transaction: some milliseconds in which others wait

# As the database has them (`at` in microseconds): a doctored value must be found, not stumbled over.
RAW: tuple[ColumnElement[Any], ...] = tuple(
    type_coerce(audit.c.at, BigInteger).label("at") if name == "at" else audit.c[name] for name in FACTS
)


@dataclass(frozen=True, slots=True)
class Link:
    """A row's place in the chain."""

    seq: int
    sha256: str


def facts_text(values: Sequence[object]) -> str:
    """The text of a row's facts, in the order of FACTS, that goes into its hash."""
    # `repr`: SQLite keeps whatever somebody writes into a column. It matches nothing then, and that is the answer.
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":"), default=repr)


def next_sha256(before: str, facts: str) -> str:
    return hashlib.sha256(f"{before}\n{facts}".encode("utf-8", "surrogatepass")).hexdigest()


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def append(connection: Connection, values: dict[str, Any]) -> None:
    """Add a row, given as FACTS without `seq`, within the transaction of what it tells. Raises StoreError.

    The chain's head is locked until that transaction ends. It comes last: who holds it waits for nobody's run any more.
    """
    head = _link(connection, "head", lock=True)
    # A row that somebody slipped in is for `verify` to name: it must never keep us from recording what was deleted.
    newest = connection.execute(select(func.max(audit.c.seq))).scalar() or 0
    row = values | {"seq": max(head.seq, newest) + 1}
    raw = row | {"at": microseconds(row["at"])}
    sha256 = next_sha256(head.sha256, facts_text([raw[name] for name in FACTS]))
    connection.execute(insert(audit).values(row | {"sha256": sha256}))
    _move(connection, "head", Link(row["seq"], sha256))


def _link(connection: Connection, name: str, *, lock: bool = False) -> Link:
    found = select(chain.c.seq, chain.c.sha256).where(chain.c.name == name)
    row = connection.execute(found.with_for_update() if lock else found).first()
    if row is None:
        raise StoreError(f"the store: the audit's chain has lost its {name}; restore the store from a copy")
    return Link(*row)


def _move(connection: Connection, name: str, link: Link) -> None:
    connection.execute(update(chain).where(chain.c.name == name).values(seq=link.seq, sha256=link.sha256))


def forget(store: Store, before: datetime) -> int:
    """Forget the oldest rows, as far as they are from before this time, at most a portion; how many. Raises StoreError.

    Always the beginning of the chain, whatever the registry, so that the rest still verifies: a younger row keeps what
    came after it.
    """
    with store.read() as connection:
        if not _oldest(connection, before, 1):
            return 0
    with store.write() as connection:
        _link(connection, "anchor", lock=True)
        old = _oldest(connection, before, PORTION)
        if old:
            connection.execute(delete(audit).where(audit.c.seq <= old[-1].seq))
            _move(connection, "anchor", old[-1])
        return len(old)


def _oldest(connection: Connection, before: datetime, most: int) -> list[Link]:
    found = select(audit.c.seq, audit.c.sha256, type_coerce(audit.c.at, BigInteger)).order_by(audit.c.seq).limit(most)
    old: list[Link] = []
    for seq, sha256, at in connection.execute(found):
        if at >= microseconds(before):
            break
        old.append(Link(seq, sha256))
    return old


@dataclass(frozen=True, slots=True)
class Verified:
    """What verifying found: the rows that hold, and the first thing that does not."""

    rows: int
    first_at: datetime | None
    last_at: datetime | None
    anchor: str  # the newest forgotten row's hash
    head: str  # the newest row's hash: noted elsewhere, it proves later that nothing up to it was changed
    broken: str | None  # None: nothing is wrong


def verify(connection: Connection, noted: str | None = None) -> Verified:
    """Compute every hash again, oldest first, from the anchor to the head. Raises StoreError.

    `noted`: the head as somebody noted it earlier; it has to be in the chain still. For that, and so that nobody writes
    meanwhile, the connection must be fresh: all that is read is of one moment.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("set transaction isolation level repeatable read"))
    check = _Check(_link(connection, "anchor"), _link(connection, "head"), noted)
    rows = select(*RAW, audit.c.sha256).order_by(audit.c.seq).execution_options(yield_per=1000)
    return check.of(connection.execute(rows))


class _Check:
    """Walks along the chain."""

    def __init__(self, anchor: Link, head: Link, noted: str | None) -> None:
        self.anchor, self.head, self.noted = anchor, head, noted
        self.at = anchor  # the newest row that holds
        self.rows = 0
        self.first_at: object = None
        self.last_at: object = None
        self.seen = noted in (None, anchor.sha256)

    def of(self, rows: Iterable[Row[Any]]) -> Verified:
        for row in rows:
            if broken := self._broken(row):
                return self._told(broken)
            self._take(row)
        return self._told(self._end())

    def _take(self, row: Row[Any]) -> None:
        self.at = Link(row.seq, row.sha256)
        self.rows += 1
        self.first_at = row.at if self.first_at is None else self.first_at
        self.last_at = row.at
        self.seen = self.seen or row.sha256 == self.noted

    def _broken(self, row: Row[Any]) -> str | None:
        """What is wrong with this row, the next of the chain."""
        if row.seq <= self.anchor.seq:
            return f"{_named(row)} was inserted: everything up to seq {self.anchor.seq} was forgotten"
        if row.seq > self.head.seq:
            return f"{_named(row)} was inserted behind the head, which is seq {self.head.seq}"
        if row.sha256 == next_sha256(self.at.sha256, facts_text(row[: len(FACTS)])):
            return None
        if row.seq > self.at.seq + 1:
            return f"{_named(row)} does not follow seq {self.at.seq}: rows between them were removed, or it was changed"
        return f"{_named(row)} was changed, or inserted"

    def _end(self) -> str | None:
        if self.at.seq < self.head.seq:
            return f"the end was cut off: seq {self.at.seq} is the newest row, and the head says {self.head.seq}"
        if self.at.sha256 != self.head.sha256:
            return f"the head was changed: it is not that of seq {self.at.seq}"
        if not self.seen:
            return "the noted head is not in the chain: it was written anew, or that row is forgotten by now"
        return None

    def _told(self, broken: str | None) -> Verified:
        span = _moment(self.first_at), _moment(self.last_at)
        return Verified(self.rows, *span, self.anchor.sha256, self.at.sha256, broken)


def _named(row: Row[Any]) -> str:
    moment = _moment(row.at)
    at = f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else repr(row.at)
    return f"seq {row.seq}, {at}, {row.registry}, {row.repository}@{row.digest}"


def _moment(at: object) -> datetime | None:
    """None: that is no time."""
    try:
        return EPOCH + timedelta(microseconds=at) if isinstance(at, int) else None
    except OverflowError:
        return None
