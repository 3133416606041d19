"""Queries of holds on images and pauses of registries. Released holds stay as rows, with the person and the time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, or_, select, update

from policies.holds import Hold, Holds
from worker.store.engine import insert_for
from worker.store.tables import hold, pause, run
from worker.text import instant

ALL = "*"  # instead of a registry's name: every registry
_FACTS = ("kind", "repository", "value", "digest", "until", "reason", "who")  # columns that are fields of a Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHold:
    """A stored hold, with its number and its registry."""

    id: int
    registry: str
    hold: Hold
    at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of the deletions in a registry, or in all (`registry` is "*"): its start, person and reason."""

    registry: str
    at: datetime
    who: str
    reason: str
    resumed_at: datetime | None = None
    resumed_by: str | None = None

    @property
    def of_all(self) -> bool:
        return self.registry == ALL

    def sentence(self) -> str:
        """paused by anna since 2026-11-24T10:00:00Z: moving house"""
        what = "all registries are paused" if self.of_all else "paused"
        why = f": {self.reason}" if self.reason else ""
        return f"{what} by {self.who} since {instant(self.at)}{why}"


def add(connection: Connection, registry: str, held: Hold, now: datetime) -> int:
    """Add a hold; return its number."""
    values = {name: getattr(held, name) for name in _FACTS}
    added = connection.execute(insert(hold).values(registry=registry, at=now, **values))
    number: int = added.inserted_primary_key[0] if added.inserted_primary_key else 0
    return number


def set_digest(connection: Connection, number: int, digest: str) -> None:
    """Record the digest that a held tag or id named when the hold was placed."""
    connection.execute(update(hold).where(hold.c.id == number).values(digest=digest))


def set_digests(connection: Connection, registry: str, registry_key: str, digests: Mapping[str, str]) -> None:
    """Record the digests of held ids: if a registry changes its kind, its ids change and its digests stay. `digests`:
    by held id. A digest that a hold has already stays. Raises StoreError.
    """
    names = names_of(connection, registry, registry_key)
    for image_id, digest in digests.items():
        mine = (hold.c.kind == "image") & (hold.c.value == image_id) & hold.c.digest.is_(None)
        connection.execute(update(hold).where(mine, hold.c.registry.in_(names)).values(digest=digest))


def names_of(connection: Connection, registry: str, registry_key: str) -> tuple[str, ...]:
    """A registry's name, and the names under which its earlier runs were opened: an entry may have been renamed. Each
    name once, in no order. `registry_key`: kind, endpoint and id. Raises StoreError.
    """
    earlier = select(run.c.registry).where(run.c.registry_key == registry_key).distinct()
    return tuple({registry, *connection.execute(earlier).scalars()})


def active(connection: Connection, registry: str, registry_key: str, now: datetime) -> Holds:
    """The holds of a registry that are active now, under any of its names. A hold is active until it is released, or
    until `now` reaches its `until`. Raises StoreError.
    """
    names = names_of(connection, registry, registry_key)
    return Holds(tuple(stored.hold for stored in active_rows(connection, now, registries=names)))


def active_rows(
    connection: Connection, now: datetime, *, registries: Collection[str] | None = None
) -> list[StoredHold]:
    """The holds that are active now, the oldest first; only those of these registries, if given."""
    unexpired = or_(hold.c.until.is_(None), hold.c.until > now)
    query = select(hold).where(hold.c.released_at.is_(None), unexpired).order_by(hold.c.id)
    if registries is not None:
        query = query.where(hold.c.registry.in_(registries))
    return [
        StoredHold(
            id=row.id, registry=row.registry, hold=Hold(**{name: getattr(row, name) for name in _FACTS}), at=row.at
        )
        for row in connection.execute(query)
    ]


def release(connection: Connection, number: int, who: str, now: datetime) -> bool:
    """Release a hold. False: no hold has this number, or it was released before. A hold whose `until` is past can be
    released, too. Raises StoreError.
    """
    mine = update(hold).where(hold.c.id == number, hold.c.released_at.is_(None))
    return connection.execute(mine.values(released_at=now, released_by=who)).rowcount == 1


def pause_registry(connection: Connection, registry: str, who: str, reason: str, now: datetime) -> None:
    """Pause a registry. A pause that is active already stays as it is. `registry`: a name; "*" pauses all registries.
    Raises StoreError.
    """
    begun = {"at": now, "who": who, "reason": reason, "resumed_at": None, "resumed_by": None}
    ended = pause.c.resumed_at.is_not(None)
    added = insert_for(connection, pause).values(registry=registry, **begun)
    connection.execute(added.on_conflict_do_update(index_elements=[pause.c.registry], set_=begun, where=ended))


def resume_registry(connection: Connection, registry: str, who: str = "", now: datetime | None = None) -> Pause | None:
    """End a registry's pause, and return it; None: the registry was not paused. Only the pause under exactly this name:
    "*" ends the pause of all registries, and no registry's own. `now` None: this process's time. Raises StoreError.
    """
    mine = (pause.c.registry == registry) & pause.c.resumed_at.is_(None)
    ended = update(pause).where(mine).values(resumed_at=now or datetime.now(UTC), resumed_by=who)
    if connection.execute(ended).rowcount == 0:
        return None
    return Pause(*connection.execute(select(pause).where(pause.c.registry == registry)).one())


def pauses(connection: Connection) -> list[Pause]:
    """The active pauses, by registry."""
    active_pauses = select(pause).where(pause.c.resumed_at.is_(None)).order_by(pause.c.registry)
    return [Pause(*row) for row in connection.execute(active_pauses)]


def paused(connection: Connection, registry: str, registry_key: str) -> Pause | None:
    """The active pause of a registry, under any of its names, or of all registries; None: it is not paused."""
    names = (*names_of(connection, registry, registry_key), ALL)
    active_pauses = select(pause).where(pause.c.registry.in_(names), pause.c.resumed_at.is_(None))
    row = connection.execute(active_pauses.order_by(pause.c.registry.desc())).first()
    return None if row is None else Pause(*row)
