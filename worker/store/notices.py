"""What is still to come of a run: people to be told of it, what `after_run` names, and how far each has come."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select, update

from worker.store.tables import run

# What there is to tell: a run's outcome, or that it is blocked. No other state is worth a message.
_word = case((run.c.state == "finished", run.c.outcome), (run.c.state == "blocked", "blocked"))
_SINCE = func.coalesce(run.c.finished_at, run.c.planned_at, run.c.opened_at, type_=run.c.opened_at.type)
_COLUMNS = (run.c.id, run.c.registry, _word.label("word"), _SINCE.label("since"), run.c.notified, run.c.notifying)
_ENDED = (run.c.state == "finished") & run.c.after_run_done.is_(False)  # and not followed yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What people are to be told of a run, and how often that was tried."""

    run_id: str
    registry: str
    word: str  # an outcome, or `blocked`
    since: datetime
    tries: int = 0  # begun so far
    after: datetime | None = None  # not again before
    notified: frozenset[int] = frozenset()  # receivers that have the message, by number in the file


class _Notifying(msgspec.Struct, frozen=True, rename={"notified": "told"}):  # as earlier stores have it
    """The column `notifying`."""

    word: str
    tries: int
    after: datetime
    notified: tuple[int, ...]


def unsent(connection: Connection) -> list[Notice]:
    """Of which runs people are still to be told, those first that were tried least."""
    untold = or_(run.c.notified.is_(None), run.c.notified != _word)
    found: Select[Any] = select(*_COLUMNS).where(run.c.state.in_(("finished", "blocked")), untold)
    notices = [_notice(row) for row in connection.execute(found)]
    return sorted(notices, key=lambda one: (one.tries, one.since, one.run_id))


def get(connection: Connection, run_id: str) -> Notice | None:
    """What is still to be told of this run, its row locked; None: nothing."""
    found: Select[Any] = select(*_COLUMNS).where(run.c.id == run_id).with_for_update()
    row = connection.execute(found).first()
    return None if row is None or row.word in (None, row.notified) else _notice(row)


def _notice(row: Row[Any]) -> Notice:
    notice = Notice(run_id=row.id, registry=row.registry, word=row.word, since=row.since)
    with suppress(msgspec.DecodeError):  # nobody can read it: then it begins anew, and stands in no other run's way
        notifying = None if row.notifying is None else msgspec.json.decode(row.notifying, type=_Notifying)
        if notifying is not None and notifying.word == row.word:  # else it was blocked then, and has ended since
            return replace(notice, tries=notifying.tries, after=notifying.after, notified=frozenset(notifying.notified))
    return notice


def record_attempt(
    connection: Connection, notice: Notice, *, tries: int, after: datetime, notified: Collection[int]
) -> None:
    """How far notifying has come. Only within the transaction that got the notice."""
    notifying = msgspec.json.encode(_Notifying(notice.word, tries, after, tuple(sorted(notified)))).decode()
    connection.execute(update(run).where(run.c.id == notice.run_id).values(notifying=notifying))


def mark_notified(connection: Connection, notice: Notice) -> None:
    """Nobody is to be told of this any more, unless the run's outcome has become another meanwhile."""
    same = update(run).where(run.c.id == notice.run_id, _word == notice.word)
    connection.execute(same.values(notified=notice.word, notifying=None))


def skip_after_runs(connection: Connection, registries: Collection[str], oldest: datetime) -> None:
    """Be done with runs that deleted nothing, ended before `oldest`, or are of other registries than these."""
    unwanted = or_(run.c.deleted == 0, run.c.finished_at < oldest, run.c.registry.not_in(registries))
    connection.execute(update(run).where(_ENDED, unwanted).values(after_run_done=True))


def _is_due(now: datetime) -> ColumnElement[bool]:
    return and_(_ENDED, run.c.deleted > 0, or_(run.c.after_run_retry_at.is_(None), run.c.after_run_retry_at <= now))


def due_after_runs(connection: Connection, now: datetime) -> list[str]:
    """The runs to be followed now, those that ended first before the others."""
    return list(connection.execute(select(run.c.id).where(_is_due(now)).order_by(run.c.finished_at)).scalars())


def claim_after_run(connection: Connection, run_id: str, *, now: datetime, again: datetime) -> int | None:
    """Count one more try, the next one not before `again`; how many were begun. None: it is over, or not yet due."""
    mine = update(run).where(run.c.id == run_id, _is_due(now))
    tried = mine.values(after_run_tries=run.c.after_run_tries + 1, after_run_retry_at=again)
    if connection.execute(tried).rowcount != 1:
        return None
    return int(connection.execute(select(run.c.after_run_tries).where(run.c.id == run_id)).scalar_one())


def finish_after_run(connection: Connection, run_id: str) -> None:
    """It was followed, or given up."""
    connection.execute(update(run).where(run.c.id == run_id).values(after_run_done=True))
