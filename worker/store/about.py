"""What a store says of itself: which one it is, and which registries it has heard of, by which names and keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, union

from worker.config.settings import kind_in
from worker.store.tables import about, audit, registry, run


def store_id(connection: Connection) -> str:
    """The store's own id, made with its schema."""
    return str(connection.execute(select(about.c.value).where(about.c.name == "store_id")).scalar_one())


def registries(connection: Connection) -> set[str]:
    """Configured while a process ran, scanned, or deleted from; also those that left the configuration since."""
    names = union(select(registry.c.name), select(run.c.registry), select(audit.c.registry))
    return set(connection.execute(names).scalars())


@dataclass(frozen=True, slots=True)
class Former:
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


def former(connection: Connection) -> list[Former]:
    """Each name with each of its keys, the newest first."""
    last = func.max(run.c.opened_at, type_=run.c.opened_at.type)
    found = select(run.c.registry, run.c.registry_key, last).group_by(run.c.registry, run.c.registry_key)
    return [Former(*row) for row in connection.execute(found.order_by(last.desc(), run.c.registry))]
