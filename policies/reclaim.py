"""Exact bytes: the blobs that no remaining image of the registry references.

Facts that span repositories are compact columns: a row for each blob of each repository. A digest is four 64-bit
words. Rows are sorted by one key that mixes the four words; where different digests have the same key, all four words
are sorted.
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

References = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.uint8]
_KEPT, _COUNTED = 1, 2


@dataclass(frozen=True)
class RepositoryTotals:
    """The blobs and counts of a decided repository, from which `PlanSummaryBuilder` adds up the plan."""

    digest_rows: DigestRows
    sizes: Sizes
    references: npt.NDArray[np.int64]  # deletions that name the blob
    flags: Flags  # _KEPT: a kept image names it; _COUNTED: in a readable repository
    counts: Totals = field(default_factory=Totals)  # without the bytes of blobs
    rule_selected: Mapping[str, int] = field(default_factory=dict)  # images that a rule selects, before keeps
    keeping: frozenset[str] = frozenset()  # keep rules that match an image
    undecidable: int = 0  # images whose rank in a count is unknown


_SHARE_BITS = 4  # of the keys: the digests are added up a sixteenth at a time


def repository_totals(
    blobs: Blobs,
    deleted: Collection[str],
    *,
    counts: Totals,
    rule_selected: Mapping[str, int],
    keeping: frozenset[str] = frozenset(),
    undecidable: int = 0,
    readable: bool = True,
) -> RepositoryTotals:
    """The totals of one repository, of which the digests `deleted` are deleted and the others kept."""
    references, kept = blobs.counted(deleted)
    return RepositoryTotals(
        digest_rows=blobs.digest_rows,
        sizes=blobs.sizes,
        references=references,
        flags=kept * np.uint8(_KEPT) | np.uint8(_COUNTED if readable else 0),
        counts=counts,
        rule_selected=rule_selected,
        keeping=keeping,
        undecidable=undecidable,
    )


@dataclass(frozen=True)
class PlanSummary:
    """The totals of all decided repositories, each blob once."""

    totals: Totals
    rule_selected: Mapping[str, int]
    keeping: frozenset[str]
    undecidable: int
    _words: DigestRows = field(repr=False)  # of the blobs that only deletions reference, sorted by key
    _sizes: Sizes = field(repr=False)
    _references: References = field(repr=False)

    def freed_blobs(self, image: Image) -> dict[int, str]:
        """The blobs of an image that only deletions reference: their numbers, ascending, each with its digest. The
        registry can free such a blob once all these deletions are done. A number belongs to this summary alone. Empty,
        too, if the summary was built with `number_blobs` False.
        """
        digests = list({blob.digest for blob in blobs_of(image)})
        numbers = [self._numbers.get(tuple(row)) for row in digest_rows(digests).tolist()]
        return dict(sorted((n, digest) for n, digest in zip(numbers, digests, strict=True) if n is not None))

    def size(self, number: int) -> int:
        """Bytes of the blob with that number."""
        return int(self._sizes[number])

    def references(self, number: int) -> int:
        """How many deletions reference the blob; each image of each repository counts once."""
        return int(self._references[number])

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): number for number, row in enumerate(self._words.tolist())}


class PlanSummaryBuilder:
    """Adds up decided repositories, in any order.

    The builder packs their blobs and unites a sixteenth of all digests at a time: so a million images need little more
    memory than the rows themselves. `number_blobs` False: `PlanSummary.freed_blobs` is not needed.
    """

    def __init__(self, *, number_blobs: bool = True) -> None:
        self._number_blobs = number_blobs
        self._words, self._sizes, self._references, self._flags = (bytearray() for _ in range(4))
        self._counts = Totals()
        self._selected: Counter[str] = Counter()
        self._keeping: set[str] = set()
        self._undecidable = 0

    def add(self, totals: RepositoryTotals) -> None:
        """Add a repository. The builder keeps no reference to its columns."""
        self._counts = add(self._counts, totals.counts)
        for rule, count in totals.rule_selected.items():
            self._selected[rule] += count  # even if it is 0
        self._keeping |= totals.keeping
        self._undecidable += totals.undecidable
        self._words += totals.digest_rows.tobytes()
        self._sizes += totals.sizes.tobytes()
        self._references += totals.references.astype(np.uint32).tobytes()
        self._flags += totals.flags.tobytes()

    def build(self) -> "PlanSummary":
        """The summary, each blob once."""
        rows = np.frombuffer(self._words, dtype=np.uint64).reshape(-1, 4)
        sizes = np.frombuffer(self._sizes, dtype=np.int64)
        references = np.frombuffer(self._references, dtype=np.uint32)
        flags = np.frombuffer(self._flags, dtype=np.uint8)
        share_of = (keys(rows) >> np.uint64(64 - _SHARE_BITS)).astype(np.uint8)
        counts, shares = self._counts, []
        for share in range(1 << _SHARE_BITS):
            which = np.flatnonzero(share_of == share)
            blob_bytes, freed = _freed(
                rows[which], sizes[which], references[which], flags[which], number_blobs=self._number_blobs
            )
            counts = add(counts, blob_bytes)
            shares.append(freed)
        return PlanSummary(
            counts,
            dict(self._selected),
            frozenset(self._keeping),
            self._undecidable,
            np.concatenate([rows for rows, _, _ in shares]),
            np.concatenate([sizes for _, sizes, _ in shares]),
            np.concatenate([references for _, _, references in shares]),
        )


Freed = tuple[DigestRows, Sizes, References]


def _freed(
    rows: DigestRows, sizes: Sizes, references: References, flags: Flags, *, number_blobs: bool
) -> tuple[Totals, Freed]:
    """The totals of a share of all blobs, and (`number_blobs`) the freed blobs, each once, sorted by key."""
    once = _unite(rows, sizes, references, flags)
    freed, counted = once & (flags & _KEPT == 0), once & (flags & _COUNTED != 0)
    which = np.flatnonzero(freed if number_blobs else [])
    which = which[groups(rows[which])[0]]
    totals = Totals(reclaimable_bytes=_sum(sizes[freed]), registry_bytes=_sum(sizes[counted]))
    return totals, (rows[which], sizes[which], references[which])


def _unite(rows: DigestRows, sizes: Sizes, references: References, flags: Flags) -> npt.NDArray[np.bool_]:
    """Add all rows of a blob up in its first row; a mask of these first rows. Few blobs have more than one row."""
    key = keys(rows)
    ordered = np.sort(key)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    once = np.ones(len(rows), dtype=np.bool_)
    if not len(repeated):
        return once
    place = np.searchsorted(repeated, key)
    place[place == len(repeated)] = 0
    repeats = np.flatnonzero(repeated[place] == key)
    order, starts = groups(rows[repeats])
    repeats = repeats[order]
    first = repeats[starts]
    sizes[first] = np.minimum.reduceat(sizes[repeats], starts)
    references[first] = np.add.reduceat(references[repeats], starts)
    flags[first] = np.bitwise_or.reduceat(flags[repeats], starts)
    once[repeats] = False
    once[first] = True
    return once


def _sum(sizes: npt.NDArray[np.int64]) -> int:
    """The exact sum: the upper and the lower halves are added separately, so that no sum overflows."""
    return (int((sizes >> 32).sum()) << 32) + int((sizes & 0xFFFFFFFF).sum())


def add(left: Totals, right: Totals) -> Totals:
    """The totals of two parts of a registry."""
    return Totals(**{name: getattr(left, name) + getattr(right, name) for name in Totals.__struct_fields__})
