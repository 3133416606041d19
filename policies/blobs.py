"""The blobs of one repository in compact columns: which images name which, and how large they are.

Counted from an image's record while that is at hand; afterwards nothing here needs the record again.
"""

import hashlib
from array import array
from binascii import unhexlify
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import chain, count, islice

import numpy as np
import numpy.typing as npt

from policies.image import Blob, Image

Words = npt.NDArray[np.uint64]  # rows of four: a digest
Sizes = npt.NDArray[np.int64]  # bytes
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)
_LENGTH = 71  # sha256: and 64 digits
_LINE_START = np.frombuffer(b"\nsha256:", dtype=np.uint64)


class Blobs:
    """Takes the images of a repository in, then answers what they name. An image may come in more than one row."""

    def __init__(self) -> None:
        self._known: defaultdict[Blob, int] = defaultdict(count().__next__)  # a new blob gets the next number
        self._digests: list[str] = []  # of the blobs, in that order
        self._told = array("q")  # … and their sizes
        self._rows: list[str] = []  # of each row: the image's digest
        self._lengths = array("i")  # … and how many of the layers below are its own
        self._configs = array("i")  # … and the number of its config; -1: none
        self._layers = array("i")  # numbers of blobs

    def add(self, rows: Sequence[Image]) -> None:
        """Count the blobs of some images."""
        before = len(self._known)
        number_of = self._known.__getitem__
        layers = [row.layers for row in rows]
        self._rows += [row.digest for row in rows]
        self._lengths.extend(map(len, layers))
        self._layers.extend(map(number_of, chain.from_iterable(layers)))
        self._configs.extend([-1 if row.config is None else number_of(row.config) for row in rows])
        new = list(islice(reversed(self._known), len(self._known) - before))[::-1]
        self._digests += [blob.digest for blob in new]
        self._told.extend([blob.size for blob in new])

    @cached_property
    def words(self) -> Words:
        """The digests, each once; the numbers below are places in this."""
        return self._distinct[0]

    @cached_property
    def sizes(self) -> Sizes:
        """Bytes of each digest; where two sizes were told, the smallest, so that no byte is promised in vain."""
        return self._distinct[1]

    @cached_property
    def odd(self) -> tuple[str, ...]:
        """The digests that are not sha256: and 64 digits; found out with `words`, at no cost of its own."""
        return self._packed[1]

    def of(self, image: Image) -> frozenset[int]:
        """The numbers of what an image names."""
        row = self._row_of.get(image.digest)
        if row is None:
            return frozenset()
        numbers = self._mentions[1]
        return frozenset(numbers[self._starts[row] : self._starts[row + 1]].tolist())

    def counted(self, goes: Collection[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """For each number: how many images that go name it, and whether one that stays does."""
        rows, numbers = self._mentions
        going = np.fromiter([digest in goes for digest in self._rows], dtype=np.bool_, count=len(self._rows))
        by_going = going[rows]
        references = np.bincount(numbers[by_going], minlength=len(self.sizes))
        return references, np.bincount(numbers[~by_going], minlength=len(self.sizes)) > 0

    @cached_property
    def _packed(self) -> tuple[Words, tuple[str, ...]]:
        return words_and_odd(self._digests)

    @cached_property
    def _distinct(self) -> tuple[Words, Sizes, npt.NDArray[np.int64] | None]:
        """Words and sizes of each digest, and the place of each blob among them where some share one."""
        rows = self._packed[0]
        sizes = np.array(self._told, dtype=np.int64)
        key = np.sort(keys(rows))
        if not (key[1:] == key[:-1]).any():  # no two keys are equal, so no two digests are
            return rows, sizes, None
        distinct, place = np.unique(rows, axis=0, return_inverse=True)
        smallest = np.full(len(distinct), np.iinfo(np.int64).max)
        np.minimum.at(smallest, place, sizes)
        return distinct, smallest, place

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """The first row of each image."""
        return {digest: row for row, digest in reversed(list(enumerate(self._rows)))}

    @cached_property
    def _starts(self) -> list[int]:
        """Where the mentions of each row begin, and the last end."""
        starts: list[int] = np.searchsorted(self._mentions[0], np.arange(len(self._rows) + 1)).tolist()
        return starts

    @cached_property
    def _mentions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every mention of a digest, once an image: the first row of the image, the number of the digest; sorted."""
        rows = np.arange(len(self._rows))
        configs = np.array(self._configs, dtype=np.int64)
        naming = np.concatenate([np.repeat(rows, self._lengths), rows[configs >= 0]])
        numbers = np.concatenate([np.array(self._layers, dtype=np.int64), configs[configs >= 0]])
        if len(set(self._rows)) < len(rows):  # rows of one image become one
            naming = np.array([self._row_of[digest] for digest in self._rows])[naming]
        place = self._distinct[2]
        if place is not None:  # blobs of one digest become one
            numbers = place[numbers]
        pairs = naming << 32 | numbers
        pairs.sort()
        once = np.ones(len(pairs), dtype=np.bool_)
        np.not_equal(pairs[1:], pairs[:-1], out=once[1:])
        pairs = pairs[once]
        return pairs >> 32, pairs & 0xFFFFFFFF


def keys(rows: Words) -> npt.NDArray[np.uint64]:
    """One word for each digest: nearly always different for different digests, however digests were made up."""
    mixed: npt.NDArray[np.uint64] = rows[:, 0] * _MIX[0]
    for word in (1, 2, 3):
        mixed += rows[:, word] * _MIX[word]
    return mixed ^ (mixed >> np.uint64(29))


def groups(rows: Words) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """An order that brings equal digests together, by their keys, and where each group starts in it."""
    key = keys(rows)
    order = np.argsort(key)
    key, ordered = key[order], rows[order]
    new = np.ones(len(rows), dtype=np.bool_)
    np.not_equal(key[1:], key[:-1], out=new[1:])
    same = ordered[1:] == ordered[:-1]
    differ = ~(same[:, 0] & same[:, 1] & same[:, 2] & same[:, 3])
    if np.any(differ & ~new[1:]):  # two digests of one key: sort by all the words, the key first
        order = np.lexsort((*rows.T, keys(rows)))
        ordered = rows[order]
        new[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    return order, np.flatnonzero(new)


def words(digests: Sequence[str]) -> Words:
    """Digests as rows of four words; one that is not sha256 stands for itself by the SHA-256 of its text."""
    return words_and_odd(digests)[0]


def words_and_odd(digests: Sequence[str]) -> tuple[Words, tuple[str, ...]]:
    """Digests as `words`, and those that are not sha256: and 64 digits in small letters."""
    packed, odd = _all_packed(digests), tuple[str, ...]()
    if packed is None:
        odd = tuple(one for one in digests if _sha256(one) is None)
        packed = b"".join(_sha256(one) or _sha256_of(one) for one in digests)
    return np.frombuffer(packed, dtype=np.uint64).reshape(-1, 4), odd


def _all_packed(digests: Sequence[str]) -> bytes | None:
    """`_sha256` of all of them at once, where all are of that kind."""
    text = "\n".join(("", *digests)).encode("utf-8", "surrogatepass")
    if len(text) != (1 + _LENGTH) * len(digests):
        return None
    lines = np.frombuffer(text, dtype=np.uint64).reshape(-1, 9)  # nine words each, the first always the same
    digits = lines[:, 1:].tobytes()
    if (lines[:, 0] != _LINE_START).any() or not (digits.islower() or digits.isdigit()):
        return None
    try:
        return unhexlify(digits)
    except ValueError:
        return None


def _sha256(digest: str) -> bytes | None:
    """The 32 bytes that a digest of the usual kind says."""
    algorithm, _, digits = digest.partition(":")
    if algorithm == "sha256" and len(digest) == _LENGTH and set(digits) <= set("0123456789abcdef"):
        return bytes.fromhex(digits)
    return None


def _sha256_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
