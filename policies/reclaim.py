"""Exact bytes: the blobs that no remaining image of the registry references.

What spans repositories is held in compact columns: a row for each blob of each repository. A digest is four 64-bit
words; rows are sorted by one key mixed from them, and equal keys are proved to be equal digests by all four, or else
sorted the slow way.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from policies.blobs import Blobs, Sizes, Words, keys, words
from policies.graph import blobs_of
from policies.image import Image
from policies.limits import Totals

_KEPT, _COUNTED = 1, 2


@dataclass(frozen=True)
class Columns:
    """What of one or more decided repositories the totals of the registry need."""

    words: Words
    sizes: Sizes
    references: npt.NDArray[np.int64]  # deletions that name the blob
    flags: npt.NDArray[np.uint8]  # _KEPT: something that stays names it; _COUNTED: in a readable repository
    counts: Totals = field(default_factory=Totals)  # without the bytes of blobs
    rule_selected: Mapping[str, int] = field(default_factory=dict)  # images that a rule selects, before keeps
    keeping: frozenset[str] = frozenset()  # keep rules that keep something
    undecidable: int = 0  # images whose rank in some count nobody can tell


_SHARE_BITS = 4
_SHARES = 1 << _SHARE_BITS
_ROWS_AT_ONCE = 1 << 16
_ROW = np.dtype([("words", "<u8", (4,)), ("sizes", "<i8"), ("references", "<u4"), ("flags", "u1")])


def columns(
    blobs: Blobs,
    goes: Collection[str],
    *,
    counts: Totals,
    rule_selected: Mapping[str, int],
    keeping: frozenset[str] = frozenset(),
    undecidable: int = 0,
    readable: bool = True,
) -> Columns:
    """The columns of one repository, of whose images `goes` go and the others stay."""
    references, stays = blobs.counted(goes)
    return Columns(
        words=blobs.words,
        sizes=blobs.sizes,
        references=references,
        flags=stays * np.uint8(_KEPT) | np.uint8(_COUNTED if readable else 0),
        counts=counts,
        rule_selected=rule_selected,
        keeping=keeping,
        undecidable=undecidable,
    )


@dataclass(frozen=True)
class Closing:
    """What all decided repositories come to: each blob once."""

    totals: Totals
    rule_selected: Mapping[str, int]
    keeping: frozenset[str]
    undecidable: int
    _freed: npt.NDArray[np.void] = field(repr=False)  # of blobs that only deletions reference, sorted by key

    def numbers_of(self, image: Image) -> tuple[int, ...]:
        """The numbers of those of its blobs that only deletions reference, ascending."""
        rows = words(list({blob.digest for blob in blobs_of(image)})).tolist()
        numbers = (self._numbers.get(tuple(row)) for row in rows)
        return tuple(sorted(number for number in numbers if number is not None))

    def size(self, number: int) -> int:
        """Bytes of a blob."""
        return int(self._freed["sizes"][number])

    def references(self, number: int) -> int:
        """How many deletions reference a blob, each image of each repository once."""
        return int(self._freed["references"][number])

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): number for number, row in enumerate(self._freed["words"].tolist())}


class Reclaim:
    """Adds up decided repositories, in whatever order they come.

    Their blobs lie in sixteen shares of all digests, packed and side by side, and are closed a share at a time: so a
    million images need little more memory than the rows themselves.
    """

    def __init__(self) -> None:
        self._shares = [bytearray() for _ in range(_SHARES)]
        self._waiting: list[npt.NDArray[np.void]] = []
        self._rows_waiting = 0
        self._counts = Totals()
        self._selected: Counter[str] = Counter()
        self._keeping: set[str] = set()
        self._undecidable = 0

    def add(self, part: Columns) -> None:
        """Take a repository in; nothing of it is needed any more."""
        self._counts = add(self._counts, part.counts)
        for rule, count in part.rule_selected.items():
            self._selected[rule] += count  # also where it is 0
        self._keeping |= part.keeping
        self._undecidable += part.undecidable
        rows = np.empty(len(part.sizes), dtype=_ROW)
        for column in ("words", "sizes", "references", "flags"):
            rows[column] = getattr(part, column)
        self._waiting.append(rows)
        self._rows_waiting += len(rows)
        if self._rows_waiting >= _ROWS_AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        rows = np.concatenate([np.empty(0, dtype=_ROW), *self._waiting])
        share = keys(rows["words"]) >> np.uint64(64 - _SHARE_BITS)
        rows = rows[np.argsort(share, kind="stable")]
        ends = np.cumsum(np.bincount(share.astype(np.int64), minlength=_SHARES)).tolist()
        for packed, start, end in zip(self._shares, [0, *ends], ends, strict=False):
            packed.extend(rows[start:end].tobytes())
        self._waiting, self._rows_waiting = [], 0

    def close(self) -> "Closing":
        """Each blob once."""
        self._pack()
        totals, freed = self._counts, [_freed(np.empty(0, dtype=_ROW))[1]]
        for packed in self._shares:
            blobs, rows = _freed(np.frombuffer(packed, dtype=_ROW))
            totals = add(totals, blobs)
            freed.append(rows)
        rows = np.concatenate(freed)
        return Closing(totals, dict(self._selected), frozenset(self._keeping), self._undecidable, rows)


def _freed(rows: npt.NDArray[np.void]) -> tuple[Totals, npt.NDArray[np.void]]:
    """What the blobs of a share come to, and those that only deletions reference, each once, sorted by key."""
    order, starts = _groups(rows["words"])
    if not len(starts):
        return Totals(), rows[:0]
    whole = rows[order[starts]]
    whole["sizes"] = np.minimum.reduceat(rows["sizes"][order], starts)
    whole["references"] = np.add.reduceat(rows["references"][order], starts)
    whole["flags"] = np.bitwise_or.reduceat(rows["flags"][order], starts)
    freed = whole[(whole["flags"] & _KEPT) == 0]
    counted = whole["sizes"][(whole["flags"] & _COUNTED) != 0]
    return Totals(reclaimable_bytes=_sum(freed["sizes"]), registry_bytes=_sum(counted)), freed


def _groups(rows: Words) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """An order that brings equal digests together, by their keys, and where each group starts in it."""
    key = keys(rows)
    order = np.argsort(key)
    key, ordered = key[order], rows[order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = key[1:] != key[:-1]
    differ = np.any(ordered[1:] != ordered[:-1], axis=1)
    if np.any(differ & ~new[1:]):  # two digests of one key: sort by all the words, the key first
        order = np.lexsort((*rows.T, keys(rows)))
        ordered = rows[order]
        new[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    return order, np.flatnonzero(new)


def _sum(sizes: npt.NDArray[np.int64]) -> int:
    """Exact, however large: halves are added apart, so that no sum overflows."""
    return (int((sizes >> 32).sum()) << 32) + int((sizes & 0xFFFFFFFF).sum())


def add(one: Totals, other: Totals) -> Totals:
    """Totals of two parts of a registry."""
    return Totals(**{name: getattr(one, name) + getattr(other, name) for name in Totals.__struct_fields__})
