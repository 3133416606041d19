"""Queries of what was kept of images before their deletion, to be put back."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
import zstandard
from sqlalchemy import ColumnElement, Connection, exists, select

from policies.image import Image
from worker.registries.interface import Kept
from worker.store.dialect import insert_for
from worker.store.sweeping import Item
from worker.store.tables import item as item_table
from worker.store.tables import undo


@dataclass(frozen=True, slots=True)
class Undo:
    """One image that was deleted, or was to be, as it was."""

    run_id: str
    item: int
    registry: str  # the configured name
    repository: str
    image: Image
    kept: Kept
    at: datetime


def is_kept(connection: Connection, item: Item) -> bool:
    mine = (undo.c.run_id == item.run_id) & (undo.c.item == item.number)
    return bool(connection.execute(select(exists().where(mine))).scalar())


def keep(connection: Connection, registry: str, registry_key: str, item: Item, kept: Kept, at: datetime) -> None:
    """Keep an image's manifest and what its plan knows of it; done twice, the first stays."""
    row = {
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
    connection.execute(insert_for(connection, undo).on_conflict_do_nothing(), [row])


def of_run(connection: Connection, run_id: str) -> Iterator[Undo]:
    """What a run deleted, or found gone after it had asked for its deletion, in the order of its plan."""
    return _found(connection, undo.c.run_id == run_id)


def of_digest(connection: Connection, registry: str, digest: str) -> Iterator[Undo]:
    """The same of one digest, in whatever repository and run of a registry."""
    return _found(connection, (undo.c.registry == registry) & (undo.c.digest == digest))


def _found(connection: Connection, which: ColumnElement[bool]) -> Iterator[Undo]:
    same = (item_table.c.run_id == undo.c.run_id) & (item_table.c.number == undo.c.item)
    gone = item_table.c.state.in_(("deleted", "gone")) | (item_table.c.outcome_cause == "unconfirmed")
    rows = select(undo).join(item_table, same).where(which, gone).order_by(undo.c.run_id, undo.c.item)
    for row in connection.execute(rows):
        image = msgspec.json.decode(row.image, type=Image, strict=False)
        kept = Kept(row.digest, row.media_type, zstandard.decompress(row.body))
        yield Undo(row.run_id, row.item, row.registry, row.repository, image, kept, row.at)
