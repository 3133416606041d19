"""Reads an inventory saved as NDJSON: its head, then its images in blocks, a repository at a time.

A file is grouped if the lines of each repository are contiguous; other files are read with an index of their lines.
"""

import codecs
import os
from collections import deque
from collections.abc import Collection, Iterator, Sized
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

from policies.blobs import Blobs
from policies.graph import Graph, GraphBuilder
from policies.image import Image, Unreadable
from worker.planning.inventory_lines import NAME, WRONG, are_sound, decoder, head_of, is_digest, mistake_in

BLOCK = 128 * 1024  # bytes decoded at once: small enough for the processor's cache
LONGEST = 64 << 20  # bytes of a line; a longer line is cut there, and so is no JSON

Group = tuple[str, list[Image]]  # a path, and contiguous images of that repository


@dataclass(eq=False)
class InventoryError(Exception):
    """An invalid line of an inventory file."""

    exit_code = 2

    path: str
    line: int  # the first is 1
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


class NotGroupedError(Exception):
    """The lines of a repository are not contiguous: the file must be indexed first."""


class _ImageName(msgspec.Struct):
    name: str = ""


_names = msgspec.json.Decoder(_ImageName)


@dataclass(slots=True)
class InventoryFile:
    """An inventory file and the facts of its head."""

    path: Path
    start: int  # offset of the first image
    size: int
    stamp: tuple[int, ...]  # shows whether the file was changed between two reads
    unreadable: tuple[Unreadable, ...] = ()
    block: int = BLOCK
    _places: dict[str, npt.NDArray[np.int64]] | None = None  # by repository: offset and length of each line

    def _opened(self) -> BinaryIO:
        file = self.path.open("rb")
        if _stamp(file) != self.stamp:
            file.close()
            raise InventoryError(str(self.path), 1, "the file was changed while it was read; plan it again")
        return file

    def read(self, only: Collection[str] | None = None) -> Iterator[Graph]:
        """Each repository once, or `only` those with these paths. Raises InventoryError, NotGroupedError."""
        with self._opened() as file:
            for path, groups in self._grouped(file) if self._places is None else self._indexed(file, only):
                if only is not None and path not in only:
                    deque(groups, maxlen=0)
                    continue
                builder = GraphBuilder(path, keep_blobs=False)  # only their number is needed
                for images in groups:
                    builder.add(images)
                graph = builder.graph()
                if not all(map(is_digest, (*graph.digests[1], *graph.blobs.odd))):
                    self._refuse_digest(file)
                yield graph

    def index(self) -> None:
        """Find the lines of each repository, so that `read` can read it. Raises InventoryError."""
        numbers: dict[str, int] = {}
        repositories, places = [np.empty(0, dtype=np.int32)], [np.empty((0, 2), dtype=np.int64)]
        with self._opened() as file:
            for offset, block in self._blocks(file):
                lines = block.splitlines(keepends=True)
                lengths = np.fromiter(map(len, lines), dtype=np.int64, count=len(lines))
                filled = np.fromiter([bool(line.strip()) for line in lines], dtype=np.bool_, count=len(lines))
                try:
                    names = [image.name for image in _names.decode_lines(block)]
                except WRONG:
                    names = []
                if len(names) != int(filled.sum()):
                    self._decoded(offset, block)  # raises the error
                offsets = offset + np.cumsum(lengths) - lengths
                places.append(np.stack([offsets, lengths], axis=1)[filled])
                indexes = [numbers.setdefault(_repository_of(name), len(numbers)) for name in names]
                repositories.append(np.array(indexes, dtype=np.int32))
        line_repositories = np.concatenate(repositories)
        rows = np.concatenate(places)[np.argsort(line_repositories, kind="stable")]
        ends = np.cumsum(np.bincount(line_repositories, minlength=len(numbers)))[:-1]
        self._places = dict(zip(numbers, np.split(rows, ends), strict=True)) if numbers else {}

    def _grouped(self, file: BinaryIO) -> Iterator[tuple[str, Iterator[list[Image]]]]:
        """Contiguous groups of one repository as one. The caller must read each repository before the next."""
        seen: set[str] = set()
        for path, groups in groupby(self._groups(file), key=lambda group: group[0]):
            if path in seen:
                raise NotGroupedError
            seen.add(path)
            yield path, (images for _, images in groups)

    def _groups(self, file: BinaryIO) -> Iterator[Group]:
        for offset, block in self._blocks(file):
            images = self._decoded(offset, block)
            if images and images[0].name == images[-1].name and len(set(map(NAME, images))) == 1:
                yield _repository_of(images[0].name), images
                continue
            for name, group in groupby(images, key=NAME):
                yield _repository_of(name), list(group)

    def _indexed(self, file: BinaryIO, only: Collection[str] | None) -> Iterator[tuple[str, Iterator[list[Image]]]]:
        def read(offset: int, length: int) -> list[Image]:
            file.seek(offset)
            return self._decoded(offset, file.read(length))

        for path, places in (self._places or {}).items():
            if only is None or path in only:
                yield path, (read(offset, length) for offset, length in _stretches(places).tolist())

    def _decoded(self, offset: int, block: bytes) -> list[Image]:
        """The images in a block of whole lines at `offset`. Raises InventoryError."""
        try:
            images = decoder.decode_lines(block)
            sound = are_sound(images) and _one_image_a_line(images, block)
        except WRONG:
            sound = False
        if not sound:
            self._refuse(offset, block)
        return images

    def _refuse_digest(self, file: BinaryIO) -> None:
        """Raises InventoryError for the first image or blob with an invalid digest."""
        for offset, block in self._blocks(file):
            images = self._decoded(offset, block)
            blobs = Blobs()
            blobs.add(images)
            if not all(map(is_digest, (*(image.digest for image in images), *blobs.odd))):
                self._refuse(offset, block)

    def _refuse(self, offset: int, block: bytes) -> NoReturn:
        """Raises InventoryError for the first invalid line of a block."""
        with self._opened() as file:
            number = 1 + sum(part.count(b"\n") for _, part in _blocks(file, 0, offset))
        for before, line in enumerate(block.split(b"\n")):
            if line.strip() and (what := mistake_in(line)) is not None:
                raise InventoryError(str(self.path), number + before, what)
        raise InventoryError(str(self.path), number, "not one JSON object a line")

    def _blocks(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        return _blocks(file, self.start, self.size, self.block)


def open_inventory(path: Path, block: int = BLOCK) -> InventoryFile:
    """Open an inventory file and read its head, if it has one. Raises InventoryError, OSError."""
    with path.open("rb") as file:
        first = file.readline(LONGEST)
        size, stamp = file.seek(0, 2), _stamp(file)
    mark = len(codecs.BOM_UTF8) if first.startswith(codecs.BOM_UTF8) else 0
    if not first[mark:].strip():
        return InventoryFile(path, mark, size, stamp, block=block)
    try:
        unreadable = head_of(first[mark:])
    except ValueError as error:
        raise InventoryError(str(path), 1, str(error)) from error
    start = mark if unreadable is None else len(first)
    return InventoryFile(path, start, size, stamp, unreadable or (), block)


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    about = os.fstat(file.fileno())
    return about.st_ino, about.st_size, about.st_mtime_ns


def _repository_of(name: str) -> str:
    """The repository's path in an image's name, after the registry's id."""
    return name.partition("/")[2] or name


def _one_image_a_line(images: Sized, block: bytes) -> bool:
    """Whether every line that is not blank is one image: msgspec also accepts two on a line, or one on two lines."""
    ends = np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))  # five times as fast as bytes.count
    lines = ends + (not block.endswith(b"\n"))
    return len(images) == lines or len(images) == sum(1 for line in block.splitlines() if line.strip())


def _blocks(file: BinaryIO, start: int, end: int, size: int = BLOCK) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, each with its offset."""
    file.seek(start)
    at = start
    while block := file.read(min(size, end - at)):
        if not block.endswith(b"\n"):
            block += file.readline(min(LONGEST, end - at - len(block)))
        yield at, block
        at += len(block)


def _stretches(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Offset and length of each stretch of contiguous lines."""
    apart = np.ones(len(places), dtype=np.bool_)
    apart[1:] = places[1:, 0] != places[:-1].sum(axis=1)
    starts = np.flatnonzero(apart)
    return np.stack([places[starts, 0], np.add.reduceat(places[:, 1], starts)], axis=1)
