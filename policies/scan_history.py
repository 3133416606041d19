"""The scan history of a repository: when complete scans first saw each digest, and since when with the same tags.

The history is a few columns with a row for each digest, packed into some 26 bytes an image. An unchanged history packs
into the same bytes, so it need not be written again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from policies.blobs import DigestRows, digest_rows

VANISHED_SHARE = 0.2  # of the images that complete scans saw; if more are missing, the inventory is suspicious

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORMAT = 1  # version of the packed bytes
_PRESENT = 0  # in `missing`: the last complete scan saw the digest
_UNKNOWN = -1  # as a row: the history does not have the digest

Instants = npt.NDArray[np.int64]  # microseconds since 1970, UTC
Rows = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]  # rows of two: the first 16 bytes of a digest


class TaggedDigest(Protocol):
    """The facts of a listed image that the history has."""

    @property
    def digest(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class DigestHistory:
    """The history of one digest."""

    first_seen: datetime  # by a complete scan
    since: datetime  # every complete scan since then has seen the digest with exactly these tags
    tags: int  # hash of the tags


@dataclass(frozen=True, eq=False)
class RepositoryHistory:
    """The digests that complete scans have seen in one repository; rows are sorted by `keys`, each once."""

    keys: Keys
    tags: npt.NDArray[np.uint64]  # hashes of the sorted tags
    first: Instants
    since: Instants
    missing: Instants  # since when scans have missed it; 0: the last scan saw it

    def __len__(self) -> int:
        return len(self.first)

    @property
    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.keys, self.tags, self.first, self.since, self.missing

    def rows_of(self, digests: DigestRows) -> Rows:
        """For each digest its row, whether it is missing or not; -1: the history does not have it."""
        wanted = digests[:, :2]
        low = np.searchsorted(self.keys[:, 0], wanted[:, 0], side="left")
        high = np.searchsorted(self.keys[:, 0], wanted[:, 0], side="right")
        rows = np.where(low < high, low, _UNKNOWN).astype(np.int64)
        for index in np.flatnonzero(high - low > 1):  # several digests have the same first eight bytes
            equal = self.keys[low[index] : high[index], 1] == wanted[index, 1]
            rows[index] = low[index] + int(equal.argmax()) if equal.any() else _UNKNOWN
        known = rows >= 0
        rows[known] = np.where(self.keys[rows[known], 1] == wanted[known, 1], rows[known], _UNKNOWN)
        return rows

    def lookup(self, digests: Sequence[str], *, include_missing: bool = False) -> dict[str, DigestHistory]:
        """The history of those of these digests that the last complete scan saw, or that any scan saw."""
        if not len(self) or not digests:
            return {}
        rows = self.rows_of(digest_rows(digests))
        wanted = (rows >= 0) & ((self.missing[rows] == _PRESENT) | include_missing)
        known = [digest for digest, is_wanted in zip(digests, wanted.tolist(), strict=True) if is_wanted]
        rows = rows[wanted]
        columns = (self.first[rows].tolist(), self.since[rows].tolist(), self.tags[rows].tolist())
        return {
            digest: DigestHistory(_instant(first), _instant(since), tags)
            for digest, first, since, tags in zip(known, *columns, strict=True)
        }

    def without(self, digests: DigestRows) -> "RepositoryHistory":
        """The history without these digests. Drops missing images among them, too. A digest that the history does not
        have makes no difference.
        """
        others = _unlisted(self, digests)
        return RepositoryHistory(*(column[others] for column in self._columns))

    def pack(self) -> bytes:
        """The same bytes for the same history."""
        instants = np.unique(np.concatenate([self.first, self.since, self.missing]))
        width = "<u2" if len(instants) <= 1 << 16 else "<u4"
        head = np.array([_FORMAT, len(self), len(instants)], dtype="<u4")
        indexes = [np.searchsorted(instants, times).astype(width) for times in (self.first, self.since, self.missing)]
        parts = (head, instants.astype("<i8"), self.keys.astype("<u8"), self.tags.astype("<u8"), *indexes)
        return b"".join(part.tobytes() for part in parts)

    @staticmethod
    def unpack(packed: bytes) -> "RepositoryHistory":
        """The history from its packed bytes. Raises ValueError if they are damaged or of another format."""
        version, count, distinct = np.frombuffer(packed[:12].ljust(12, b"\0"), dtype="<u4").tolist()
        width = np.dtype("<u2" if distinct <= 1 << 16 else "<u4")
        if version != _FORMAT or len(packed) != 12 + 8 * distinct + (24 + 3 * width.itemsize) * count:
            raise ValueError("the packed history has another format, or is cut short")
        rest = memoryview(packed)[12:]

        def column(kind: str | np.dtype[Any], length: int) -> npt.NDArray[Any]:
            nonlocal rest
            values = np.frombuffer(rest, dtype=kind, count=length) if length else np.empty(0, dtype=kind)
            rest = rest[values.nbytes :]
            return values

        instants = column("<i8", distinct).astype(np.int64)
        keys = column("<u8", 2 * count).astype(np.uint64).reshape(-1, 2)
        tags = column("<u8", count).astype(np.uint64)
        first, since, missing = (instants[column(width, count)] for _ in range(3))
        return RepositoryHistory(keys, tags, first, since, missing)


def _zeros(rows: int) -> Instants:
    return np.zeros(rows, dtype=np.int64)


NO_HISTORY = RepositoryHistory(
    np.empty((0, 2), dtype=np.uint64), np.empty(0, dtype=np.uint64), _zeros(0), _zeros(0), _zeros(0)
)


@dataclass(frozen=True, eq=False)
class Absent:
    """The known images of a repository that a complete scan did not see."""

    # First seen -> count of all images known before.
    first: Mapping[int, int] = field(default_factory=dict)
    new: int = 0  # the last complete scan saw them
    old: int = 0  # missing for longer
    missing_since: int | None = None  # the earliest of the old


@dataclass(frozen=True, slots=True)
class Vanished:
    """The images that are missing from a registry and were not deleted by us."""

    new: int = 0  # since the last complete scan
    share: float = 0.0  # 0..1 of the images that scans knew before any was missing

    @property
    def suspicious_absence(self) -> bool:
        return self.share > VANISHED_SHARE


def find_absent(
    history: RepositoryHistory, listed: DigestRows, deleted: DigestRows, accepted_at: datetime | None = None
) -> Absent:
    """The images that are absent from a complete listing. `deleted`: digests that we deleted since the last scan.

    Images that were missing by `accepted_at`, when a person accepted it, no longer count.
    """
    counted = ~_accepted(history, accepted_at)
    absent = _unlisted(history, listed) & counted & _unlisted(history, deleted)
    new = absent & (history.missing == _PRESENT)
    old = absent & ~new
    instants, counts = np.unique(history.first[counted], return_counts=True)
    return Absent(
        first=dict(zip(instants.tolist(), counts.tolist(), strict=True)),
        new=int(new.sum()),
        old=int(old.sum()),
        missing_since=int(history.missing[old].min()) if old.any() else None,
    )


def add_up_absent(repositories: Iterable[Absent]) -> Vanished:
    """The images that are missing from a registry.

    While images are missing, the share is of the images that were known before: new pushes do not lower it.
    """
    repositories = list(repositories)
    since = min((absent.missing_since for absent in repositories if absent.missing_since is not None), default=None)
    counts = [count for absent in repositories for count in absent.first.items()]
    known = sum(count for first, count in counts if since is None or first < since)
    new = sum(absent.new for absent in repositories)
    missing = new + sum(absent.old for absent in repositories)
    return Vanished(new, min(1.0, missing / known) if known else 0.0)


def update_history(
    history: RepositoryHistory,
    images: Sequence[TaggedDigest],
    now: datetime,
    *,
    deleted: DigestRows | None = None,
    gone: DigestRows | None = None,
    accepted_at: datetime | None = None,
    suspicious_absence: bool = False,
) -> RepositoryHistory:
    """The history after a complete scan that saw these images at `now`, each digest once, in any order.

    `deleted`: digests that we deleted since the last scan; `gone`: digests that were deleted or found gone since then.
    A digest that a scan sees again after it was gone or missing is new. With `suspicious_absence` the history marks
    absent digests as missing, unless they are deleted or accepted; otherwise it drops them.
    """
    at = (now - _EPOCH) // _MICROSECOND
    digests = digest_rows([image.digest for image in images])
    tags = np.array([tags_hash(image.tags) for image in images], dtype=np.uint64)
    rows = history.rows_of(digests)
    known = rows >= 0
    if len(history):
        known &= history.missing[rows] == _PRESENT
        known &= _unlisted(history, digest_rows([]) if gone is None else gone)[rows]
    first, since = np.full(len(rows), at), np.full(len(rows), at)
    first[known] = history.first[rows[known]]
    same = known & (history.tags[rows] == tags) if len(history) else known
    since[same] = history.since[rows[same]]
    parts: list[tuple[npt.NDArray[Any], ...]] = [(digests[:, :2], tags, first, since, _zeros(len(rows)))]
    if suspicious_absence and len(history):
        dropped = digest_rows([]) if deleted is None else deleted
        absent = _unlisted(history, digests) & _unlisted(history, dropped) & ~_accepted(history, accepted_at)
        missing = np.where(history.missing == _PRESENT, at, history.missing)
        columns = (history.keys, history.tags, history.first, history.since, missing)
        parts.append(tuple(column[absent] for column in columns))
    return _sorted(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def tags_hash(tags: Sequence[str]) -> int:
    """A 64-bit hash of a set of tags; 0 for no tags. The order and the repetition of tags make no difference; only the
    empty set has the hash 0. Stored histories have this hash: with another one all tagged images would seem to have new
    tags.
    """
    if not tags:
        return 0
    text = "\0".join(sorted(set(tags))) if len(tags) > 1 else tags[0]
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1


def _sorted(*columns: npt.NDArray[Any]) -> RepositoryHistory:
    keys = columns[0]
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    once = np.ones(len(keys), dtype=np.bool_)
    once[1:] = np.any(keys[1:] != keys[:-1], axis=1)  # two digests might have the same first 16 bytes
    order = order[once]
    return RepositoryHistory(*(column[order] for column in columns))


def _unlisted(history: RepositoryHistory, listed: DigestRows) -> npt.NDArray[np.bool_]:
    """For each row of the history, whether its digest is not listed."""
    unlisted = np.ones(len(history), dtype=np.bool_)
    if len(history) and len(listed):
        rows = history.rows_of(listed)
        unlisted[rows[rows >= 0]] = False
    return unlisted


def _accepted(history: RepositoryHistory, accepted_at: datetime | None) -> npt.NDArray[np.bool_]:
    """For each row of the history, whether a person accepted that its digest is missing."""
    if accepted_at is None:
        return np.zeros(len(history), dtype=np.bool_)
    accepted: npt.NDArray[np.bool_] = history.missing <= (accepted_at - _EPOCH) // _MICROSECOND
    accepted &= history.missing != _PRESENT
    return accepted


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
