"""Queries of the verification after a sweep: its lease, the differences it finds, the states of planned deletions."""

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
MAX_LISTED = 1000  # differences; a last one counts the others


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between plan and registry. `digest` None: it is about the whole repository."""

    repository: str
    digest: str | None
    difference: str


@dataclass(frozen=True, slots=True)
class DeletionState:
    """The state of one planned deletion after the sweep."""

    image: Image
    state: str
    attempted: bool  # the image may be deleted, whatever the state is


def claim(connection: Connection, run_id: str, *, owner: str, now: datetime, until: datetime) -> Run | None:
    """Take the lease of a swept run's verification; None: it is held, done, or not due yet. Not due: the run is not
    deleting, or its sweep has not ended. Each claim that succeeds is counted. Raises StoreError.
    """
    due = run.c.state == "deleting", run.c.swept_at.is_not(None), run.c.verified_at.is_(None)
    count = run.c.verifications + 1
    fence = leases.claim(connection, run, {"id": run_id}, *due, owner=owner, now=now, until=until, verifications=count)
    return None if fence is None else runs.get(connection, run_id)


def lease_of(claimed: Run) -> Lease:
    """The lease of a run's verification as it was claimed; it is lost too when the run ends."""
    return Lease(run, {"id": claimed.id}, claimed.fence, (run.c.state == "deleting",))


def record(
    connection: Connection, lease: Lease, differences: Sequence[Difference], now: datetime, emptied: Sequence[str] = ()
) -> bool:
    """Record the differences and the repositories that the sweep emptied. False: the lease was lost. Ends the lease.
    Lists MAX_LISTED differences at most, and counts all. Raises StoreError.
    """
    values = {"verified_at": now, "emptied_repositories": json.dumps(emptied)}
    return leases.release(connection, lease, **values, **_difference_columns(differences))


def _difference_columns(differences: Sequence[Difference]) -> dict[str, Any]:
    more = len(differences) - MAX_LISTED
    listed = differences if more <= 0 else [*differences[:MAX_LISTED], Difference("", None, f"and {more:,} more")]
    return {"differences": json.dumps(list(map(asdict, listed))), "difference_count": len(differences)}


def give_up(connection: Connection, locked: Run, why: str, now: datetime) -> Run:
    """End a run's verification without a result, and return the changed run. The caller has locked the run. `why` is
    recorded as the only difference. A run that is not deleting any more stays as it is. Raises StoreError.
    """
    mine = update(run).where(run.c.id == locked.id, run.c.state == "deleting")
    connection.execute(mine.values(**_difference_columns([Difference("", None, why)]), verified_at=now))
    return runs.get(connection, locked.id) or locked


def deleted_images(connection: Connection, run_id: str) -> Iterator[Image]:
    """Every image that a run deleted or found gone. Read while the caller iterates, within the caller's transaction.
    Raises StoreError.
    """
    images = select(item.c.image).where(item.c.run_id == run_id, item.c.state.in_(DELETED_STATES))
    return map(decode_image, connection.execute(images).scalars())


def deletion_states(connection: Connection, run_id: str, path: str) -> Mapping[str, DeletionState]:
    """The planned deletions of a repository, by digest."""
    columns = (item.c.digest, item.c.image, item.c.state, item.c.attempts, item.c.outcome_cause)
    rows = connection.execute(select(*columns).where(item.c.run_id == run_id, item.c.repository == path))
    return {
        row.digest: DeletionState(
            decode_image(row.image), row.state, row.attempts > 0 or row.outcome_cause == "unconfirmed"
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class Unsuccessful:
    """The number of items with one state and cause, and the first item."""

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
    query = select(groups.c.state, groups.c.outcome_cause, groups.c.count, *columns_of_example)
    rows = connection.execute(query.select_from(groups.join(item, example)).order_by(groups.c.first))
    return [Unsuccessful(state, cause or "other", *rest) for state, cause, *rest in rows]
