"""The blobs of one repository in compact columns: which images name which, and how large they are.

Counted from an image's record while that is at hand; afterwards nothing here needs the record again.
"""

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import chain, count

import numpy as np
import numpy.typing as npt

from policies.image import Blob, Image

Words = npt.NDArray[np.uint64]  # rows of four: a digest
_LENGTH = 71  # sha256: and 64 digits
_PREFIX = np.frombuffer(b"sha256:", dtype=np.uint8)


class Blobs:
    """Takes the images of a repository in, then answers what they name. An image may come in more than one row."""

    def __init__(self) -> None:
        self._numbers: defaultdict[Blob, int] = defaultdict(count().__next__)  # a new blob gets the next number
        self._rows: list[str] = []  # of each row: the image's digest
        self._lengths = array("i")  # … and how many of the layers below are its own
        self._configs = array("i")  # … and the number of its config; -1: none
        self._layers = array("i")  # numbers of blobs

    def add(self, rows: Sequence[Image]) -> None:
        """Count the blobs of some images."""
        number_of = self._numbers.__getitem__
        layers = [row.layers for row in rows]
        self._rows += [row.digest for row in rows]
        self._lengths.extend(map(len, layers))
        self._layers.extend(map(number_of, chain.from_iterable(layers)))
        self._configs.extend([-1 if row.config is None else number_of(row.config) for row in rows])

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each digest; where two sizes were told, the smallest, so that no byte is promised in vain."""
        sizes = {blob.digest: blob.size for blob in self._numbers}
        if len(sizes) < len(self._numbers):
            for blob in self._numbers:
                sizes[blob.digest] = min(blob.size, sizes[blob.digest])
        return sizes

    def of(self, image: Image) -> frozenset[str]:
        """The digests that an image names."""
        rows, numbers = self._mentions
        row = self._row_of.get(image.digest, -1)
        start, end = np.searchsorted(rows, (row, row + 1))
        return frozenset(self._digests[number] for number in numbers[start:end].tolist())

    def counted(self, goes: Collection[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """For each digest, as `sizes` lists them: how many images that go name it, and whether one that stays does."""
        rows, numbers = self._mentions
        going = np.fromiter([digest in goes for digest in self._rows], dtype=np.bool_, count=len(self._rows))
        by_going = going[rows]
        references = np.bincount(numbers[by_going], minlength=len(self.sizes))
        return references, np.bincount(numbers[~by_going], minlength=len(self.sizes)) > 0

    @cached_property
    def _digests(self) -> list[str]:
        return list(self.sizes)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """The first row of each image."""
        return {digest: row for row, digest in reversed(list(enumerate(self._rows)))}

    @cached_property
    def _mentions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every mention of a blob, once an image: the first row of the image, the number of the digest; sorted."""
        rows = np.arange(len(self._rows))
        configs = np.array(self._configs, dtype=np.int64)
        naming = np.concatenate([np.repeat(rows, self._lengths), rows[configs >= 0]])
        numbers = np.concatenate([np.array(self._layers, dtype=np.int64), configs[configs >= 0]])
        if len(self._row_of) < len(rows):  # rows of one image become one
            naming = np.array([self._row_of[digest] for digest in self._rows])[naming]
        if len(self.sizes) < len(self._numbers):  # blobs of one digest become one
            place = {digest: number for number, digest in enumerate(self.sizes)}
            numbers = np.array([place[blob.digest] for blob in self._numbers])[numbers]
        pairs = naming << 32 | numbers
        pairs.sort()
        once = np.ones(len(pairs), dtype=np.bool_)
        np.not_equal(pairs[1:], pairs[:-1], out=once[1:])
        pairs = pairs[once]
        return pairs >> 32, pairs & 0xFFFFFFFF


def words(digests: Sequence[str]) -> Words:
    """Digests as rows of four words; one that is not sha256 stands for itself by the SHA-256 of its text."""
    packed = _all_packed(digests)
    if packed is None:
        packed = b"".join(map(_packed, digests))
    return np.frombuffer(packed, dtype=np.uint64).reshape(-1, 4)


def _all_packed(digests: Sequence[str]) -> bytes | None:
    """`_packed` of all of them at once, where all are sha256."""
    text = "".join(digests).encode("utf-8", "surrogatepass")
    if len(text) != _LENGTH * len(digests) or not set(map(len, digests)) <= {_LENGTH}:
        return None
    letters = np.frombuffer(text, dtype=np.uint8).reshape(-1, _LENGTH)
    if (letters[:, :7] != _PREFIX).any():
        return None
    digits = letters[:, 7:].tobytes()
    try:
        packed = bytes.fromhex(digits.decode())
    except ValueError:
        return None
    return packed if len(packed) == 32 * len(digests) and digits == digits.lower() else None


def _packed(digest: str) -> bytes:
    algorithm, _, digits = digest.partition(":")
    if algorithm == "sha256" and len(digest) == _LENGTH and set(digits) <= set("0123456789abcdef"):
        return bytes.fromhex(digits)
    return hashlib.sha256(digest.encode("utf-8", "surrogatepass")).digest()
