"""What people asked for: holds on images, and pauses of registries. Released holds stay as rows, with who and when."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, or_, select, update

from policies.holds import Hold, Holds
from worker.store.engine import insert_for
from worker.store.tables import hold, pause, run
from worker.text import instant

ALL = "*"  # in place of a registry's name: every registry
_FACTS = ("kind", "repository", "value", "digest", "until", "reason", "who")  # of a hold, as its row has them


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHold:
    """A hold as the store knows it, with its number and whose it is."""

    id: int
    registry: str
    hold: Hold
    at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when, by whom and why nothing is deleted in a registry, or in any (`registry` is "*")."""

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
    """Its number."""
    values = {name: getattr(held, name) for name in _FACTS}
    done = connection.execute(insert(hold).values(registry=registry, at=now, **values))
    number: int = done.inserted_primary_key[0] if done.inserted_primary_key else 0
    return number


def set_digest(connection: Connection, number: int, digest: str) -> None:
    """What a held tag or id named when it was held."""
    connection.execute(update(hold).where(hold.c.id == number).values(digest=digest))


def set_digests(connection: Connection, registry: str, registry_key: str, digests: Mapping[str, str]) -> None:
    """What held ids name, by id: where a registry changes its kind, ids change and digests do not."""
    names = names_of(connection, registry, registry_key)
    for image_id, digest in digests.items():
        mine = (hold.c.kind == "image") & (hold.c.value == image_id) & hold.c.digest.is_(None)
        connection.execute(update(hold).where(mine, hold.c.registry.in_(names)).values(digest=digest))


def names_of(connection: Connection, registry: str, registry_key: str) -> tuple[str, ...]:
    """A registry's name and those under which runs of it were opened before: an entry may have been renamed."""
    former = select(run.c.registry).where(run.c.registry_key == registry_key).distinct()
    return tuple({registry, *connection.execute(former).scalars()})


def active(connection: Connection, registry: str, registry_key: str, now: datetime) -> Holds:
    """Every hold of a registry that holds at this instant, under whichever of its names it was placed."""
    names = names_of(connection, registry, registry_key)
    return Holds(tuple(row.hold for row in active_rows(connection, now, registries=names)))


def active_rows(
    connection: Connection, now: datetime, *, registries: Collection[str] | None = None
) -> list[StoredHold]:
    """What holds at this instant, oldest first; of registries of these names, or of all."""
    lasting = or_(hold.c.until.is_(None), hold.c.until > now)
    found = select(hold).where(hold.c.released_at.is_(None), lasting).order_by(hold.c.id)
    if registries is not None:
        found = found.where(hold.c.registry.in_(registries))
    return [
        StoredHold(
            id=row.id, registry=row.registry, hold=Hold(**{name: getattr(row, name) for name in _FACTS}), at=row.at
        )
        for row in connection.execute(found)
    ]


def release(connection: Connection, number: int, who: str, now: datetime) -> bool:
    """False: there is no such hold (any more)."""
    mine = update(hold).where(hold.c.id == number, hold.c.released_at.is_(None))
    return connection.execute(mine.values(released_at=now, released_by=who)).rowcount == 1


def pause_registry(connection: Connection, registry: str, who: str, reason: str, now: datetime) -> None:
    """The first pause stays, with its instant, until it is resumed."""
    begun = {"at": now, "who": who, "reason": reason, "resumed_at": None, "resumed_by": None}
    ended = pause.c.resumed_at.is_not(None)
    added = insert_for(connection, pause).values(registry=registry, **begun)
    connection.execute(added.on_conflict_do_update(index_elements=[pause.c.registry], set_=begun, where=ended))


def resume_registry(connection: Connection, registry: str, who: str = "", now: datetime | None = None) -> Pause | None:
    """The pause that ends now; None: it was not paused. Who ended the last pause stays in its row."""
    mine = (pause.c.registry == registry) & pause.c.resumed_at.is_(None)
    ended = update(pause).where(mine).values(resumed_at=now or datetime.now(UTC), resumed_by=who)
    if connection.execute(ended).rowcount == 0:
        return None
    return Pause(*connection.execute(select(pause).where(pause.c.registry == registry)).one())


def pauses(connection: Connection) -> list[Pause]:
    lasting = select(pause).where(pause.c.resumed_at.is_(None))
    return [Pause(*row) for row in connection.execute(lasting.order_by(pause.c.registry))]


def paused(connection: Connection, registry: str, registry_key: str) -> Pause | None:
    """Why nothing may be deleted in a registry now, under whichever of its names; None: it may."""
    names = (*names_of(connection, registry, registry_key), ALL)
    found = select(pause).where(pause.c.registry.in_(names), pause.c.resumed_at.is_(None))
    row = connection.execute(found.order_by(pause.c.registry.desc())).first()
    return None if row is None else Pause(*row)
