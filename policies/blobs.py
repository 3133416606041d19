"""The blobs of one repository in compact columns: which images name which blobs, and how large the blobs are.

`Blobs.add` reads the records of images once and does not keep them.
"""

import hashlib
from array import array
from binascii import unhexlify
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import chain, count

import numpy as np
import numpy.typing as npt

from policies.image import Blob, Image

DigestRows = npt.NDArray[np.uint64]  # a digest is a row of four words
Sizes = npt.NDArray[np.int64]  # bytes
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)
_LENGTH = 71  # sha256: and 64 digits
_LINE_START = np.frombuffer(b"\nsha256:", dtype=np.uint64)


class Blobs:
    """The blobs that the images of a repository name. An image may have more than one row."""

    def __init__(self) -> None:
        self._number: defaultdict[str, int] = defaultdict(
            count().__next__
        )  # of each digest; a new digest gets the next number
        self._rows: list[str] = []  # the image's digest of each row
        self._lengths = array("i")  # how many of the mentions below belong to each row
        self._mentioned = array("i")  # numbers
        self._sizes = array("q")  # bytes reported with each mention

    def add(self, rows: Sequence[Image]) -> None:
        """Add the blobs of these images."""
        named = [blobs_of(row) for row in rows]
        blobs = list(chain.from_iterable(named))
        number = self._number
        self._rows += [row.digest for row in rows]
        self._lengths.extend(map(len, named))
        self._mentioned.fromlist([number[blob.digest] for blob in blobs])
        self._sizes.fromlist([blob.size for blob in blobs])

    @property
    def digest_rows(self) -> DigestRows:
        """The digests, each once; the number of a digest is its row."""
        return self._packed[0]

    @property
    def odd(self) -> tuple[str, ...]:
        """The digests that are not sha256: and 64 digits."""
        return self._packed[1]

    @cached_property
    def sizes(self) -> Sizes:
        """Bytes of each digest. Of different reported sizes the smallest counts: no plan promises too many bytes."""
        mentioned, reported = np.array(self._mentioned), np.array(self._sizes)
        smallest = np.empty(len(self._number), dtype=np.int64)
        smallest[mentioned] = reported
        if (smallest[mentioned] != reported).any():
            np.minimum.at(smallest, mentioned, reported)
        return smallest

    def of(self, image: Image) -> frozenset[int]:
        """The numbers of the blobs that an image names. Each number is a row of `digest_rows`. Empty: no row of this
        image was added. Call it after the last `add`: the columns are made once.
        """
        row = self._row_of.get(image.digest)
        if row is None:
            return frozenset()
        numbers = self._mentions[1]
        return frozenset(numbers[self._starts[row] : self._starts[row + 1]].tolist())

    def counted(self, deleted: Collection[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """For each number: how many deleted images name the blob, and whether a kept image names it. `deleted`: digests
        of images; all others are kept. Each image counts once, however often it names the blob. Call it after the last
        `add`: the columns are made once.
        """
        rows, numbers = self._mentions
        is_deleted = np.fromiter([digest in deleted for digest in self._rows], dtype=np.bool_, count=len(self._rows))
        by_deleted = is_deleted[rows]
        references = np.bincount(numbers[by_deleted], minlength=len(self.sizes))
        return references, np.bincount(numbers[~by_deleted], minlength=len(self.sizes)) > 0

    @cached_property
    def _packed(self) -> tuple[DigestRows, tuple[str, ...]]:
        return digest_rows_and_odd(list(self._number))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """The first row of each image."""
        return {digest: row for row, digest in reversed(list(enumerate(self._rows)))}

    @cached_property
    def _starts(self) -> list[int]:
        """The start of each row's mentions, and the end of the last."""
        starts: list[int] = np.searchsorted(self._mentions[0], np.arange(len(self._rows) + 1)).tolist()
        return starts

    @cached_property
    def _mentions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Each image's mention of each blob, once: the first row of the image, the number of the blob; sorted."""
        naming = np.repeat(np.arange(len(self._rows)), self._lengths)
        if len(set(self._rows)) < len(self._rows):  # rows of one image become one
            naming = np.array([self._row_of[digest] for digest in self._rows])[naming]
        pairs = naming << 32 | np.array(self._mentioned, dtype=np.int64)
        pairs.sort()
        once = np.ones(len(pairs), dtype=np.bool_)
        np.not_equal(pairs[1:], pairs[:-1], out=once[1:])
        pairs = pairs[once]
        return pairs >> 32, pairs & 0xFFFFFFFF


def blobs_of(image: Image) -> tuple[Blob, ...]:
    """Config and layers in manifest order; a manifest may name a blob twice."""
    return image.layers if image.config is None else (image.config, *image.layers)


def keys(rows: DigestRows) -> npt.NDArray[np.uint64]:
    """One 64-bit word for each digest. Equal digests have equal words. The words of different digests nearly always
    differ, even of invented digests; only a comparison of the whole rows proves that two digests are equal.
    """
    mixed: npt.NDArray[np.uint64] = rows[:, 0] * _MIX[0]
    for word in (1, 2, 3):
        mixed += rows[:, word] * _MIX[word]
    return mixed ^ (mixed >> np.uint64(29))


def groups(rows: DigestRows) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """An order, by keys, in which equal digests are adjacent, and the start of each group of equal digests."""
    key = keys(rows)
    order = np.argsort(key)
    key, ordered = key[order], rows[order]
    new = np.ones(len(rows), dtype=np.bool_)
    np.not_equal(key[1:], key[:-1], out=new[1:])
    same = ordered[1:] == ordered[:-1]
    differ = ~(same[:, 0] & same[:, 1] & same[:, 2] & same[:, 3])
    if np.any(differ & ~new[1:]):  # digests with the same key differ: sort by all words, the key first
        order = np.lexsort((*rows.T, keys(rows)))
        ordered = rows[order]
        new[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    return order, np.flatnonzero(new)


def digest_rows(digests: Sequence[str]) -> DigestRows:
    """Digests as rows of four words. The row of a digest that is not sha256 is the SHA-256 of its text."""
    return digest_rows_and_odd(digests)[0]


def digest_rows_and_odd(digests: Sequence[str]) -> tuple[DigestRows, tuple[str, ...]]:
    """Digests as `digest_rows`, and those that are not sha256: and 64 lower-case digits."""
    packed, odd = _all_packed(digests), list[str]()
    if packed is None:
        odd = [digest for digest in digests if _sha256(digest) is None]
        hashes = {digest: hashlib.sha256(digest.encode("utf-8", "surrogatepass")).digest() for digest in odd}
        packed = b"".join(hashes.get(digest) or _sha256(digest) or b"" for digest in digests)
    return np.frombuffer(packed, dtype=np.uint64).reshape(-1, 4), tuple(odd)


def _all_packed(digests: Sequence[str]) -> bytes | None:
    """The bytes of all digests, if all of them are sha256."""
    text = "\n".join(("", *digests)).encode("utf-8", "surrogatepass")
    if len(text) != (1 + _LENGTH) * len(digests):
        return None
    lines = np.frombuffer(text, dtype=np.uint64).reshape(-1, 9)  # nine words each; the first is the line start
    digits = lines[:, 1:].tobytes()
    if (lines[:, 0] != _LINE_START).any() or not (digits.islower() or digits.isdigit()):
        return None
    try:
        return unhexlify(digits)
    except ValueError:
        return None


def _sha256(digest: str) -> bytes | None:
    """The 32 bytes of a sha256 digest; None: it is another digest."""
    algorithm, _, digits = digest.partition(":")
    if algorithm == "sha256" and len(digest) == _LENGTH and set(digits) <= set("0123456789abcdef"):
        return bytes.fromhex(digits)
    return None
