"""Queries of the manifests that were saved before their images were deleted, so that the images can be restored."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import zstandard
from sqlalchemy import ColumnElement, Connection, exists, func, select

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
    """An image that was deleted, or was about to be, with its saved manifest."""

    run_id: str
    item: int
    repository: str
    image: Image  # as its plan knew it
    manifest: SavedManifest
    at: datetime  # of the intent to delete it


_SAME = (item_table.c.run_id == undo.c.run_id) & (item_table.c.number == undo.c.item)
# An image that was certainly not deleted is not restored; whether an `unconfirmed` one was deleted is unknown.
_GONE = item_table.c.state.in_(("deleted", "gone")) | (item_table.c.outcome_cause == "unconfirmed")
_NEWEST_FIRST = (undo.c.at.desc(), undo.c.run_id.desc())


def restorable_items(connection: Connection, run_id: str, numbers: Collection[int]) -> frozenset[int]:
    """Those of these items of a run, by number, that have a saved manifest."""
    saved = select(undo.c.item).where(undo.c.run_id == run_id, undo.c.item.in_(numbers))
    return frozenset(connection.execute(saved).scalars())


def save(
    connection: Connection, registry: str, registry_key: str, images: Sequence[tuple[Item, SavedManifest]], at: datetime
) -> None:
    """Save manifests and what the plan knows of their images; a manifest that is saved already stays."""
    rows = [
        {
            "run_id": item.run_id,
            "item": item.number,
            "registry": registry,
            "registry_key": registry_key,
            "repository": item.repository,
            "digest": item.digest,
            "media_type": manifest.media_type,
            "image": msgspec.json.encode(item.image).decode(),
            "body": zstandard.compress(manifest.body, 3),
            "at": at,
        }
        for item, manifest in images
    ]
    if rows:
        connection.execute(insert_for(connection, undo).on_conflict_do_nothing(), rows)


def can_be_restored(run_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a manifest is saved of an image that the run deleted, found gone, or left `unconfirmed`."""
    return select(undo.c.item).join(item_table, _SAME).where(undo.c.run_id == run_id, _GONE).exists()


def repositories_of(connection: Connection, run_id: str) -> dict[str, int]:
    """The number of images that can be restored, for each repository from which a run deleted. By path, in order; a
    repository without such images is absent. An image whose deletion is `unconfirmed` counts: it may still exist.
    Raises StoreError.
    """
    counts = select(undo.c.repository, func.count().label("images")).join(item_table, _SAME)
    mine = counts.where(undo.c.run_id == run_id, _GONE).group_by(undo.c.repository)
    rows = connection.execute(mine.order_by(undo.c.repository))
    return {row.repository: row.images for row in rows}


def images_of_run(connection: Connection, run_id: str) -> Iterator[Image]:
    """The images of a run that can be restored, of all repositories, without their manifests. Read while the caller
    iterates, within the caller's transaction. Raises StoreError.
    """
    images = select(undo.c.image).join(item_table, _SAME).where(undo.c.run_id == run_id, _GONE)
    for text in connection.execute(images.execution_options(yield_per=500)).scalars():
        yield decode_image(text)


def count_unsaved(connection: Connection, run_id: str) -> int:
    """The number of images that a run deleted without a saved manifest."""
    deleted = (item_table.c.run_id == run_id) & (item_table.c.state == "deleted")
    unsaved = select(func.count()).select_from(item_table).where(deleted, ~exists().where(_SAME))
    return connection.execute(unsaved).scalar_one()


def find_by_run(connection: Connection, run_id: str, repository: str) -> list[UndoRecord]:
    """The images that a run deleted from a repository, or found gone after its request, in the order of its plan. Also
    those whose deletion is `unconfirmed`: they may still exist. Images without a saved manifest are absent. Raises
    StoreError.
    """
    mine = (undo.c.run_id == run_id) & (undo.c.repository == repository)
    return _records(connection, mine, undo.c.item)


def find_by_digest(connection: Connection, registry_key: str, digest: str, repository: str) -> list[UndoRecord]:
    """The deletions of a digest from a repository of a registry, in any run, newest first. Also `unconfirmed`
    deletions: the image may still exist. Deletions without a saved manifest are absent. Raises StoreError.
    """
    mine = (undo.c.registry_key == registry_key) & (undo.c.repository == repository) & (undo.c.digest == digest)
    return _records(connection, mine, *_NEWEST_FIRST)


def find_by_reference(connection: Connection, registry_key: str, text: str) -> list[UndoRecord]:
    """The deletions of the image that `path:tag`, `path@digest`, a digest or an id named at its deletion, newest first.

    The column `image` is JSON text that has tags and ids as strings. SQLite's LIKE ignores case, so the records are
    compared once more.
    """
    mine, reference = undo.c.registry_key == registry_key, parse_reference(text)
    if is_digest(text):
        return _records(connection, mine & (undo.c.digest == text), *_NEWEST_FIRST)
    if reference.digest:
        return find_by_digest(connection, registry_key, reference.digest, reference.path)
    mine &= undo.c.image.contains(f'"{reference.tag or text}"', autoescape=True)
    if not reference.tag:
        return [record for record in _records(connection, mine, *_NEWEST_FIRST) if record.image.id == text]
    records = _records(connection, mine & (undo.c.repository == reference.path), *_NEWEST_FIRST)
    return [record for record in records if reference.tag in record.image.tags]


def _records(connection: Connection, where: ColumnElement[bool], *order: ColumnElement[object]) -> list[UndoRecord]:
    records = []
    for row in connection.execute(select(undo).join(item_table, _SAME).where(_GONE, where).order_by(*order)):
        manifest = SavedManifest(row.digest, row.media_type, zstandard.decompress(row.body))
        image = decode_image(row.image)
        records.append(UndoRecord(row.run_id, row.item, row.repository, image, manifest, row.at))
    return records
