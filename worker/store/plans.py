"""Stores plans: deletions as rows; the inventory (by content) and the decisions of each repository compressed."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec
import zstandard
from sqlalchemy import Connection, Select, delete, exists, insert, select

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


def decode_images(packed: bytes) -> tuple[Image, ...]:
    return tuple(_images.decode_lines(zstandard.decompress(packed)))


class Segment(msgspec.Struct, frozen=True):
    """The inventory of one repository, one JSON a line, compressed, with the hash of its content."""

    path: str
    sha256: str
    images: bytes

    @classmethod
    def of(cls, path: str, images: Iterable[Image]) -> "Segment":
        packed = zstandard.compress(b"".join(_encoder.encode(image) + b"\n" for image in images), 3)
        return cls(path, sha256(packed).hexdigest(), packed)


@dataclass(frozen=True, slots=True)
class PlanRows:
    """The rows of one repository's plan, without its inventory."""

    repository: dict[str, Any]
    batches: list[dict[str, Any]]
    items: list[dict[str, Any]]
    blobs: list[dict[str, Any]]


class PlanWriter:
    """Makes a plan's rows, repository by repository; numbers batches and items, and hashes the planned deletions."""

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
        """The rows of the next repository, in the order of paths: the hash depends on it. `decisions`: one a line."""
        row = {"run_id": self._run_id, "path": segment.path, "inventory": segment.sha256}
        rows = PlanRows(row | {"decisions": zstandard.compress(decisions, 3)}, [], [], [])
        by_wave: defaultdict[int, list[PlannedDeletion]] = defaultdict(list)
        for deletion in deletions:
            by_wave[deletion.wave].append(deletion)
        for wave in sorted(by_wave):
            for portion in freed_bytes.portions(by_wave[wave], BATCH_SIZE):
                batch_row = {"number": self._batches, "repository": segment.path, "wave": wave}
                rows.batches.append({"run_id": self._run_id, **batch_row})
                for deletion in portion:
                    self._add_item(rows, segment.path, deletion)
                self._batches += 1
        return rows

    def _add_item(self, rows: PlanRows, path: str, deletion: PlannedDeletion) -> None:
        """Add the row of a deletion, and those of its blobs that only the plan's deletions reference."""
        decision = _encoder.encode(deletion.decision)
        self._hash.update(decision + b"\n")
        freed = self._summary.freed_blobs(deletion.image)
        rows.items.append(
            {
                "run_id": self._run_id,
                "number": self._items,
                "batch": self._batches,
                "repository": path,
                "decision": decision.decode(),
                "image": _encoder.encode(deletion.image).decode(),
                "digest": deletion.image.digest,
                "owners": json.dumps(deletion.owners),
                "blobs": freed_bytes.pack_numbers(tuple(freed)),
            }
        )
        self._items += 1
        for number, digest in freed.items():
            if number not in self._blobs:
                size, references = self._summary.size(number), self._summary.references(number)
                blob_row = {"number": number, "digest": digest, "size": size, "remaining": references}
                rows.blobs.append({"run_id": self._run_id, **blob_row})
        self._blobs.update(freed)


def portions(rows: Iterable[tuple[Segment, PlanRows]]) -> Iterator[list[tuple[Segment, PlanRows]]]:
    """Repositories in portions of about ROWS_PER_TRANSACTION deletions, or as many repositories."""
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
    """Delete the plan's rows that an earlier scan of this run has written. Repositories, batches, items, blobs, saved
    manifests and the staged scan history; stored inventories stay. Raises StoreError.
    """
    for table in (repository, batch, item, blob, scan_history_next, undo):
        connection.execute(delete(table).where(table.c.run_id == run_id))


def write_rows(connection: Connection, segment: Segment, rows: PlanRows) -> None:
    """Write one repository's part of a plan, in the caller's transaction."""
    content = insert_for(connection, inventory).values(sha256=segment.sha256, images=segment.images)
    same = {"sha256": segment.sha256}  # locks an inventory that exists: no other transaction deletes it meanwhile
    connection.execute(content.on_conflict_do_update(index_elements=[inventory.c.sha256], set_=same))
    connection.execute(insert(repository).values(rows.repository))
    for table, table_rows in ((batch, rows.batches), (item, rows.items), (blob, rows.blobs)):
        if table_rows:
            connection.execute(insert(table), table_rows)


def repositories(connection: Connection, run_id: str) -> list[str]:
    paths = select(repository.c.path).where(repository.c.run_id == run_id).order_by(repository.c.path)
    return list(connection.execute(paths).scalars())


def newest_plan(connection: Connection, registry: str) -> str | None:
    """The id of the run with the newest plan of a registry that is still stored. `registry`: a name. None: no plan of
    the registry is stored. Raises StoreError.
    """
    planned = (run.c.registry == registry) & run.c.planned_at.is_not(None) & ~run.c.forgotten
    newest = select(run.c.id).where(planned).order_by(run.c.planned_at.desc())
    run_id: str | None = connection.execute(newest).scalar()
    return run_id


def images_of(connection: Connection, run_id: str, path: str) -> tuple[Image, ...]:
    """The images that a run's scan listed in a repository of its plan."""
    return decode_images(connection.execute(_packed_images(run_id, path)).scalar_one())


def _packed_images(run_id: str, path: str) -> Select[Any]:
    images = select(inventory.c.images).join(repository, repository.c.inventory == inventory.c.sha256)
    return images.where(repository.c.run_id == run_id, repository.c.path == path)


def newest_images(connection: Connection, registry: str) -> Iterator[tuple[str, tuple[Image, ...]]]:
    """The images in a registry's newest stored plan, repository by repository, in the order of paths. Read while the
    caller iterates, within the caller's transaction. Empty: no plan is stored. Raises StoreError.
    """
    if (run_id := newest_plan(connection, registry)) is not None:
        for path in repositories(connection, run_id):
            yield path, images_of(connection, run_id, path)


def newest_images_of(connection: Connection, registry: str, path: str) -> tuple[Image, ...]:
    """The images of one repository in a registry's newest stored plan; none without such a plan or repository."""
    if (run_id := newest_plan(connection, registry)) is None:
        return ()
    packed = connection.execute(_packed_images(run_id, path)).scalar_one_or_none()
    return () if packed is None else decode_images(packed)


def decisions_of(connection: Connection, run_id: str, path: str) -> tuple[Decision, ...]:
    """The decisions of a run's plan on every image of a repository. Raises StoreError, also if the run's plan does not
    have the repository.
    """
    decisions = select(repository.c.decisions).where(repository.c.run_id == run_id, repository.c.path == path)
    return tuple(_decisions.decode_lines(zstandard.decompress(connection.execute(decisions).scalar_one())))


def kept_digests(connection: Connection, run_id: str, path: str) -> tuple[str, ...]:
    """Digests of the images that a run's plan keeps in a repository. Raises StoreError, also if the run's plan does not
    have the repository.
    """
    decisions = decisions_of(connection, run_id, path)
    return tuple(decision.digest for decision in decisions if decision.verdict == "keep")


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """A deletion of a plan and its outcome, as `show` reports it."""

    decision: Decision
    state: str
    outcome_cause: str | None
    message: str | None
    operation_id: str | None
    attempts: int
    at: datetime | None


def items_of(connection: Connection, run_id: str) -> Iterator[PlannedItem]:
    """Every deletion of a run's plan, in the order of the sweep. Read while the caller iterates, within the caller's
    transaction. Empty: the run has no complete plan. Raises StoreError.
    """
    columns = (item.c[field.name] for field in fields(PlannedItem))
    planned = exists().where(run.c.id == run_id, run.c.planned_at.is_not(None))  # else the plan is incomplete
    for row in connection.execute(select(*columns).where(item.c.run_id == run_id, planned).order_by(item.c.number)):
        decision = msgspec.json.decode(row.decision, type=Decision, strict=False)
        yield PlannedItem(decision, *row[1:])
