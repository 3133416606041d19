"""What complete scans have seen of a repository: each digest, since when it is known, and since when with its tags.

A repository's memory is a few columns, a row a digest, and is packed into some 26 bytes an image. What a scan does not
change is packed into the same bytes again, so that nobody needs to write it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from policies.blobs import DigestRows, digest_rows

VANISHED_SHARE = 0.2  # of what the last complete scans saw; more, and the inventory is not believed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FORM = 1  # of the packed bytes
_THERE = 0  # in `missing`: the last complete scan saw it
_NOWHERE = -1

Instants = npt.NDArray[np.int64]  # microseconds since 1970, UTC
Rows = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]  # rows of two: the first 16 bytes of a digest


class TaggedDigest(Protocol):
    """What is remembered of an image."""

    @property
    def digest(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class DigestHistory:
    """What is remembered of one digest."""

    first_seen: datetime  # by a complete scan
    since: datetime  # complete scans have seen it with just these tags, and never without it
    tags: int  # a hash of them


@dataclass(frozen=True, eq=False)
class RepositoryHistory:
    """What complete scans have seen of one repository; rows are sorted by `keys`, each once."""

    keys: Keys
    tags: npt.NDArray[np.uint64]  # hashes of the sorted tags
    first: Instants
    since: Instants
    missing: Instants  # since when scans have looked for it in vain; 0: it was there

    def __len__(self) -> int:
        return len(self.first)

    @property
    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.keys, self.tags, self.first, self.since, self.missing

    def rows_of(self, digests: DigestRows) -> Rows:
        """For each digest its row, whether it is missing or not; -1: it is not remembered."""
        wanted = digests[:, :2]
        low = np.searchsorted(self.keys[:, 0], wanted[:, 0], side="left")
        high = np.searchsorted(self.keys[:, 0], wanted[:, 0], side="right")
        rows = np.where(low < high, low, _NOWHERE).astype(np.int64)
        for place in np.flatnonzero(high - low > 1):  # digests that begin alike
            alike = self.keys[low[place] : high[place], 1] == wanted[place, 1]
            rows[place] = low[place] + int(alike.argmax()) if alike.any() else _NOWHERE
        found = rows >= 0
        rows[found] = np.where(self.keys[rows[found], 1] == wanted[found, 1], rows[found], _NOWHERE)
        return rows

    def lookup(self, digests: Sequence[str], *, include_missing: bool = False) -> dict[str, DigestHistory]:
        """What is remembered of those of these digests that the last complete scan saw, or any."""
        if not len(self) or not digests:
            return {}
        rows = self.rows_of(digest_rows(digests))
        there = (rows >= 0) & ((self.missing[rows] == _THERE) | include_missing)
        some = rows[there]
        facts = zip(self.first[some].tolist(), self.since[some].tolist(), self.tags[some].tolist(), strict=True)
        found = [digest for digest, is_there in zip(digests, there.tolist(), strict=True) if is_there]
        return {
            digest: DigestHistory(_instant(first), _instant(since), tags)
            for digest, (first, since, tags) in zip(found, facts, strict=True)
        }

    def without(self, digests: DigestRows) -> "RepositoryHistory":
        """The same but for these digests."""
        stays = _away(self, digests)
        return RepositoryHistory(*(column[stays] for column in self._columns))

    def pack(self) -> bytes:
        """The same bytes for the same memory."""
        instants = np.unique(np.concatenate([self.first, self.since, self.missing]))
        width = "<u2" if len(instants) <= 1 << 16 else "<u4"
        head = np.array([_FORM, len(self), len(instants)], dtype="<u4")
        indexes = [np.searchsorted(instants, one).astype(width) for one in (self.first, self.since, self.missing)]
        parts = (head, instants.astype("<i8"), self.keys.astype("<u8"), self.tags.astype("<u8"), *indexes)
        return b"".join(part.tobytes() for part in parts)

    @staticmethod
    def unpack(packed: bytes) -> "RepositoryHistory":
        """What `pack` packed. Raises ValueError: it is something else."""
        form, count, distinct = np.frombuffer(packed[:12].ljust(12, b"\0"), dtype="<u4").tolist()
        width = np.dtype("<u2" if distinct <= 1 << 16 else "<u4")
        if form != _FORM or len(packed) != 12 + 8 * distinct + (24 + 3 * width.itemsize) * count:
            raise ValueError("a memory of another form, or cut short")
        rest = memoryview(packed)[12:]

        def column(kind: str | np.dtype[Any], length: int) -> npt.NDArray[Any]:
            nonlocal rest
            found = np.frombuffer(rest, dtype=kind, count=length) if length else np.empty(0, dtype=kind)
            rest = rest[found.nbytes :]
            return found

        instants = column("<i8", distinct).astype(np.int64)
        keys = column("<u8", 2 * count).astype(np.uint64).reshape(-1, 2)
        tags = column("<u8", count).astype(np.uint64)
        first, since, missing = (instants[column(width, count)] for _ in range(3))
        return RepositoryHistory(keys, tags, first, since, missing)


def _columns_of(rows: int) -> Instants:
    return np.zeros(rows, dtype=np.int64)


NO_HISTORY = RepositoryHistory(
    np.empty((0, 2), dtype=np.uint64), np.empty(0, dtype=np.uint64), _columns_of(0), _columns_of(0), _columns_of(0)
)


@dataclass(frozen=True, eq=False)
class Absent:
    """What a complete scan did not find again in a repository."""

    first: Mapping[int, int] = field(default_factory=dict)  # first seen -> how many the scans before saw
    new: int = 0  # were there in the last complete scan
    old: int = 0  # have been missing for longer
    missing_since: int | None = None  # of the old: the earliest


@dataclass(frozen=True, slots=True)
class Vanished:
    """What is gone of a registry and was not deleted by us."""

    new: int = 0  # since the last complete scan
    share: float = 0.0  # 0..1 of what scans saw before anything was missing

    @property
    def suspicious_absence(self) -> bool:
        return self.share > VANISHED_SHARE


def find_absent(
    before: RepositoryHistory, listed: DigestRows, ours: DigestRows, accepted_at: datetime | None = None
) -> Absent:
    """What is absent from a repository that was listed whole. `ours`: digests that we deleted since its last scan.

    What a person accepted as missing until `accepted_at` counts no more.
    """
    counted = ~_accepted(before, accepted_at)
    gone = _away(before, listed) & counted & _away(before, ours)
    new = gone & (before.missing == _THERE)
    old = gone & ~new
    instants, counts = np.unique(before.first[counted], return_counts=True)
    return Absent(
        first=dict(zip(instants.tolist(), counts.tolist(), strict=True)),
        new=int(new.sum()),
        old=int(old.sum()),
        missing_since=int(before.missing[old].min()) if old.any() else None,
    )


def add_up_absent(parts: Iterable[Absent]) -> Vanished:
    """What the repositories of a registry come to.

    While something is in doubt, the measure is what was known before that: new pushes do not outgrow a doubt.
    """
    parts = list(parts)
    since = min((one.missing_since for one in parts if one.missing_since is not None), default=None)
    saw = sum(count for one in parts for first, count in one.first.items() if since is None or first < since)
    new = sum(one.new for one in parts)
    missing = new + sum(one.old for one in parts)
    return Vanished(new, min(1.0, missing / saw) if saw else 0.0)


def update_history(
    before: RepositoryHistory,
    images: Sequence[TaggedDigest],
    now: datetime,
    *,
    ours: DigestRows | None = None,
    went: DigestRows | None = None,
    accepted_at: datetime | None = None,
    suspicious_absence: bool = False,
) -> RepositoryHistory:
    """The memory after a complete scan that saw these images at `now`, each digest once, in any order.

    `went`: digests that went since the last scan. What is there again, after it went or was missing, begins anew.
    `doubtful`: what is absent, and neither ours nor accepted, is not forgotten but marked as missing.
    """
    at = (now - _EPOCH) // _MICROSECOND
    digests = digest_rows([image.digest for image in images])
    tags = np.array([tags_hash(image.tags) for image in images], dtype=np.uint64)
    rows = before.rows_of(digests)
    known = rows >= 0
    if len(before):
        known &= before.missing[rows] == _THERE
        known &= _away(before, digest_rows([]) if went is None else went)[rows]
    first, since = np.full(len(rows), at), np.full(len(rows), at)
    first[known] = before.first[rows[known]]
    same = known & (before.tags[rows] == tags) if len(before) else known
    since[same] = before.since[rows[same]]
    parts = [(digests[:, :2], tags, first, since, _columns_of(len(rows)))]
    if suspicious_absence and len(before):
        deleted = digest_rows([]) if ours is None else ours
        stays = _away(before, digests) & _away(before, deleted) & ~_accepted(before, accepted_at)
        missing = np.where(before.missing == _THERE, at, before.missing)
        parts.append((before.keys[stays], before.tags[stays], before.first[stays], before.since[stays], missing[stays]))
    return _sorted(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def tags_hash(tags: Sequence[str]) -> int:
    """64 bits that stand for a set of tags; 0 stands for none."""
    if not tags:
        return 0
    text = "\0".join(sorted(set(tags))) if len(tags) > 1 else tags[0]
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1


def _sorted(*columns: npt.NDArray[Any]) -> RepositoryHistory:
    keys = columns[0]
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    once = np.ones(len(keys), dtype=np.bool_)
    once[1:] = np.any(keys[1:] != keys[:-1], axis=1)  # digests are, but 16 bytes of two might be the same
    order = order[once]
    return RepositoryHistory(*(column[order] for column in columns))


def _away(before: RepositoryHistory, listed: DigestRows) -> npt.NDArray[np.bool_]:
    """For each row, whether its digest is not listed."""
    away = np.ones(len(before), dtype=np.bool_)
    if len(before) and len(listed):
        rows = before.rows_of(listed)
        away[rows[rows >= 0]] = False
    return away


def _accepted(before: RepositoryHistory, accepted_at: datetime | None) -> npt.NDArray[np.bool_]:
    if accepted_at is None:
        return np.zeros(len(before), dtype=np.bool_)
    accepted: npt.NDArray[np.bool_] = before.missing <= (accepted_at - _EPOCH) // _MICROSECOND
    accepted &= before.missing != _THERE
    return accepted


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
