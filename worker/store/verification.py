"""Queries of how a sweep ended: what it left and why, the verification's lease, and what that found different."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from policies.image import Image
from worker.store import leases, runs
from worker.store.leases import Lease
from worker.store.runs import Run
from worker.store.sweeping import decode_image
from worker.store.tables import item, run

DELETED_STATES = ("deleted", "gone")
MAX_LISTED = 1000  # differences that are listed; more are counted in a last one


@dataclass(frozen=True, slots=True)
class Difference:
    """What a verification found that should not be. `digest` None: it is about the whole repository."""

    repository: str
    digest: str | None
    difference: str


@dataclass(frozen=True, slots=True)
class DeletionState:
    """One planned deletion, as the sweep left it."""

    image: Image
    state: str
    attempted: bool  # it may have been deleted, whatever its state says


def claim(connection: Connection, run_id: str, *, owner: str, now: datetime, until: datetime) -> Run | None:
    """Take the lease of a swept run's verification; None: it is held, done, or not yet to be."""
    due = run.c.state == "deleting", run.c.swept_at.is_not(None), run.c.verified_at.is_(None)
    begun = run.c.verifications + 1
    fence = leases.claim(connection, run, {"id": run_id}, *due, owner=owner, now=now, until=until, verifications=begun)
    return None if fence is None else runs.get(connection, run_id)


def lease_of(one: Run) -> Lease:
    """Of a run's verification as it was claimed: lost also when the run has ended."""
    return Lease(run, {"id": one.id}, one.fence, (run.c.state == "deleting",))


def record(
    connection: Connection, lease: Lease, differences: Sequence[Difference], now: datetime, emptied: Sequence[str] = ()
) -> bool:
    """Write what was found, and which repositories the sweep emptied. False: somebody else holds the lease by now."""
    emptied_json = json.dumps(emptied)
    return leases.release(connection, lease, **_found(differences), verified_at=now, emptied_repositories=emptied_json)


def _found(differences: Sequence[Difference]) -> dict[str, Any]:
    """The first of them as they are listed, and how many there are."""
    more = len(differences) - MAX_LISTED
    listed = differences if more <= 0 else [*differences[:MAX_LISTED], Difference("", None, f"and {more:,} more")]
    return {"differences": json.dumps([asdict(one) for one in listed]), "difference_count": len(differences)}


def give_up(connection: Connection, one: Run, why: str, now: datetime) -> Run:
    """End a run's verification without one; the run as it is then. Only for who has locked the run."""
    mine = update(run).where(run.c.id == one.id, run.c.state == "deleting")
    connection.execute(mine.values(**_found([Difference("", None, why)]), verified_at=now))
    return runs.get(connection, one.id) or one


def deleted_images(connection: Connection, run_id: str) -> Iterator[Image]:
    """Every image that a run deleted or found gone."""
    found = select(item.c.image).where(item.c.run_id == run_id, item.c.state.in_(DELETED_STATES))
    return (decode_image(text) for text in connection.execute(found).scalars())


def deletion_states(connection: Connection, run_id: str, path: str) -> Mapping[str, DeletionState]:
    """By digest: the planned deletions of a repository."""
    columns = (item.c.digest, item.c.image, item.c.state, item.c.attempts, item.c.outcome_cause)
    found = select(*columns).where(item.c.run_id == run_id, item.c.repository == path)
    return {
        row.digest: DeletionState(
            decode_image(row.image), row.state, row.attempts > 0 or row.outcome_cause == "unconfirmed"
        )
        for row in connection.execute(found)
    }


@dataclass(frozen=True, slots=True)
class Unsuccessful:
    """Items of one state and cause, and the first of them."""

    state: str  # skipped or failed
    cause: str
    count: int
    repository: str
    digest: str
    message: str | None


def unsuccessful(connection: Connection, run_id: str) -> list[Unsuccessful]:
    """A run's skipped and failed items, one row for each state and cause, in order of their first item."""
    columns = (item.c.state, item.c.outcome_cause, func.count().label("count"), func.min(item.c.number).label("first"))
    mine = (item.c.run_id == run_id) & item.c.state.in_(("skipped", "failed"))
    groups = select(*columns).where(mine).group_by(item.c.state, item.c.outcome_cause).subquery()
    example = (item.c.run_id == run_id) & (item.c.number == groups.c.first)
    columns_of_example = (item.c.repository, item.c.digest, item.c.message)
    found = select(groups.c.state, groups.c.outcome_cause, groups.c.count, *columns_of_example)
    rows = connection.execute(found.select_from(groups.join(item, example)).order_by(groups.c.first))
    return [Unsuccessful(state, cause or "other", *rest) for state, cause, *rest in rows]
