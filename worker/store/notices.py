"""What follows a run: notifications of its outcome, the commands of `after_run`, and the progress of both."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select, update

from worker.store.tables import run

# People are notified of a run's outcome, or that the run is blocked, and of no other state.
_event = case((run.c.state == "finished", run.c.outcome), (run.c.state == "blocked", "blocked"))
_SINCE = func.coalesce(run.c.finished_at, run.c.planned_at, run.c.opened_at, type_=run.c.opened_at.type)
_COLUMNS = (run.c.id, run.c.registry, _event.label("event"), _SINCE.label("since"), run.c.notified, run.c.notifying)
_AFTER_RUN_OPEN = (run.c.state == "finished") & run.c.after_run_done.is_(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """The notification of a run's outcome or blocking, and the tries so far."""

    run_id: str
    registry: str
    event: str  # an outcome, or `blocked`
    since: datetime
    tries: int = 0  # started so far
    after: datetime | None = None  # the next try is not before
    notified: frozenset[int] = frozenset()  # receivers that have the message, by number in the file


class _Notifying(msgspec.Struct, frozen=True, rename={"event": "word", "notified": "told"}):  # keys of earlier stores
    """The JSON of the column `notifying`."""

    event: str
    tries: int
    after: datetime
    notified: tuple[int, ...]


def unsent(connection: Connection) -> list[Notice]:
    """The notices that are not sent to everybody yet, the least tried first. Also those whose next try is not due yet
    (`after`). Locks nothing: call `get` before a notice is sent. Raises StoreError.
    """
    unnotified = or_(run.c.notified.is_(None), run.c.notified != _event)
    query: Select[Any] = select(*_COLUMNS).where(run.c.state.in_(("finished", "blocked")), unnotified)
    notices = [_notice(row) for row in connection.execute(query)]
    return sorted(notices, key=lambda notice: (notice.tries, notice.since, notice.run_id))


def get(connection: Connection, run_id: str) -> Notice | None:
    """The unsent notice of a run, whose row it locks; None: there is none. None also for a run that is unknown, or
    neither finished nor blocked. Raises StoreError.
    """
    query: Select[Any] = select(*_COLUMNS).where(run.c.id == run_id).with_for_update()
    row = connection.execute(query).first()
    return None if row is None or row.event in (None, row.notified) else _notice(row)


def _notice(row: Row[Any]) -> Notice:
    notice = Notice(run_id=row.id, registry=row.registry, event=row.event, since=row.since)
    with suppress(msgspec.DecodeError):  # an unreadable column starts the tries again and never blocks other runs
        notifying = None if row.notifying is None else msgspec.json.decode(row.notifying, type=_Notifying)
        if notifying is not None and notifying.event == row.event:  # else the run was blocked then, and has ended since
            notified = frozenset(notifying.notified)
            return replace(notice, tries=notifying.tries, after=notifying.after, notified=notified)
    return notice


def record_attempt(
    connection: Connection, notice: Notice, *, tries: int, after: datetime, notified: Collection[int]
) -> None:
    """Record the progress of a notice. Only within the transaction that got the notice. `after`: the next try is not
    before; aware. `notified`: all receivers so far, as it replaces the former set. Raises StoreError.
    """
    notifying = msgspec.json.encode(_Notifying(notice.event, tries, after, tuple(sorted(notified)))).decode()
    connection.execute(update(run).where(run.c.id == notice.run_id).values(notifying=notifying))


def mark_notified(connection: Connection, notice: Notice) -> None:
    """Mark a notice as sent, unless the run has another outcome by now."""
    same = update(run).where(run.c.id == notice.run_id, _event == notice.event)
    connection.execute(same.values(notified=notice.event, notifying=None))


def skip_after_runs(connection: Connection, registries: Collection[str], oldest: datetime) -> None:
    """Skip `after_run` of runs that deleted nothing, ended before `oldest`, or are of other registries than these. For
    good: a skipped run is never due again. `oldest`: aware. Raises StoreError.
    """
    unwanted = or_(run.c.deleted == 0, run.c.finished_at < oldest, run.c.registry.not_in(registries))
    connection.execute(update(run).where(_AFTER_RUN_OPEN, unwanted).values(after_run_done=True))


def _after_run_is_due(now: datetime) -> ColumnElement[bool]:
    retry_at = run.c.after_run_retry_at
    return and_(_AFTER_RUN_OPEN, run.c.deleted > 0, or_(retry_at.is_(None), retry_at <= now))


def due_after_runs(connection: Connection, now: datetime) -> list[str]:
    """The ids of runs whose `after_run` is due now, the earliest end first. Only runs that deleted an image. Locks
    nothing: `claim_after_run` lets one worker try. Raises StoreError.
    """
    due = select(run.c.id).where(_after_run_is_due(now)).order_by(run.c.finished_at)
    return list(connection.execute(due).scalars())


def claim_after_run(connection: Connection, run_id: str, *, now: datetime, again: datetime) -> int | None:
    """Count a try, the next not before `again`; return the number of tries. None: `after_run` is done or not due. Of
    several workers that call it at once, one gets the number. `now`, `again`: aware. Raises StoreError.
    """
    due = update(run).where(run.c.id == run_id, _after_run_is_due(now))
    tried = due.values(after_run_tries=run.c.after_run_tries + 1, after_run_retry_at=again)
    if connection.execute(tried).rowcount != 1:
        return None
    return int(connection.execute(select(run.c.after_run_tries).where(run.c.id == run_id)).scalar_one())


def finish_after_run(connection: Connection, run_id: str) -> None:
    """Record that `after_run` of a run succeeded or was given up."""
    connection.execute(update(run).where(run.c.id == run_id).values(after_run_done=True))
