"""Queries of deletions that a registry refused as not permitted, until the cause of the refusal is known."""

from sqlalchemy import Connection, and_, func, select, update

from worker.store.runs import Run
from worker.store.sweeping import EARLIER_WAVE, ITEM_COLUMNS, Item, item_of
from worker.store.tables import UNFINISHED, batch, item, run


def defer(connection: Connection, refused: Item, message: str, *, hint: bool) -> None:
    """Plan a refused item again: other deletions show what the refusal means. `hint`: it hints at protection. Its key
    and operation are cleared: the next intent is a new request. An item with a final state stays as it is. Raises
    StoreError.
    """
    same = (item.c.run_id == refused.run_id) & (item.c.number == refused.number)
    mine = update(item).where(same, item.c.state.in_(UNFINISHED))
    values = {"state": "planned", "idempotency_key": None, "operation_id": None, "refused": message}
    connection.execute(mine.values(**values, refused_hint=hint))


def deferred_items(connection: Connection, run_id: str) -> list[Item]:
    """The refused items of a run that have no outcome yet, in order."""
    deferred = (item.c.run_id == run_id) & item.c.refused.is_not(None) & (item.c.state == "planned")
    rows = connection.execute(select(*ITEM_COLUMNS).where(deferred).order_by(item.c.number))
    return [item_of(row) for row in rows]


def repositories_to_try(connection: Connection, run_id: str) -> frozenset[str]:
    """The repositories of a run with an unfinished item that was not refused and whose wave has started."""
    same = and_(batch.c.run_id == item.c.run_id, batch.c.number == item.c.batch)
    paths = select(item.c.repository).distinct().select_from(item.join(batch, same))
    untried = (item.c.run_id == run_id) & item.c.refused.is_(None) & item.c.state.in_(UNFINISHED)
    return frozenset(connection.execute(paths.where(untried, ~EARLIER_WAVE)).scalars())


def repositories_with_deletions(connection: Connection, run_id: str) -> frozenset[str]:
    """The repositories in which a run has deleted an image. An image that was found gone does not count. Raises
    StoreError.
    """
    deleted = (item.c.run_id == run_id) & (item.c.state == "deleted")
    return frozenset(connection.execute(select(item.c.repository).distinct().where(deleted)).scalars())


def refusals_by_repository(connection: Connection, run_id: str) -> dict[str, int]:
    """By repository, the number of refused images of a run that it has not skipped since."""
    refused = (item.c.run_id == run_id) & item.c.refused.is_not(None) & item.c.state.in_(("planned", "failed"))
    counts = select(item.c.repository, func.count()).where(refused).group_by(item.c.repository)
    return {row[0]: row[1] for row in connection.execute(counts)}


def has_failed_refusal(connection: Connection, run_id: str, path: str) -> bool:
    """Whether a refused image of a repository has failed."""
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.refused.is_not(None)
    return connection.execute(select(item.c.number).where(mine, item.c.state == "failed").limit(1)).first() is not None


def was_locked(connection: Connection, current: Run, refused: Item) -> bool:
    """Whether the registry's last finished run with a deletion in its plan skipped this image as `locked`."""
    before = select(run.c.id).where(
        run.c.registry_key == current.registry_key, run.c.state == "finished", run.c.planned > 0, run.c.mode == "delete"
    )
    last = connection.execute(before.order_by(run.c.opened_at.desc()).limit(1)).scalar()
    same = (item.c.run_id == last) & (item.c.repository == refused.repository) & (item.c.digest == refused.digest)
    return connection.execute(select(item.c.number).where(same, item.c.outcome_cause == "locked")).first() is not None
