"""Forgets whole plans of earlier runs. Runs and their totals stay; the audit has its own retention."""

from sqlalchemy import ColumnElement, Connection, delete, exists, select, update

from worker.store import undo
from worker.store.freed_bytes import portions
from worker.store.plans import clear
from worker.store.tables import inventory, repository, run


def forget(connection: Connection, registry: str, *, plans: int) -> None:
    """Keep the plans of a registry's newest `plans` runs with a plan, and of as many runs with images to restore.

    Runs that delete nothing, perhaps hourly, thus never displace images that can be restored. An unfinished run keeps
    its plan, however many runs are newer.
    """
    mine = (run.c.registry == registry) & ~run.c.forgotten
    planned = _newest(connection, mine & run.c.planned_at.is_not(None), plans)
    restorable = _newest(connection, mine & undo.can_be_restored(run.c.id), plans)
    kept = {*planned, *restorable}
    finished = select(run.c.id).where(mine, run.c.state == "finished", run.c.id.not_in(kept))
    run_ids = list(connection.execute(finished).scalars())
    for run_id in run_ids:
        connection.execute(update(run).where(run.c.id == run_id).values(forgotten=True))  # locks it, before its rows
        clear(connection, run_id)
    if run_ids:
        _forget_inventories(connection)


def _forget_inventories(connection: Connection) -> None:
    """Delete the inventories that no plan refers to.

    A PostgreSQL statement sees what was committed when it started. So a first statement locks the inventories, except
    those that a plan being written has locked, and a second statement sees the plans committed until then.
    """
    unwanted = ~exists().where(repository.c.inventory == inventory.c.sha256)
    locked = select(inventory.c.sha256).where(unwanted).with_for_update(skip_locked=True)
    for portion in portions(list(connection.execute(locked).scalars())):
        connection.execute(delete(inventory).where(inventory.c.sha256.in_(portion), unwanted))


def _newest(connection: Connection, which: ColumnElement[bool], count: int) -> list[str]:
    newest = select(run.c.id).where(which).order_by(run.c.opened_at.desc(), run.c.id.desc())
    return list(connection.execute(newest.limit(count)).scalars())
