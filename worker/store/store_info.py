"""What a store says of itself: which one it is, and which registries it has heard of, by which names and keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, union

from worker.config.settings import kind_in
from worker.store.tables import audit, registry, run, store_info


def store_id(connection: Connection) -> str:
    """The store's own id, made with its schema."""
    return str(connection.execute(select(store_info.c.value).where(store_info.c.name == "store_id")).scalar_one())


def registry_names(connection: Connection) -> set[str]:
    """Configured while a process ran, scanned, or deleted from; also those that left the configuration since."""
    names = union(select(registry.c.name), select(run.c.registry), select(audit.c.registry))
    return set(connection.execute(names).scalars())


@dataclass(frozen=True, slots=True)
class PastRegistry:
    """A registry as runs of it were opened."""

    name: str  # the configured one
    key: str  # kind, endpoint and id
    until: datetime  # when the last of those runs was opened; aware, UTC

    @property
    def kind(self) -> str:
        return kind_in(self.key)

    @property
    def id(self) -> str:
        return self.key.rpartition("|")[2]


def past_registries(connection: Connection) -> list[PastRegistry]:
    """Each name with each of its keys, the newest first."""
    last = func.max(run.c.opened_at, type_=run.c.opened_at.type)
    found = select(run.c.registry, run.c.registry_key, last).group_by(run.c.registry, run.c.registry_key)
    return [PastRegistry(*row) for row in connection.execute(found.order_by(last.desc(), run.c.registry))]
