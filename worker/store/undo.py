"""Queries of what was kept of images before their deletion, to be put back."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import zstandard
from sqlalchemy import ColumnElement, Connection, Row, Select, exists, func, select

from policies.image import Image
from worker.registries.interface import Kept
from worker.store.engine import insert_for
from worker.store.sweeping import Item, decode_image
from worker.store.tables import item as item_table
from worker.store.tables import undo


@dataclass(frozen=True, slots=True)
class Undo:
    """One image that was deleted, or was to be, as it was."""

    run_id: str
    item: int
    repository: str
    image: Image  # as its plan knew it
    kept: Kept
    at: datetime  # when its deletion was intended


_SAME = (item_table.c.run_id == undo.c.run_id) & (item_table.c.number == undo.c.item)
# What surely stayed is not to be put back; of what is `unconfirmed` nobody knows.
_GONE = item_table.c.state.in_(("deleted", "gone")) | (item_table.c.outcome_cause == "unconfirmed")


def kept_of(connection: Connection, run_id: str, numbers: Collection[int]) -> frozenset[int]:
    """Which of a run's items, by number, can be put back by what is here."""
    found = select(undo.c.item).where(undo.c.run_id == run_id, undo.c.item.in_(numbers))
    return frozenset(connection.execute(found).scalars())


def keep(
    connection: Connection, registry: str, registry_key: str, images: Sequence[tuple[Item, Kept]], at: datetime
) -> None:
    """Keep images' manifests and what their plan knows of them; done twice, the first stays."""
    rows = [
        {
            "run_id": item.run_id,
            "item": item.number,
            "registry": registry,
            "registry_key": registry_key,
            "repository": item.repository,
            "digest": item.digest,
            "media_type": kept.media_type,
            "image": msgspec.json.encode(item.image).decode(),
            "body": zstandard.compress(kept.body, 3),
            "at": at,
        }
        for item, kept in images
    ]
    if rows:
        connection.execute(insert_for(connection, undo).on_conflict_do_nothing(), rows)


def can_be_put_back(run_id: ColumnElement[str]) -> ColumnElement[bool]:
    """That something is kept of what a run deleted, found gone, or left `unconfirmed`."""
    return select(undo.c.item).join(item_table, _SAME).where(undo.c.run_id == run_id, _GONE).exists()


def repositories_of(connection: Connection, run_id: str) -> dict[str, int]:
    """From which repositories a run deleted, and how much of each can be put back."""
    counted = select(undo.c.repository, func.count().label("kept")).join(item_table, _SAME)
    mine = counted.where(undo.c.run_id == run_id, _GONE).group_by(undo.c.repository)
    rows = connection.execute(mine.order_by(undo.c.repository))
    return {row.repository: row.kept for row in rows}


def of_run(connection: Connection, run_id: str, repository: str) -> list[Undo]:
    """What a run deleted from a repository, or found gone after it had asked for its deletion, as its plan goes."""
    mine = (undo.c.run_id == run_id) & (undo.c.repository == repository)
    return [_record(row) for row in connection.execute(_found(mine).order_by(undo.c.item))]


def images_of_run(connection: Connection, run_id: str) -> Iterator[Image]:
    """The same of all repositories, without the manifests' bytes."""
    found = select(undo.c.image).join(item_table, _SAME).where(undo.c.run_id == run_id, _GONE)
    for text in connection.execute(found.execution_options(yield_per=500)).scalars():
        yield decode_image(text)


def count_unkept(connection: Connection, run_id: str) -> int:
    """How many images a run deleted of which nothing was kept."""
    mine = (item_table.c.run_id == run_id) & (item_table.c.state == "deleted")
    count: int = connection.execute(
        select(func.count()).select_from(item_table).where(mine, ~exists().where(_SAME))
    ).scalar_one()
    return count


def of_digest(connection: Connection, registry_key: str, digest: str, repository: str | None = None) -> list[Undo]:
    """The same of one digest, in whatever run of a registry, newest first; None: in whatever repository."""
    mine = (undo.c.registry_key == registry_key) & (undo.c.digest == digest)
    return _newest_first(connection, mine if repository is None else mine & (undo.c.repository == repository))


def of_tag(connection: Connection, registry_key: str, repository: str, tag: str) -> list[Undo]:
    """The same of what had a tag when it was deleted."""
    # The tags are JSON text, the tag one of its strings; SQLite's LIKE takes upper case for lower, the last line not.
    named = undo.c.image.contains(f'"{tag}"', autoescape=True)
    mine = (undo.c.registry_key == registry_key) & (undo.c.repository == repository) & named
    return [one for one in _newest_first(connection, mine) if tag in one.image.tags]


def of_image_id(connection: Connection, registry_key: str, image_id: str) -> list[Undo]:
    """The same by the registry's own id of an image."""
    mine = (undo.c.registry_key == registry_key) & undo.c.image.contains(f'"{image_id}"', autoescape=True)
    return [one for one in _newest_first(connection, mine) if one.image.id == image_id]


def _newest_first(connection: Connection, which: ColumnElement[bool]) -> list[Undo]:
    return [_record(row) for row in connection.execute(_found(which).order_by(undo.c.at.desc(), undo.c.run_id.desc()))]


def _found(which: ColumnElement[bool]) -> Select[Any]:
    return select(undo).join(item_table, _SAME).where(which, _GONE)


def _record(row: Row[Any]) -> Undo:
    kept = Kept(row.digest, row.media_type, zstandard.decompress(row.body))
    return Undo(row.run_id, row.item, row.repository, decode_image(row.image), kept, row.at)
