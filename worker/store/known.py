"""Which registries the store has ever heard of, by the names that they had."""

from sqlalchemy import Connection, select, union

from worker.store.tables import audit, registry, run


def registries(connection: Connection) -> set[str]:
    """Configured while a process ran, scanned, or deleted from; also those that left the configuration since."""
    names = union(select(registry.c.name), select(run.c.registry), select(audit.c.registry))
    return set(connection.execute(names).scalars())
