"""Forgets what is older than the file says: whole plans of earlier runs, and the audit. Runs and their totals stay."""

from datetime import datetime

from sqlalchemy import Connection, delete, exists, select, update

from worker.store.tables import audit, batch, blob, inventory, item, repository, run

_OF_A_PLAN = (repository, batch, item, blob)


def forget(connection: Connection, registry: str, *, plans: int, audit_before: datetime) -> None:
    """Keep the plans of a registry's newest `plans` runs that have one, and its audit since `audit_before`.

    A run that is not finished keeps its plan, however many are newer.
    """
    kept = select(run.c.id).where(run.c.registry == registry, run.c.planned_at.is_not(None), ~run.c.forgotten)
    ids = list(connection.execute(kept.order_by(run.c.opened_at.desc(), run.c.id.desc()).offset(plans)).scalars())
    finished = select(run.c.id).where(run.c.id.in_(ids), run.c.state == "finished")
    old = list(connection.execute(finished).scalars())
    for run_id in old:
        for table in _OF_A_PLAN:
            connection.execute(delete(table).where(table.c.run_id == run_id))
        connection.execute(update(run).where(run.c.id == run_id).values(forgotten=True))
    if old:
        wanted = exists().where(repository.c.inventory == inventory.c.sha256)
        connection.execute(delete(inventory).where(~wanted))
    connection.execute(delete(audit).where(audit.c.registry == registry, audit.c.at < audit_before))
