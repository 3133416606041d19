"""Queries of deletions that a registry refused as not permitted, until it is known what the refusal was about."""

from sqlalchemy import Connection, and_, func, select, update

from worker.store.runs import Run
from worker.store.sweeping import EARLIER_WAVE, ITEM_COLUMNS, Item, item_of
from worker.store.tables import UNFINISHED, batch, item, run


def defer(connection: Connection, one: Item, message: str, *, hint: bool) -> None:
    """The deletion was refused and surely not done: the item is planned again, and waits for what others meet."""
    mine = update(item).where(item.c.run_id == one.run_id, item.c.number == one.number, item.c.state.in_(UNFINISHED))
    values = {"state": "planned", "idempotency_key": None, "operation_id": None, "refused": message}
    connection.execute(mine.values(**values, refused_hint=hint))


def deferred_items(connection: Connection, run_id: str) -> list[Item]:
    """The items of a run that were set aside and have no outcome yet, in order."""
    mine = (item.c.run_id == run_id) & item.c.refused.is_not(None) & (item.c.state == "planned")
    return [item_of(row) for row in connection.execute(select(*ITEM_COLUMNS).where(mine).order_by(item.c.number))]


def repositories_to_try(connection: Connection, run_id: str) -> frozenset[str]:
    """The repositories of a run with an image that has no outcome yet, was not refused, and whose turn has come."""
    same = and_(batch.c.run_id == item.c.run_id, batch.c.number == item.c.batch)
    found = select(item.c.repository).distinct().select_from(item.join(batch, same))
    mine = (item.c.run_id == run_id) & item.c.refused.is_(None) & item.c.state.in_(UNFINISHED)
    return frozenset(connection.execute(found.where(mine, ~EARLIER_WAVE)).scalars())


def repositories_with_deletions(connection: Connection, run_id: str) -> frozenset[str]:
    """The repositories in which a run has deleted an image."""
    mine = (item.c.run_id == run_id) & (item.c.state == "deleted")
    return frozenset(connection.execute(select(item.c.repository).distinct().where(mine)).scalars())


def refusals_by_repository(connection: Connection, run_id: str) -> dict[str, int]:
    """How many images a run was refused and has not skipped since, by repository."""
    mine = (item.c.run_id == run_id) & item.c.refused.is_not(None) & item.c.state.in_(("planned", "failed"))
    found = select(item.c.repository, func.count()).where(mine).group_by(item.c.repository)
    return {row[0]: row[1] for row in connection.execute(found)}


def has_failed_refusal(connection: Connection, run_id: str, path: str) -> bool:
    """Whether a refusal in a repository has become a failure."""
    mine = (item.c.run_id == run_id) & (item.c.repository == path) & item.c.refused.is_not(None)
    return connection.execute(select(item.c.number).where(mine, item.c.state == "failed").limit(1)).first() is not None


def was_locked(connection: Connection, current: Run, one: Item) -> bool:
    """Whether the last run of the registry that planned anything skipped this image as `locked`."""
    before = select(run.c.id).where(
        run.c.registry_key == current.registry_key, run.c.state == "finished", run.c.planned > 0, run.c.mode == "delete"
    )
    last = connection.execute(before.order_by(run.c.opened_at.desc()).limit(1)).scalar()
    same = (item.c.run_id == last) & (item.c.repository == one.repository) & (item.c.digest == one.digest)
    return connection.execute(select(item.c.number).where(same, item.c.outcome_cause == "locked")).first() is not None
