"""How many of a run's deletions were skipped or failed, by cause, each with an example."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from worker.store.tables import item


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
