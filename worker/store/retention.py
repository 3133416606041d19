"""Forgets whole plans of earlier runs. Runs and their totals stay, and so does the audit, which forgets by itself."""

from sqlalchemy import ColumnElement, Connection, delete, exists, select, update

from worker.store import undo
from worker.store.freed_bytes import portions
from worker.store.plans import clear
from worker.store.tables import inventory, repository, run


def forget(connection: Connection, registry: str, *, plans: int) -> None:
    """Keep the plans of a registry's newest `plans` runs that have one, and of as many that left something to restore.

    The latter, because a run that deletes nothing, hourly perhaps, takes nobody's way back away. A run that is not
    finished keeps its plan, however many are newer.
    """
    mine = (run.c.registry == registry) & ~run.c.forgotten
    planned = _newest(connection, mine & run.c.planned_at.is_not(None), plans)
    restorable = _newest(connection, mine & undo.can_be_restored(run.c.id), plans)
    kept = {*planned, *restorable}
    finished = select(run.c.id).where(mine, run.c.state == "finished", run.c.id.not_in(kept))
    old = list(connection.execute(finished).scalars())
    for run_id in old:
        connection.execute(update(run).where(run.c.id == run_id).values(forgotten=True))  # locks it, before its rows
        clear(connection, run_id)
    if old:
        _forget_inventories(connection)


def _forget_inventories(connection: Connection) -> None:
    """Forget the inventories that no plan refers to any more.

    PostgreSQL judges a statement by what was committed when it began. So they are locked first, but for those that a
    plan which is just being written has locked, and a second statement sees what was committed until then.
    """
    unwanted = ~exists().where(repository.c.inventory == inventory.c.sha256)
    locked = select(inventory.c.sha256).where(unwanted).with_for_update(skip_locked=True)
    found = list(connection.execute(locked).scalars())
    for some in portions(found):
        connection.execute(delete(inventory).where(inventory.c.sha256.in_(some), unwanted))


def _newest(connection: Connection, which: ColumnElement[bool], count: int) -> list[str]:
    newest = select(run.c.id).where(which).order_by(run.c.opened_at.desc(), run.c.id.desc())
    return list(connection.execute(newest.limit(count)).scalars())
