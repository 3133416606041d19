"""Queries of the verification after a sweep: its lease, what the sweep left, and what was found different."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, or_, select, update

from policies.image import Image
from worker.store import runs
from worker.store.runs import Run
from worker.store.tables import item, run

SETTLED = ("deleted", "gone")
MOST = 1000  # differences that are listed; more are counted in a last one
_image = msgspec.json.Decoder(Image, strict=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a verification found that should not be. `digest` None: it is about the whole repository."""

    repository: str
    digest: str | None
    difference: str


@dataclass(frozen=True, slots=True)
class Left:
    """One planned deletion, as the sweep left it."""

    image: Image
    state: str
    begun: bool  # it may have been deleted, whatever its state says


def claim(connection: Connection, run_id: str, *, owner: str, now: datetime, until: datetime) -> Run | None:
    """Take the lease of a swept run's verification; None: it is held, done, or not yet to be."""
    free = or_(run.c.lease_until.is_(None), run.c.lease_until < now)
    due = run.c.swept_at.is_not(None) & run.c.verified_at.is_(None)
    mine = update(run).where(run.c.id == run_id, run.c.state == "deleting", due, free)
    values = {"owner": owner, "lease_until": until, "fence": run.c.fence + 1}
    done = connection.execute(mine.values(**values, verifications=run.c.verifications + 1))
    return runs.get(connection, run_id) if done.rowcount == 1 else None


def renew(connection: Connection, run_id: str, fence: int, until: datetime) -> bool:
    """False: the lease was lost, or the run has ended."""
    mine = update(run).where(run.c.id == run_id, run.c.fence == fence, run.c.state == "deleting")
    return connection.execute(mine.values(lease_until=until)).rowcount == 1


def record(
    connection: Connection,
    run_id: str,
    fence: int,
    differences: Sequence[Difference],
    now: datetime,
    emptied: Sequence[str] = (),
) -> bool:
    """Write what was found, and which repositories the sweep emptied. False: somebody else holds the lease by now."""
    mine = update(run).where(run.c.id == run_id, run.c.fence == fence, run.c.state == "deleting")
    values = {**_found(differences), "verified_at": now, "lease_until": None, "owner": None}
    values["emptied_repositories"] = json.dumps(emptied)
    return connection.execute(mine.values(values)).rowcount == 1


def _found(differences: Sequence[Difference]) -> dict[str, Any]:
    """The first of them as they are listed, and how many there are."""
    more = len(differences) - MOST
    listed = differences if more <= 0 else [*differences[:MOST], Difference("", None, f"and {more:,} more")]
    return {"differences": json.dumps([asdict(one) for one in listed]), "different": len(differences)}


def give_up(connection: Connection, one: Run, why: str, now: datetime) -> Run:
    """End a run's verification without one; the run as it is then. Only for who has locked the run."""
    mine = update(run).where(run.c.id == one.id, run.c.state == "deleting")
    connection.execute(mine.values(**_found([Difference("", None, why)]), verified_at=now))
    return runs.get(connection, one.id) or one


def release(connection: Connection, run_id: str, fence: int) -> None:
    """Let the next one try at once."""
    mine = update(run).where(run.c.id == run_id, run.c.fence == fence, run.c.state == "deleting")
    connection.execute(mine.values(lease_until=None, owner=None))


def deleted_images(connection: Connection, run_id: str) -> Iterator[Image]:
    """Every image that a run deleted or found gone."""
    found = select(item.c.image).where(item.c.run_id == run_id, item.c.state.in_(SETTLED))
    return (_image.decode(text) for text in connection.execute(found).scalars())


def left_in(connection: Connection, run_id: str, path: str) -> Mapping[str, Left]:
    """By digest: the planned deletions of a repository."""
    columns = (item.c.digest, item.c.image, item.c.state, item.c.attempts, item.c.outcome_cause)
    found = select(*columns).where(item.c.run_id == run_id, item.c.repository == path)
    return {
        row.digest: Left(_image.decode(row.image), row.state, row.attempts > 0 or row.outcome_cause == "unconfirmed")
        for row in connection.execute(found)
    }
