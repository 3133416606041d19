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

from policies.blobs import Blobs, DigestRows, Sizes, blobs_of, digest_rows, groups, keys
from policies.image import Image
from policies.limits import Totals

_KEPT, _COUNTED = 1, 2


@dataclass(frozen=True)
class RepositoryTotals:
    """What of one or more decided repositories the totals of the registry need."""

    digest_rows: DigestRows
    sizes: Sizes
    references: npt.NDArray[np.int64]  # deletions that name the blob
    flags: npt.NDArray[np.uint8]  # _KEPT: something that stays names it; _COUNTED: in a readable repository
    counts: Totals = field(default_factory=Totals)  # without the bytes of blobs
    rule_selected: Mapping[str, int] = field(default_factory=dict)  # images that a rule selects, before keeps
    keeping: frozenset[str] = frozenset()  # keep rules that keep something
    undecidable: int = 0  # images whose rank in some count nobody can tell


_SHARE_BITS = 4  # of the keys: the digests are added up a sixteenth at a time


def repository_totals(
    blobs: Blobs,
    goes: Collection[str],
    *,
    counts: Totals,
    rule_selected: Mapping[str, int],
    keeping: frozenset[str] = frozenset(),
    undecidable: int = 0,
    readable: bool = True,
) -> RepositoryTotals:
    """The columns of one repository, of whose images `goes` go and the others stay."""
    references, stays = blobs.counted(goes)
    return RepositoryTotals(
        digest_rows=blobs.digest_rows,
        sizes=blobs.sizes,
        references=references,
        flags=stays * np.uint8(_KEPT) | np.uint8(_COUNTED if readable else 0),
        counts=counts,
        rule_selected=rule_selected,
        keeping=keeping,
        undecidable=undecidable,
    )


@dataclass(frozen=True)
class PlanSummary:
    """What all decided repositories come to: each blob once."""

    totals: Totals
    rule_selected: Mapping[str, int]
    keeping: frozenset[str]
    undecidable: int
    _words: DigestRows = field(repr=False)  # of the blobs that only deletions reference, sorted by key
    _sizes: Sizes = field(repr=False)
    _references: npt.NDArray[np.uint32] = field(repr=False)

    def numbered(self, image: Image) -> dict[int, str]:
        """The numbers of those of its blobs that only deletions reference, ascending, each with its digest."""
        digests = list({blob.digest for blob in blobs_of(image)})
        numbers = [self._numbers.get(tuple(row)) for row in digest_rows(digests).tolist()]
        return dict(sorted((n, digest) for n, digest in zip(numbers, digests, strict=True) if n is not None))

    def size(self, number: int) -> int:
        """Bytes of a blob."""
        return int(self._sizes[number])

    def references(self, number: int) -> int:
        """How many deletions reference a blob, each image of each repository once."""
        return int(self._references[number])

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): number for number, row in enumerate(self._words.tolist())}


class PlanSummaryBuilder:
    """Adds up decided repositories, in whatever order they come.

    Their blobs lie packed, side by side, and are closed a sixteenth of all digests at a time: so a million images need
    little more memory than the rows themselves. `numbered` False: nobody will ask which blobs a deletion frees.
    """

    def __init__(self, *, numbered: bool = True) -> None:
        self._numbered = numbered
        self._words, self._sizes, self._references, self._flags = (bytearray() for _ in range(4))
        self._counts = Totals()
        self._selected: Counter[str] = Counter()
        self._keeping: set[str] = set()
        self._undecidable = 0

    def add(self, part: RepositoryTotals) -> None:
        """Take a repository in; nothing of it is needed any more."""
        self._counts = add(self._counts, part.counts)
        for rule, count in part.rule_selected.items():
            self._selected[rule] += count  # also where it is 0
        self._keeping |= part.keeping
        self._undecidable += part.undecidable
        self._words += part.digest_rows.tobytes()
        self._sizes += part.sizes.tobytes()
        self._references += part.references.astype(np.uint32).tobytes()
        self._flags += part.flags.tobytes()

    def close(self) -> "PlanSummary":
        """Each blob once."""
        rows = np.frombuffer(self._words, dtype=np.uint64).reshape(-1, 4)
        sizes = np.frombuffer(self._sizes, dtype=np.int64)
        references = np.frombuffer(self._references, dtype=np.uint32)
        flags = np.frombuffer(self._flags, dtype=np.uint8)
        share_of = (keys(rows) >> np.uint64(64 - _SHARE_BITS)).astype(np.uint8)
        totals, shares = self._counts, []
        for share in range(1 << _SHARE_BITS):
            which = np.flatnonzero(share_of == share)
            blobs, freed = _freed(rows[which], sizes[which], references[which], flags[which], numbered=self._numbered)
            totals = add(totals, blobs)
            shares.append(freed)
        return PlanSummary(
            totals,
            dict(self._selected),
            frozenset(self._keeping),
            self._undecidable,
            np.concatenate([one for one, _, _ in shares]),
            np.concatenate([one for _, one, _ in shares]),
            np.concatenate([one for _, _, one in shares]),
        )


Freed = tuple[DigestRows, Sizes, npt.NDArray[np.uint32]]


def _freed(
    rows: DigestRows, sizes: Sizes, references: npt.NDArray[np.uint32], flags: npt.NDArray[np.uint8], *, numbered: bool
) -> tuple[Totals, Freed]:
    """What the blobs of a share come to, and (`numbered`) those that only deletions reference, once, sorted by key."""
    once = _unite(rows, sizes, references, flags)
    freed, counted = once & (flags & _KEPT == 0), once & (flags & _COUNTED != 0)
    which = np.flatnonzero(freed if numbered else [])
    which = which[groups(rows[which])[0]]
    totals = Totals(reclaimable_bytes=_sum(sizes[freed]), registry_bytes=_sum(sizes[counted]))
    return totals, (rows[which], sizes[which], references[which])


def _unite(
    rows: DigestRows, sizes: Sizes, references: npt.NDArray[np.uint32], flags: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """Have one row of each blob speak for all of them; which rows do. Few blobs have more than one."""
    key = keys(rows)
    ordered = np.sort(key)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    once = np.ones(len(rows), dtype=np.bool_)
    if not len(repeated):
        return once
    place = np.searchsorted(repeated, key)
    place[place == len(repeated)] = 0
    several = np.flatnonzero(repeated[place] == key)
    order, starts = groups(rows[several])
    several = several[order]
    first = several[starts]
    sizes[first] = np.minimum.reduceat(sizes[several], starts)
    references[first] = np.add.reduceat(references[several], starts)
    flags[first] = np.bitwise_or.reduceat(flags[several], starts)
    once[several] = False
    once[first] = True
    return once


def _sum(sizes: npt.NDArray[np.int64]) -> int:
    """Exact, however large: halves are added apart, so that no sum overflows."""
    return (int((sizes >> 32).sum()) << 32) + int((sizes & 0xFFFFFFFF).sum())


def add(one: Totals, other: Totals) -> Totals:
    """Totals of two parts of a registry."""
    return Totals(**{name: getattr(one, name) + getattr(other, name) for name in Totals.__struct_fields__})
