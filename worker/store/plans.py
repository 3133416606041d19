"""Keeps plans: deletions as rows; per repository its inventory (by content) and its decisions, compressed."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec
import zstandard
from sqlalchemy import Connection, ScalarResult, delete, exists, insert, select

from policies.image import Image
from policies.plan import Decision, PlannedDeletion, PlanSummary
from worker.store import freed_bytes
from worker.store.engine import insert_for
from worker.store.tables import batch, blob, inventory, item, repository, run, scan_history_next, undo

BATCH_SIZE = 100
ROWS_PER_TRANSACTION = 500

_encoder = msgspec.json.Encoder()
_images = msgspec.json.Decoder(Image, strict=False)
_decisions = msgspec.json.Decoder(Decision, strict=False)


def compress(lines: bytes) -> bytes:
    return zstandard.compress(lines, 3)


def decode_images(segment: bytes) -> tuple[Image, ...]:
    return tuple(_images.decode_lines(zstandard.decompress(segment)))


class Segment(msgspec.Struct, frozen=True):
    """One repository's inventory, one JSON a line, compressed, by the hash of its content."""

    path: str
    sha256: str
    images: bytes

    @classmethod
    def of(cls, path: str, images: Iterable[Image]) -> "Segment":
        packed = compress(b"".join(_encoder.encode(image) + b"\n" for image in images))
        return cls(path, sha256(packed).hexdigest(), packed)


@dataclass(frozen=True, slots=True)
class PlanRows:
    """The rows of one repository's plan, but for its inventory's content."""

    repository: dict[str, Any]
    batches: list[dict[str, Any]]
    items: list[dict[str, Any]]
    blobs: list[dict[str, Any]]


class PlanWriter:
    """Makes a plan's rows, repository by repository, numbers what they name, and hashes what would be deleted."""

    def __init__(self, run_id: str, summary: PlanSummary) -> None:
        self._run_id = run_id
        self._summary = summary
        self._batches = 0
        self._items = 0
        self._blobs: set[int] = set()
        self._hash = sha256()

    @property
    def plan_sha256(self) -> str:
        return self._hash.hexdigest()

    def rows(self, segment: Segment, decisions: bytes, deletions: Iterable[PlannedDeletion]) -> PlanRows:
        """Repositories are to come in order of their paths: the hash depends on it. `decisions`: one a line."""
        path = segment.path
        row = {"run_id": self._run_id, "path": path, "inventory": segment.sha256, "decisions": compress(decisions)}
        rows = PlanRows(row, [], [], [])
        by_wave: defaultdict[int, list[PlannedDeletion]] = defaultdict(list)
        for deletion in deletions:
            by_wave[deletion.wave].append(deletion)
        for wave in sorted(by_wave):
            for some in freed_bytes.portions(by_wave[wave], BATCH_SIZE):
                self._add_batch(rows, path, wave, some)
        return rows

    def _add_batch(self, rows: PlanRows, path: str, wave: int, deletions: Sequence[PlannedDeletion]) -> None:
        number, self._batches = self._batches, self._batches + 1
        rows.batches.append({"run_id": self._run_id, "number": number, "repository": path, "wave": wave})
        for deletion in deletions:
            freed = self._summary.freed_blobs(deletion.image)
            rows.items.append(self._item(number, path, deletion, freed))
            rows.blobs.extend(self._blob(one, digest) for one, digest in freed.items() if one not in self._blobs)
            self._blobs.update(freed)

    def _item(self, number: int, path: str, deletion: PlannedDeletion, freed: Iterable[int]) -> dict[str, Any]:
        decision = _encoder.encode(deletion.decision)
        self._hash.update(decision + b"\n")
        self._items += 1
        return {
            "run_id": self._run_id,
            "number": self._items - 1,
            "batch": number,
            "repository": path,
            "decision": decision.decode(),
            "image": _encoder.encode(deletion.image).decode(),
            "digest": deletion.image.digest,
            "owners": json.dumps(deletion.owners),
            "blobs": freed_bytes.pack_numbers(tuple(freed)),
        }

    def _blob(self, number: int, digest: str) -> dict[str, Any]:
        """The row of a blob that only deletions reference."""
        return {
            "run_id": self._run_id,
            "number": number,
            "digest": digest,
            "size": self._summary.size(number),
            "remaining": self._summary.references(number),
        }


def portions(rows: Iterable[tuple[Segment, PlanRows]]) -> Iterator[list[tuple[Segment, PlanRows]]]:
    """Repositories in portions of about ROWS_AT_ONCE deletions, or as many repositories."""
    portion: list[tuple[Segment, PlanRows]] = []
    size = 0
    for pair in rows:
        portion.append(pair)
        size += 1 + len(pair[1].items)
        if size >= ROWS_PER_TRANSACTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def clear(connection: Connection, run_id: str) -> None:
    """Take away what an earlier scan of this run has left."""
    for table in (repository, batch, item, blob, scan_history_next, undo):
        connection.execute(delete(table).where(table.c.run_id == run_id))


def write_rows(connection: Connection, segment: Segment, rows: PlanRows) -> None:
    """Put one repository's part of a plan into the caller's transaction."""
    content = insert_for(connection, inventory).values(sha256=segment.sha256, images=segment.images)
    same = {"sha256": segment.sha256}  # locks what is there already: nobody forgets it meanwhile
    connection.execute(content.on_conflict_do_update(index_elements=[inventory.c.sha256], set_=same))
    connection.execute(insert(repository).values(rows.repository))
    for table, some in ((batch, rows.batches), (item, rows.items), (blob, rows.blobs)):
        if some:
            connection.execute(insert(table), some)


def repositories(connection: Connection, run_id: str) -> list[str]:
    found = select(repository.c.path).where(repository.c.run_id == run_id).order_by(repository.c.path)
    return list(connection.execute(found).scalars())


def newest_plan(connection: Connection, registry: str) -> str | None:
    """The run with the newest plan of a registry that is still kept."""
    mine = (run.c.registry == registry) & run.c.planned_at.is_not(None) & ~run.c.forgotten
    found: str | None = connection.execute(select(run.c.id).where(mine).order_by(run.c.planned_at.desc())).scalar()
    return found


def images_of(connection: Connection, run_id: str, path: str) -> tuple[Image, ...]:
    """What a run's scan saw in a repository."""
    return decode_images(_packed(connection, run_id, path).one())


def _packed(connection: Connection, run_id: str, path: str) -> ScalarResult[bytes]:
    found = select(inventory.c.images).join(repository, repository.c.inventory == inventory.c.sha256)
    return connection.execute(found.where(repository.c.run_id == run_id, repository.c.path == path)).scalars()


def newest_images(connection: Connection, registry: str) -> Iterator[tuple[str, tuple[Image, ...]]]:
    """What the newest plan of a registry that is still kept saw, repository by repository, by their paths."""
    if (run_id := newest_plan(connection, registry)) is not None:
        for path in repositories(connection, run_id):
            yield path, images_of(connection, run_id, path)


def newest_images_of(connection: Connection, registry: str, path: str) -> tuple[Image, ...]:
    """The same of one repository; none where that plan knows no such repository, or there is no plan."""
    run_id = newest_plan(connection, registry)
    packed = None if run_id is None else _packed(connection, run_id, path).one_or_none()
    return () if packed is None else decode_images(packed)


def decisions_of(connection: Connection, run_id: str, path: str) -> tuple[Decision, ...]:
    """What a run's plan says of every image of a repository."""
    found = select(repository.c.decisions).where(repository.c.run_id == run_id, repository.c.path == path)
    return tuple(_decisions.decode_lines(zstandard.decompress(connection.execute(found).scalar_one())))


def kept_digests(connection: Connection, run_id: str, path: str) -> tuple[str, ...]:
    """Digests of the images that a run's plan keeps in a repository."""
    return tuple(one.digest for one in decisions_of(connection, run_id, path) if one.verdict == "keep")


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """A deletion of a plan and what became of it, as `show` tells it."""

    decision: Decision
    state: str
    outcome_cause: str | None
    message: str | None
    operation_id: str | None
    attempts: int
    at: datetime | None


def items_of(connection: Connection, run_id: str) -> Iterator[PlannedItem]:
    """Every deletion of a run's plan, in the plan's order of carrying out."""
    columns = (item.c[field.name] for field in fields(PlannedItem))
    planned = exists().where(run.c.id == run_id, run.c.planned_at.is_not(None))  # else it is no plan yet
    for row in connection.execute(select(*columns).where(item.c.run_id == run_id, planned).order_by(item.c.number)):
        decision = msgspec.json.decode(row.decision, type=Decision, strict=False)
        yield PlannedItem(decision, *row[1:])
