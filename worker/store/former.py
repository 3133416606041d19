"""What the store knows registries as: under which names and keys runs of them were opened."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from worker.config.settings import kind_in
from worker.store.tables import run


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
