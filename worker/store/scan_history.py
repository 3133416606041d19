"""Queries of the scan history: loaded before a plan is made, staged with the plan, applied when the plan is stored.

A registry has one row for each repository, and one with an empty path about its last scan.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
import zstandard
from sqlalchemy import Connection, and_, delete, insert, literal, or_, select

from policies.blobs import digest_rows
from policies.scan_history import NO_HISTORY, RepositoryHistory
from worker.store.engine import StoreError
from worker.store.tables import audit, item, registry, run, scan_history, scan_history_next

LAST_SCAN_PATH = ""  # no repository has this path
DELETION_WINDOW = timedelta(days=1)  # from a run's start: an unconfirmed deletion may still be carried out
REMOVED = b""  # in `scan_history_next`: the path has no history any more


class LastScan(msgspec.Struct, frozen=True, rename={"suspicion": "doubt"}):  # the key of earlier stores
    """The history of a registry as a whole."""

    scanned_at: datetime  # of the last scan whose plan was stored
    lagging: dict[str, datetime] = {}  # repositories that this scan could not list: the time of their last listing
    suspicion: str = ""  # why push times are not trusted
    returned: tuple[datetime, ...] = ()  # times of scans that listed images again after they were missing

    def listed_at(self, path: str) -> datetime:
        """The time of the last complete listing of a repository that has a history."""
        return self.lagging.get(path, self.scanned_at)


class LazyHistories(Mapping[str, RepositoryHistory]):
    """The histories of these repositories, each read whenever it is used: all of them need too much memory."""

    def __init__(self, paths: Collection[str], read: Callable[[str], RepositoryHistory]) -> None:
        self._paths, self._read = paths, read

    def __getitem__(self, path: str) -> RepositoryHistory:
        if path not in self._paths:
            raise KeyError(path)
        return self._read(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


@dataclass(frozen=True, slots=True)
class RegistryHistory:
    """The scan history of a registry. The default: it was never scanned."""

    seen: Mapping[str, RepositoryHistory] = field(default_factory=dict)
    last_scan: LastScan | None = None
    accepted_at: datetime | None = None  # a person has accepted the absence of images that were missing until then
    # By repository, since its last scan: digests that we deleted; and those with the ones found gone, new if listed.
    deleted_by_us: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gone: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def repository(self, path: str) -> RepositoryHistory:
        return self.seen.get(path, NO_HISTORY)

    @property
    def without_gone(self) -> Mapping[str, RepositoryHistory]:
        """The histories without images gone since the last scan: such a digest may have been pushed again."""

        def read(path: str) -> RepositoryHistory:
            gone = self.gone.get(path)
            return self.seen[path].without(digest_rows(sorted(gone))) if gone else self.seen[path]

        return LazyHistories(self.seen.keys(), read)


def load_repository(connection: Connection, key: str, path: str) -> RepositoryHistory:
    """The history of one repository of a registry, by its `history_key`. Raises StoreError."""
    packed = select(scan_history.c.seen).where(scan_history.c.registry == key, scan_history.c.path == path)
    row = connection.execute(packed).scalar()
    return NO_HISTORY if row is None else _unpack(path, bytes(row))


def _unpack(path: str, packed: bytes) -> RepositoryHistory:
    try:
        return RepositoryHistory.unpack(zstandard.decompress(packed))
    except (ValueError, zstandard.ZstdError) as error:
        raise StoreError(f"the store: the scan history of {path} cannot be read: {error}") from error


def load(connection: Connection, key: str, name: str) -> RegistryHistory:
    """The history of a registry, by its `history_key` and its name. Raises StoreError."""
    query = select(scan_history.c.path, scan_history.c.seen).where(scan_history.c.registry == key)
    rows = {path: bytes(seen) for path, seen in connection.execute(query)}
    packed = rows.pop(LAST_SCAN_PATH, None)
    if packed is None:
        return RegistryHistory()
    try:
        last_scan = msgspec.json.decode(zstandard.decompress(packed), type=LastScan)
    except (msgspec.DecodeError, zstandard.ZstdError) as error:
        raise StoreError(f"the store: the last scan of {name} cannot be read: {error}") from error
    histories = LazyHistories(rows.keys(), lambda path: _unpack(path, rows[path]))
    accepted = connection.execute(select(registry.c.vanished_accepted_at).where(registry.c.name == name)).scalar()
    return RegistryHistory(histories, last_scan, accepted, *_since_last_scan(connection, name, last_scan))


def _since_last_scan(
    connection: Connection, name: str, last_scan: LastScan
) -> tuple[dict[str, tuple[str, ...]], dict[str, frozenset[str]]]:
    """By repository, since its last scan: digests that we deleted, or may have; and those with the ones found gone.

    A run deletes after its own scan, so a run's start counts even if a clock was set back meanwhile. It may also delete
    after another run's scan: its plan may have waited for an approval.
    """
    since = min((last_scan.scanned_at, *last_scan.lagging.values()))
    ours: defaultdict[str, set[str]] = defaultdict(set)
    gone: defaultdict[str, set[str]] = defaultdict(set)
    columns = (audit.c.repository, audit.c.digest, audit.c.at, audit.c.outcome, run.c.started_at)
    settled = select(*columns).join(run, run.c.id == audit.c.run_id)
    later = or_(audit.c.at >= since, run.c.started_at >= since)
    for path, digest, at, outcome, started in connection.execute(settled.where(run.c.registry == name, later)):
        scanned = last_scan.listed_at(path)
        if outcome == "deleted" and max(at, started) >= scanned:
            ours[path].add(digest)
        if started == scanned or at >= scanned:
            gone[path].add(digest)
    begun = select(item.c.repository, item.c.digest, item.c.intent_at, run.c.started_at)
    begun = begun.join(run, run.c.id == item.c.run_id).where(run.c.registry == name)
    unconfirmed = item.c.state.in_(("intent", "accepted")) | (item.c.outcome_cause == "unconfirmed")
    later = or_(item.c.intent_at >= since, run.c.started_at >= since - DELETION_WINDOW)
    for path, digest, at, started in connection.execute(begun.where(unconfirmed, later)):
        scanned = last_scan.listed_at(path)
        if started >= scanned - DELETION_WINDOW:
            ours[path].add(digest)
        if started == scanned or (at is not None and at >= scanned):
            gone[path].add(digest)
    _add_cascades(connection, name, since, ours)
    return {path: tuple(ours[path]) for path in ours}, {path: frozenset(gone[path]) for path in gone}


def _add_cascades(connection: Connection, name: str, since: datetime, ours: dict[str, set[str]]) -> None:
    """Add images that were gone after their owner was deleted: some registries delete both at once."""
    gone = (
        select(item.c.repository, item.c.digest, item.c.owners)
        .join(audit, and_(audit.c.run_id == item.c.run_id, audit.c.item == item.c.number))
        .join(run, run.c.id == item.c.run_id)
        .where(run.c.registry == name, run.c.started_at >= since, audit.c.outcome == "gone")
        .order_by(item.c.run_id, item.c.number)  # owners come first
    )
    for path, digest, owners in connection.execute(gone):
        if not ours.get(path, set()).isdisjoint(json.loads(owners)):
            ours[path].add(digest)


def pack_repository(history: RepositoryHistory) -> bytes:
    return zstandard.compress(history.pack(), 3) if len(history) else REMOVED


def pack_last_scan(last_scan: LastScan) -> bytes:
    return zstandard.compress(msgspec.json.encode(last_scan), 3)


def stage(connection: Connection, run_id: str, rows: Iterable[tuple[str, bytes]]) -> None:
    """Save what a scan changes in the history, until its plan is stored: paths with packed histories, or REMOVED.
    `apply_staged` moves it into the history; `plans.clear` drops what an earlier scan of the run staged. Raises
    StoreError.
    """
    if values := [{"run_id": run_id, "path": path, "seen": seen} for path, seen in rows]:
        connection.execute(insert(scan_history_next), values)


def apply_staged(connection: Connection, run_id: str, key: str) -> None:
    """Move what a scan staged into the history, in the transaction that stores its plan."""
    staged = scan_history_next.c.run_id == run_id
    changed = select(scan_history_next.c.path).where(staged)
    connection.execute(delete(scan_history).where(scan_history.c.registry == key, scan_history.c.path.in_(changed)))
    columns = (literal(key), scan_history_next.c.path, scan_history_next.c.seen)
    present = select(*columns).where(staged, scan_history_next.c.seen != REMOVED)
    connection.execute(insert(scan_history).from_select(["registry", "path", "seen"], present))
    connection.execute(delete(scan_history_next).where(staged))
