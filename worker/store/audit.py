"""The audit: a row for each deletion, chained by a hash to its run's row before. Only whole runs are deleted from it.

A row's `sha256` is the hash of this text: the `sha256` of the run's row before (for the first row ""), a line feed, and
the row's own facts (FACTS) as a compact JSON array. When a run has swept, its newest `sha256` becomes a row of the
chain of runs (`swept_run`), which is chained in the same way. So no run waits for another run's outcomes, and the
removal of a whole run is detected. Rows up to `former` (see `tables.chain`) are from versions in which all registries
shared one chain.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    func,
    insert,
    select,
    text,
    type_coerce,
    update,
)

from worker.store.engine import Store, StoreError
from worker.store.tables import EPOCH, audit, chain, run, swept_run
from worker.text import instant

FACTS = (
    *("seq", "at", "registry", "repository", "digest", "image_id", "tags", "run_id", "item", "decision", "outcome"),
    *("operation_id", "reclaimed_bytes"),
)
PORTION = 1000  # rows deleted in one transaction, plus the rest of the last run: other writers wait some milliseconds

DAMAGED = "it was changed or inserted, or rows between them were removed"

# Raw values (`at` in microseconds): a forged value must be reported, not raise an error.
RAW: tuple[ColumnElement[Any], ...] = tuple(
    type_coerce(audit.c.at, BigInteger).label("at") if name == "at" else audit.c[name] for name in FACTS
)
SWEPT: tuple[ColumnElement[Any], ...] = (
    *(swept_run.c.number, type_coerce(swept_run.c.at, BigInteger).label("at"), swept_run.c.run_id),
    *(swept_run.c.seq, swept_run.c.last),
)


@dataclass(frozen=True, slots=True)
class Link:
    """A row's position in its chain."""

    seq: int
    sha256: str


def facts_text(values: Sequence[object]) -> str:
    """The text of a row's facts, in the order of FACTS, that goes into its hash. A compact JSON array, not escaped to
    ASCII; `at` is in microseconds since 1970.
    """
    # `repr`: SQLite stores values of any type in a column; a value of a wrong type then never matches.
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":"), default=repr)


def next_sha256(before: str, facts: str) -> str:
    return hashlib.sha256(f"{before}\n{facts}".encode("utf-8", "surrogatepass")).hexdigest()


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def append(connection: Connection, run_id: str, rows: Sequence[dict[str, Any]], now: datetime) -> None:
    """Add rows of a run, each with FACTS but `seq`, in the transaction of their outcomes.

    Locks the run until the transaction ends, as `record_outcomes` does. Raises StoreError.
    """
    locked = select(run.c.state, run.c.audit_sha256).where(run.c.id == run_id).with_for_update()
    state, sha256 = connection.execute(locked).one()
    chained = []
    for seq, row in zip(_numbers(connection, len(rows)), rows, strict=True):
        raw = row | {"seq": seq, "at": microseconds(row["at"])}
        sha256 = next_sha256(sha256, facts_text([raw[name] for name in FACTS]))
        chained.append(row | {"seq": seq, "sha256": sha256})
    connection.execute(insert(audit), chained)
    connection.execute(update(run).where(run.c.id == run_id).values(audit_sha256=sha256))
    if state == "finished":  # a late outcome: the chain of runs gets another row of this run
        add_swept(connection, run_id, now)


def _numbers(connection: Connection, count: int) -> list[int]:
    """The next numbers of rows, ascending."""
    if connection.dialect.name != "postgresql":  # one writer at a time
        used = [func.coalesce(func.max(column), 0) for column in (audit.c.seq, swept_run.c.seq, chain.c.seq)]
        newest = max(connection.execute(select(number)).scalar_one() for number in used)
        return list(range(newest + 1, newest + 1 + count))
    series = func.generate_series(1, count).table_valued("value")
    following = select(func.nextval(func.pg_get_serial_sequence("audit", "seq"))).select_from(series)
    numbers = sorted(connection.execute(following).scalars())
    # `verify` reports a forged row; it must never prevent us from recording a deletion.
    forged = connection.execute(select(audit.c.seq).where(audit.c.seq.in_(numbers)).limit(1)).first()
    return numbers if forged is None else _numbers(connection, count)


def add_swept(connection: Connection, run_id: str, now: datetime) -> None:
    """Add a swept run to the chain of runs, whose end is locked last. Raises StoreError."""
    last = connection.execute(select(run.c.audit_sha256).where(run.c.id == run_id)).scalar_one()
    newest_row = select(func.max(audit.c.seq)).where(audit.c.run_id == run_id, audit.c.sha256 == last)
    seq = connection.execute(newest_row).scalar() or 0
    newest = _link(connection, "runs", lock=True)
    row = {"number": newest.seq + 1, "at": now, "run_id": run_id, "seq": seq, "last": last}
    facts = facts_text([row["number"], microseconds(now), run_id, seq, last])
    sha256 = next_sha256(newest.sha256, facts)
    connection.execute(insert(swept_run).values(row | {"sha256": sha256}))
    _move(connection, "runs", Link(newest.seq + 1, sha256))


def _link(connection: Connection, name: str, *, lock: bool = False) -> Link:
    link = select(chain.c.seq, chain.c.sha256).where(chain.c.name == name)
    row = connection.execute(link.with_for_update() if lock else link).first()
    if row is None:
        raise StoreError(f"the store: the audit's chain has lost its {name}; restore the store from a copy")
    return Link(*row)


def _move(connection: Connection, name: str, link: Link) -> None:
    connection.execute(update(chain).where(chain.c.name == name).values(seq=link.seq, sha256=link.sha256))


def forget(store: Store, before: datetime) -> int:
    """Delete the rows of the first swept runs that finished before this time, and return the number of rows.

    A run's rows are deleted together, in the order of the chain of runs, across registries; about a PORTION at a time.
    So the remaining rows still verify. Raises StoreError.
    """
    with store.read() as connection:
        if not (_former(connection, before, 1) or _swept(connection, before, 1)):
            return 0
    with store.write() as connection:
        _link(connection, "forgotten", lock=True)
        count = 0
        if former := _former(connection, before, PORTION):
            count = connection.execute(delete(audit).where(audit.c.seq <= former[-1].seq)).rowcount
            _move(connection, "anchor", former[-1])
        end = _link(connection, "former").seq
        for row in _swept(connection, before, PORTION):
            if count >= PORTION:
                break
            run_rows = (audit.c.run_id == row.run_id) & (audit.c.seq > end) & (audit.c.seq <= row.seq)
            count += connection.execute(delete(audit).where(run_rows)).rowcount
            _move(connection, "forgotten", Link(row.number, row.sha256))
        return count


def _swept(connection: Connection, before: datetime, most: int) -> list[Row[Any]]:
    """The first runs in the chain of runs with audit rows, up to the first that finished at `before` or later."""
    swept: Select[Any] = select(*SWEPT, swept_run.c.sha256).where(
        swept_run.c.number > _link(connection, "forgotten").seq
    )
    rows = connection.execute(swept.order_by(swept_run.c.number).limit(most)).all()
    return list(takewhile(lambda row: row.at < microseconds(before), rows))


def _former(connection: Connection, before: datetime, most: int) -> list[Link]:
    """The first rows of the chain that all registries shared, up to the first of `before` or later."""
    links = select(audit.c.seq, audit.c.sha256, type_coerce(audit.c.at, BigInteger).label("at"))
    links = links.where(audit.c.seq <= _link(connection, "former").seq).order_by(audit.c.seq).limit(most)
    old = takewhile(lambda row: row.at < microseconds(before), connection.execute(links).all())
    return [Link(row.seq, row.sha256) for row in old]


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """The result of a verification: the number of valid rows, and the first invalid one."""

    rows: int
    first_at: datetime | None
    last_at: datetime | None
    anchor: str  # hash of the newest deleted row of the chain that all registries shared
    head: str  # of the chain of runs: a copy elsewhere proves later that no earlier row was changed
    broken: str | None  # None: every row is valid


def verify(connection: Connection, noted: str | None = None) -> AuditCheck:
    """Recompute every hash: of the chain of runs, of each run's chain, and of the former one. Raises StoreError.

    `noted`: a head, or a run's last hash, that was noted earlier and must still be in a chain. The connection must be
    fresh, so that all reads are of one moment.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("set transaction isolation level repeatable read"))
    anchor, former, runs, forgotten = (_link(connection, name) for name in ("anchor", "former", "runs", "forgotten"))
    check = _Check(noted, anchor, former, runs, forgotten)
    swept = select(*SWEPT, swept_run.c.sha256).order_by(swept_run.c.number)
    rows = select(*RAW, audit.c.sha256).order_by(audit.c.seq).execution_options(yield_per=1000)
    heads = select(run.c.id, run.c.state, run.c.audit_sha256).where(run.c.audit_sha256 != "")
    broken = check.of_runs(connection.execute(swept))
    broken = broken or check.of_rows(connection.execute(rows))
    broken = broken or check.of_ends(connection.execute(heads))
    span = _moment(check.first_at), _moment(check.last_at)
    return AuditCheck(check.rows, *span, anchor.sha256, runs.sha256, broken)


@dataclass(slots=True)
class _Check:
    """Verifies the chains. Each step returns the first error, or None."""

    noted: str | None
    anchor: Link
    former: Link
    runs: Link
    forgotten: Link
    rows: int = 0
    first_at: object = None
    last_at: object = None
    newest: dict[str, str] = field(default_factory=dict)  # by run, the newest valid hash; "": of the former chain
    # By run, hashes of the chain of runs that its rows must have.
    due: dict[str, set[str]] = field(default_factory=dict)
    swept: dict[str, str] = field(default_factory=dict)  # by run, the newest of these

    def of_runs(self, swept: Iterable[Row[Any]]) -> str | None:
        at, forgotten = Link(0, self.former.sha256), self.forgotten.seq == 0
        self._see(at.sha256)
        for row in swept:
            if row.number != at.seq + 1 or row.sha256 != next_sha256(at.sha256, facts_text(row[: len(SWEPT)])):
                return f"run {row.run_id} does not follow the run that swept before it: {DAMAGED}"
            at = Link(row.number, row.sha256)
            forgotten = forgotten or at == self.forgotten
            self.swept[row.run_id] = row.last
            if at.seq <= self.forgotten.seq:
                self.newest[row.run_id] = row.last
            elif row.last:
                self.due.setdefault(row.run_id, set()).add(row.last)
            self._see(row.last, row.sha256)
        if at != self.runs:
            return f"the end of the chain of runs was cut off: {at.seq} runs are there, and it says {self.runs.seq}"
        return None if forgotten else f"the chain of runs lacks run {self.forgotten.seq}, up to which all was forgotten"

    def of_rows(self, rows: Iterable[Row[Any]]) -> str | None:
        self.newest[""] = self.anchor.sha256
        self._see(self.anchor.sha256)
        for row in rows:
            key = row.run_id if row.seq > self.former.seq else ""
            sha256 = next_sha256(self.newest.get(key, ""), facts_text(row[: len(FACTS)]))
            if row.sha256 != sha256 or row.seq <= self.anchor.seq:
                at = instant(_moment(row.at)) or repr(row.at)
                what = f"seq {row.seq}, {at}, {row.registry}, {row.repository}@{row.digest}"
                return f"{what} does not follow the row before it: {DAMAGED}"
            self.newest[key] = sha256
            self.due.get(key, set()).discard(sha256)
            self.rows += 1
            self.first_at = row.at if self.first_at is None else self.first_at
            self.last_at = row.at
            self._see(sha256)
        return None

    def of_ends(self, heads: Iterable[Row[Any]]) -> str | None:
        """Whether each chain ends with the hash that another table has of its end."""
        if self.newest.pop("") != self.former.sha256:
            return f"the end of the chain that all registries shared was cut off: its last row is seq {self.former.seq}"
        for row in heads:
            if self.newest.pop(row.id, "") != row.audit_sha256 or self.due.pop(row.id, None):
                return f"the end of what run {row.id} deleted was cut off, or the run's own hash was changed"
            if row.state == "finished" and self.swept.get(row.id) != row.audit_sha256:
                return f"run {row.id} has finished, and the chain of runs does not have its last row"
        for run_id in (run_id for run_id, left in [*self.newest.items(), *self.due.items()] if left):
            return f"run {run_id}: what it deleted is not the run's any more, or the run is not there"
        if self.noted is not None:
            return "the noted head is not in the chain: it was written anew, or that row is forgotten by now"
        return None

    def _see(self, *hashes: str) -> None:
        if self.noted in hashes:
            self.noted = None


def _moment(at: object) -> datetime | None:
    """None: the value is no time."""
    try:
        return EPOCH + timedelta(microseconds=at) if isinstance(at, int) else None
    except OverflowError:
        return None
