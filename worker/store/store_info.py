"""Queries about a store as a whole: its id, and the registries that it has rows of."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, union

from worker.config.settings import kind_in
from worker.store.tables import audit, registry, run, store_info


def store_id(connection: Connection) -> str:
    """The store's own id, created with its schema."""
    return str(connection.execute(select(store_info.c.value).where(store_info.c.name == "store_id")).scalar_one())


def registry_names(connection: Connection) -> set[str]:
    """Names of registries that were configured, scanned or deleted from, also if the configuration lacks them now."""
    names = union(select(registry.c.name), select(run.c.registry), select(audit.c.registry))
    return set(connection.execute(names).scalars())


@dataclass(frozen=True, slots=True)
class PastRegistry:
    """The name of a registry, with a kind and an id that it had in runs."""

    name: str  # in the configuration
    kind: str
    id: str
    last_run_at: datetime  # when the last of these runs was opened; aware, UTC


def past_registries(connection: Connection) -> list[PastRegistry]:
    """Every registry name and key that a run had, the newest first."""
    last = func.max(run.c.opened_at, type_=run.c.opened_at.type)
    pairs = select(run.c.registry, run.c.registry_key, last).group_by(run.c.registry, run.c.registry_key)
    rows = connection.execute(pairs.order_by(last.desc(), run.c.registry))
    return [PastRegistry(name, kind_in(key), key.rpartition("|")[2], last_run_at) for name, key, last_run_at in rows]
