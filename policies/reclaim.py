"""Exact bytes: the blobs that no remaining image of the registry references.

What spans repositories is held in compact columns: a row for each blob of each repository. A digest is four 64-bit
words; rows are sorted by one key mixed from them, and equal keys are proved to be equal digests by all four, or else
sorted the slow way.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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


_EMPTY = np.empty(0, dtype=np.int64)
_NONE = Columns(np.empty((0, 4), dtype=np.uint64), _EMPTY, _EMPTY, np.empty(0, dtype=np.uint8))


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
    _words: Words = field(repr=False)  # of the blobs that only deletions reference, sorted by key
    _keys: npt.NDArray[np.uint64] = field(repr=False)
    _sizes: npt.NDArray[np.int64] = field(repr=False)
    _references: npt.NDArray[np.int64] = field(repr=False)

    def numbers_of(self, image: Image) -> tuple[int, ...]:
        """The numbers of those of its blobs that only deletions reference, ascending."""
        digests = list({blob.digest for blob in blobs_of(image)})
        rows = words(digests)
        found = []
        for row, key in zip(rows.tolist(), keys(rows).tolist(), strict=True):
            if (number := self._numbers.get((key, *row))) is not None:
                found.append(number)
        return tuple(sorted(found))

    def size(self, number: int) -> int:
        """Bytes of a blob."""
        return int(self._sizes[number])

    def references(self, number: int) -> int:
        """How many deletions reference a blob, each image of each repository once."""
        return int(self._references[number])

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        rows = zip(self._keys.tolist(), self._words.tolist(), strict=True)
        return {(key, *row): number for number, (key, row) in enumerate(rows)}


def close(parts: Iterable[Columns]) -> Closing:
    """Adds up the columns of all repositories, in whatever order they come."""
    whole = joined(parts)
    order, starts, key = _groups(whole.words)
    sizes = _reduced(np.minimum, whole.sizes, order, starts)
    references = _reduced(np.add, whole.references, order, starts)
    flags = _reduced(np.bitwise_or, whole.flags, order, starts)
    freed = (flags & _KEPT) == 0
    counted = (flags & _COUNTED) != 0
    blobs = Totals(reclaimable_bytes=_sum(sizes[freed]), registry_bytes=_sum(sizes[counted]))
    return Closing(
        totals=add(whole.counts, blobs),
        rule_selected=whole.rule_selected,
        keeping=whole.keeping,
        undecidable=whole.undecidable,
        _words=whole.words[order[starts]][freed],
        _keys=key[starts][freed],
        _sizes=sizes[freed],
        _references=references[freed],
    )


def joined(parts: Iterable[Columns]) -> Columns:
    """The columns of several repositories as one; closing it is closing them."""
    counts = Totals()
    selected: dict[str, int] = {}
    held = [_NONE]
    for part in parts:
        held.append(part)
        counts = add(counts, part.counts)
        for rule, count in part.rule_selected.items():
            selected[rule] = selected.get(rule, 0) + count
    return Columns(
        words=np.concatenate([part.words for part in held]),
        sizes=np.concatenate([part.sizes for part in held]),
        references=np.concatenate([part.references for part in held]),
        flags=np.concatenate([part.flags for part in held]),
        counts=counts,
        rule_selected=selected,
        keeping=frozenset().union(*(part.keeping for part in held)),
        undecidable=sum(part.undecidable for part in held),
    )


def _groups(rows: Words) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.uint64]]:
    """An order that brings equal digests together, where each group starts in it, and the keys in that order."""
    key = keys(rows)
    order = np.argsort(key)
    key = key[order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = key[1:] != key[:-1]
    differ = np.any(rows[order[1:]] != rows[order[:-1]], axis=1)
    if np.any(differ & ~new[1:]):  # two digests of one key: sort by all the words
        order = np.lexsort(rows.T)
        key = keys(rows)[order]
        new[1:] = np.any(rows[order[1:]] != rows[order[:-1]], axis=1)
    return order, np.flatnonzero(new), key


def _reduced(how: np.ufunc, column: Any, order: npt.NDArray[np.intp], starts: npt.NDArray[np.intp]) -> Any:
    """One value for each group of equal digests."""
    return how.reduceat(column[order], starts) if len(starts) else column


def _sum(sizes: npt.NDArray[np.int64]) -> int:
    """Exact, however large: halves are added apart, so that no sum overflows."""
    return (int((sizes >> 32).sum()) << 32) + int((sizes & 0xFFFFFFFF).sum())


def add(one: Totals, other: Totals) -> Totals:
    """Totals of two parts of a registry."""
    return Totals(**{name: getattr(one, name) + getattr(other, name) for name in Totals.__struct_fields__})
