"""Queries of what complete scans have seen: recalled before a plan is made, staged with it, moved when it is stored.

Of a registry there is one row a repository, and one under the empty path that says when it was scanned last.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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
DELETION_WINDOW = timedelta(days=1)  # how long after its run's beginning a deletion in doubt may still be carried out
REMOVED = b""  # in `scan_history_next`: nothing is left to remember of this path


class LastScan(msgspec.Struct, frozen=True, rename={"suspicion": "doubt"}):  # as stores of earlier versions have it
    """What is remembered of a registry as a whole."""

    scanned_at: datetime  # of the last scan whose plan was stored
    lagging: dict[str, datetime] = {}  # repositories that it could not list whole: when they were last
    suspicion: str = ""  # why push times are not believed
    returned: tuple[datetime, ...] = ()  # scans that saw images again that had been missing

    def listed_at(self, path: str) -> datetime:
        """When a repository was last listed whole, if it is remembered at all."""
        return self.lagging.get(path, self.scanned_at)


class PackedHistories(Mapping[str, RepositoryHistory]):
    """The memory of each repository, unpacked whenever it is asked for: a registry's worth takes too much room."""

    def __init__(self, packed: Mapping[str, bytes]) -> None:
        self._packed = packed

    def __getitem__(self, path: str) -> RepositoryHistory:
        packed = self._packed[path]
        try:
            return RepositoryHistory.unpack(zstandard.decompress(packed))
        except (ValueError, zstandard.ZstdError) as error:
            raise StoreError(f"the store: what was seen of {path} cannot be read: {error}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


@dataclass(frozen=True, slots=True)
class RegistryHistory:
    """Everything that is remembered of a registry. The default: it was never scanned."""

    seen: Mapping[str, RepositoryHistory] = field(default_factory=dict)
    last_scan: LastScan | None = None
    accepted_at: datetime | None = None  # what was missing until then, a person accepted
    deleted_by_us: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # repository -> deleted by us since its last scan
    gone: Mapping[str, frozenset[str]] = field(default_factory=dict)  # … or found gone: listed again, they are new

    def repository(self, path: str) -> RepositoryHistory:
        return self.seen.get(path, NO_HISTORY)

    @property
    def without_gone(self) -> Mapping[str, RepositoryHistory]:
        """What is remembered of each repository but of what went since: it tells nothing of an image pushed again."""
        return HistoriesWithoutGone(self.seen, self.gone)


class HistoriesWithoutGone(Mapping[str, RepositoryHistory]):
    """The memory of each repository without what went since its last scan."""

    def __init__(self, seen: Mapping[str, RepositoryHistory], went: Mapping[str, frozenset[str]]) -> None:
        self._seen, self._gone = seen, went

    def __getitem__(self, path: str) -> RepositoryHistory:
        went = self._gone.get(path)
        return self._seen[path].without(digest_rows(sorted(went))) if went else self._seen[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)


def load_repository(connection: Connection, key: str, path: str) -> RepositoryHistory:
    """What is remembered of one repository of a registry, by its `memory_key`. Raises StoreError."""
    found = select(scan_history.c.seen).where(scan_history.c.registry == key, scan_history.c.path == path)
    packed = connection.execute(found).scalar()
    return NO_HISTORY if packed is None else PackedHistories({path: bytes(packed)})[path]


def load(connection: Connection, key: str, name: str) -> RegistryHistory:
    """What is remembered of a registry, by its `memory_key` and its name. Raises StoreError."""
    found = select(scan_history.c.path, scan_history.c.seen).where(scan_history.c.registry == key)
    rows = {path: bytes(seen) for path, seen in connection.execute(found)}
    packed_head = rows.pop(LAST_SCAN_PATH, None)
    if packed_head is None:
        return RegistryHistory()
    try:
        head = msgspec.json.decode(zstandard.decompress(packed_head), type=LastScan)
    except (msgspec.DecodeError, zstandard.ZstdError) as error:
        raise StoreError(f"the store: when {name} was scanned last cannot be read: {error}") from error
    accepted = connection.execute(select(registry.c.vanished_accepted_at).where(registry.c.name == name)).scalar()
    ours, went = _since_last_scan(connection, name, head)
    return RegistryHistory(PackedHistories(rows), head, accepted, ours, went)


def _since_last_scan(
    connection: Connection, name: str, head: LastScan
) -> tuple[dict[str, tuple[str, ...]], dict[str, frozenset[str]]]:
    """By repository: what we deleted, or may have, since it was last scanned; and that with what was found gone.

    A run's deletions come after its own scan: its beginning says so, whatever a clock did that was set back meanwhile.
    They may come after another run's scan, too: of a plan that waited for its approval.
    """
    since = min((head.scanned_at, *head.lagging.values()))
    ours: defaultdict[str, set[str]] = defaultdict(set)
    went: defaultdict[str, set[str]] = defaultdict(set)
    columns = (audit.c.repository, audit.c.digest, audit.c.at, audit.c.outcome, run.c.started_at)
    settled = select(*columns).join(run, run.c.id == audit.c.run_id)
    later = or_(audit.c.at >= since, run.c.started_at >= since)
    for path, digest, at, outcome, started in connection.execute(settled.where(run.c.registry == name, later)):
        scanned = head.listed_at(path)
        if outcome == "deleted" and max(at, started) >= scanned:
            ours[path].add(digest)
        if started == scanned or at >= scanned:
            went[path].add(digest)
    begun = select(item.c.repository, item.c.digest, item.c.intent_at, run.c.started_at)
    begun = begun.join(run, run.c.id == item.c.run_id).where(run.c.registry == name)
    suspicious_absence = item.c.state.in_(("intent", "accepted")) | (item.c.outcome_cause == "unconfirmed")
    later = or_(item.c.intent_at >= since, run.c.started_at >= since - DELETION_WINDOW)
    for path, digest, at, started in connection.execute(begun.where(suspicious_absence, later)):
        scanned = head.listed_at(path)
        if started >= scanned - DELETION_WINDOW:
            ours[path].add(digest)
        if started == scanned or (at is not None and at >= scanned):
            went[path].add(digest)
    _add_cascades(connection, name, since, ours)
    return {path: tuple(some) for path, some in ours.items()}, {path: frozenset(some) for path, some in went.items()}


def _add_cascades(connection: Connection, name: str, since: datetime, ours: dict[str, set[str]]) -> None:
    """Add what was gone when its turn came, after what it belonged to was deleted: some registries do both at once."""
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


def pack_repository(seen: RepositoryHistory) -> bytes:
    return zstandard.compress(seen.pack(), 3) if len(seen) else REMOVED


def pack_last_scan(head: LastScan) -> bytes:
    return zstandard.compress(msgspec.json.encode(head), 3)


def stage(connection: Connection, run_id: str, rows: Iterable[tuple[str, bytes]]) -> None:
    """Keep what a scan will remember once its plan is stored: path and packed memory, or GONE."""
    if some := [{"run_id": run_id, "path": path, "seen": seen} for path, seen in rows]:
        connection.execute(insert(scan_history_next), some)


def apply_staged(connection: Connection, run_id: str, key: str) -> None:
    """Make what a scan staged the memory, in the transaction in which its plan becomes one."""
    staged = scan_history_next.c.run_id == run_id
    changed = select(scan_history_next.c.path).where(staged)
    connection.execute(delete(scan_history).where(scan_history.c.registry == key, scan_history.c.path.in_(changed)))
    left = select(literal(key), scan_history_next.c.path, scan_history_next.c.seen).where(
        staged, scan_history_next.c.seen != REMOVED
    )
    connection.execute(insert(scan_history).from_select(["registry", "path", "seen"], left))
    connection.execute(delete(scan_history_next).where(staged))
