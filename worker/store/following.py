"""Which finished runs are still to be followed by what `after_run` names, and how often that was tried."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, or_, select, update

from worker.store.tables import run


@dataclass(frozen=True, slots=True)
class Followed:
    """A finished run that deleted something, and is not yet followed."""

    run_id: str
    registry: str
    tries: int  # begun so far


def drop(connection: Connection, registries: Collection[str], oldest: datetime) -> None:
    """Be done with runs that deleted nothing, ended before `oldest`, or are of other registries than these."""
    unwanted = or_(run.c.deleted == 0, run.c.finished_at < oldest, run.c.registry.not_in(registries))
    ended = (run.c.state == "finished") & run.c.after_run_over.is_(False)
    connection.execute(update(run).where(ended, unwanted).values(after_run_over=True))


def due(connection: Connection, now: datetime) -> list[str]:
    """The runs to be followed now, those that ended first before the others."""
    again = or_(run.c.after_run_again.is_(None), run.c.after_run_again <= now)
    ended = (run.c.state == "finished") & run.c.after_run_over.is_(False) & (run.c.deleted > 0)
    return list(connection.execute(select(run.c.id).where(ended, again).order_by(run.c.finished_at)).scalars())


def claim(connection: Connection, run_id: str, *, now: datetime, again: datetime) -> Followed | None:
    """Count one more try, the next one not before `again`. None: it is over, or not to be tried yet."""
    free = or_(run.c.after_run_again.is_(None), run.c.after_run_again <= now)
    ended = (run.c.state == "finished") & run.c.after_run_over.is_(False) & (run.c.deleted > 0)
    mine = update(run).where(run.c.id == run_id, ended, free)
    tried = mine.values(after_run_tries=run.c.after_run_tries + 1, after_run_again=again)
    if connection.execute(tried).rowcount != 1:
        return None
    row = connection.execute(select(run.c.registry, run.c.after_run_tries).where(run.c.id == run_id)).one()
    return Followed(run_id, row.registry, row.after_run_tries)


def end(connection: Connection, run_id: str) -> None:
    """It was followed, or given up."""
    connection.execute(update(run).where(run.c.id == run_id).values(after_run_over=True))
