"""Queries of what was kept of images before their deletion, to be put back."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import zstandard
from sqlalchemy import ColumnElement, Connection, Row, exists, func, select

from policies.image import Image
from worker.registries.docker.manifests import is_digest
from worker.registries.interface import SavedManifest
from worker.store.engine import insert_for
from worker.store.sweeping import Item, decode_image
from worker.store.tables import item as item_table
from worker.store.tables import undo
from worker.text import parse_reference


@dataclass(frozen=True, slots=True)
class UndoRecord:
    """One image that was deleted, or was to be, as it was."""

    run_id: str
    item: int
    repository: str
    image: Image  # as its plan knew it
    kept: SavedManifest
    at: datetime  # when its deletion was intended


_SAME = (item_table.c.run_id == undo.c.run_id) & (item_table.c.number == undo.c.item)
# What surely stayed is not to be put back; of what is `unconfirmed` nobody knows.
_GONE = item_table.c.state.in_(("deleted", "gone")) | (item_table.c.outcome_cause == "unconfirmed")
_FOUND = select(undo).join(item_table, _SAME).where(_GONE)


def restorable_items(connection: Connection, run_id: str, numbers: Collection[int]) -> frozenset[int]:
    """Which of a run's items, by number, can be put back by what is here."""
    found = select(undo.c.item).where(undo.c.run_id == run_id, undo.c.item.in_(numbers))
    return frozenset(connection.execute(found).scalars())


def save(
    connection: Connection, registry: str, registry_key: str, images: Sequence[tuple[Item, SavedManifest]], at: datetime
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


def can_be_restored(run_id: ColumnElement[str]) -> ColumnElement[bool]:
    """That something is kept of what a run deleted, found gone, or left `unconfirmed`."""
    return select(undo.c.item).join(item_table, _SAME).where(undo.c.run_id == run_id, _GONE).exists()


def repositories_of(connection: Connection, run_id: str) -> dict[str, int]:
    """From which repositories a run deleted, and how much of each can be put back."""
    counted = select(undo.c.repository, func.count().label("kept")).join(item_table, _SAME)
    mine = counted.where(undo.c.run_id == run_id, _GONE).group_by(undo.c.repository)
    rows = connection.execute(mine.order_by(undo.c.repository))
    return {row.repository: row.kept for row in rows}


def find_by_run(connection: Connection, run_id: str, repository: str) -> list[UndoRecord]:
    """What a run deleted from a repository, or found gone after it had asked for its deletion, as its plan goes."""
    mine = _FOUND.where(undo.c.run_id == run_id, undo.c.repository == repository)
    return [_record(row) for row in connection.execute(mine.order_by(undo.c.item))]


def images_of_run(connection: Connection, run_id: str) -> Iterator[Image]:
    """The same of all repositories, without the manifests' bytes."""
    found = select(undo.c.image).join(item_table, _SAME).where(undo.c.run_id == run_id, _GONE)
    for text in connection.execute(found.execution_options(yield_per=500)).scalars():
        yield decode_image(text)


def count_unsaved(connection: Connection, run_id: str) -> int:
    """How many images a run deleted of which nothing was kept."""
    mine = (item_table.c.run_id == run_id) & (item_table.c.state == "deleted")
    unkept = select(func.count()).select_from(item_table).where(mine, ~exists().where(_SAME))
    return connection.execute(unkept).scalar_one()


def find_by_digest(connection: Connection, registry_key: str, digest: str, repository: str) -> list[UndoRecord]:
    """The same of one digest of a repository, in whatever run of a registry, newest first."""
    mine = (undo.c.registry_key == registry_key) & (undo.c.repository == repository) & (undo.c.digest == digest)
    return _newest_first(connection, mine)


def find_by_reference(connection: Connection, registry_key: str, words: str) -> list[UndoRecord]:
    """The same of what `path:tag`, `path@digest`, a digest or an image's id named when it was deleted."""
    mine, reference = undo.c.registry_key == registry_key, parse_reference(words)
    if is_digest(words):
        return _newest_first(connection, mine & (undo.c.digest == words))
    if reference.digest:
        return find_by_digest(connection, registry_key, reference.digest, reference.path)
    # An image is JSON text, its tags and its id strings in it; SQLite's LIKE takes upper case for lower, what follows
    # does not.
    mine &= undo.c.image.contains(f'"{reference.tag or words}"', autoescape=True)
    if not reference.tag:
        return [one for one in _newest_first(connection, mine) if one.image.id == words]
    found = _newest_first(connection, mine & (undo.c.repository == reference.path))
    return [one for one in found if reference.tag in one.image.tags]


def _newest_first(connection: Connection, which: ColumnElement[bool]) -> list[UndoRecord]:
    found = _FOUND.where(which).order_by(undo.c.at.desc(), undo.c.run_id.desc())
    return [_record(row) for row in connection.execute(found)]


def _record(row: Row[Any]) -> UndoRecord:
    kept = SavedManifest(row.digest, row.media_type, zstandard.decompress(row.body))
    return UndoRecord(row.run_id, row.item, row.repository, decode_image(row.image), kept, row.at)
