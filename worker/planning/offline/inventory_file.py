"""Reads an inventory as NDJSON: its head, where it may be cut, and its images in blocks. Says which line is wrong."""

import codecs
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from msgspec import Struct

from policies.image import Image, Unreadable
from worker.planning.offline.lines import NAME, WRONG, are_sound, decoder, head_of, mistake_in

BLOCK = 128 * 1024  # bytes decoded at once: small enough to be still in the processor's cache when it is counted
LONGEST = 64 << 20  # bytes of a line; one that is longer is cut there, and so is no JSON


@dataclass(eq=False)
class InventoryError(Exception):
    """A line of an inventory file that cannot be understood."""

    exit_code = 2

    path: str
    line: int  # the first is 1
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"

    def __reduce__(self) -> tuple[type["InventoryError"], tuple[str, int, str]]:
        return InventoryError, (self.path, self.line, self.what)


class _Named(Struct):
    name: str = ""


_named = msgspec.json.Decoder(_Named)


@dataclass(frozen=True, slots=True)
class Inventory:
    """An inventory file, and what its head says."""

    path: Path
    start: int  # bytes: where the images begin
    size: int
    unreadable: tuple[Unreadable, ...] = ()


def open_inventory(path: Path) -> Inventory:
    """Reads the head, if there is one. Raises InventoryError, OSError."""
    with path.open("rb") as file:
        first = file.readline(LONGEST)
        size = file.seek(0, 2)
    mark = len(codecs.BOM_UTF8) if first.startswith(codecs.BOM_UTF8) else 0
    if not first[mark:].strip():
        return Inventory(path, mark, size)
    try:
        unreadable = head_of(first[mark:])
    except ValueError as error:
        raise InventoryError(str(path), 1, str(error)) from error
    return Inventory(path, mark, size) if unreadable is None else Inventory(path, len(first), size, unreadable)


def names(block: bytes) -> list[str]:
    """The names of the images of whole lines; fewer than lines where one cannot be read."""
    try:
        return [image.name for image in _named.decode_lines(block)]
    except WRONG:
        return []


def repository_of(name: str) -> str:
    """The repository's path in an image's name, which begins with the registry's id."""
    return name.partition("/")[2] or name


def runs(inventory: Inventory, file: BinaryIO, start: int, end: int) -> Iterator[tuple[str, list[Image]]]:
    """The images from `start` to `end`, neighbours of one repository together; a repository may come in several runs.

    Raises InventoryError.
    """
    for offset, block in blocks(file, start, end):
        for name, images in groupby(decoded(inventory, offset, block), key=NAME):
            yield repository_of(name), list(images)


def decoded(inventory: Inventory, offset: int, block: bytes) -> list[Image]:
    """The images of whole lines that stand at `offset`. Raises InventoryError."""
    try:
        images = decoder.decode_lines(block)
        sound = are_sound(images) and _one_a_line(images, block)
    except WRONG:
        sound = False
    if not sound:
        what = "not one JSON object a line"
        raise mistake(inventory, offset, block) or InventoryError(str(inventory.path), _number(inventory, offset), what)
    return images


def _one_a_line(images: Sized, block: bytes) -> bool:
    """Whether every line that is not blank is an image: msgspec would take two on a line, or one on two lines."""
    ends = np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))  # five times as fast as bytes.count
    lines = ends + (not block.endswith(b"\n"))
    return len(images) == lines or len(images) == sum(1 for line in block.splitlines() if line.strip())


def mistake(inventory: Inventory, offset: int, block: bytes) -> InventoryError | None:
    """What is wrong with the first bad line of a block."""
    for before, line in enumerate(block.split(b"\n")):
        if line.strip() and (what := mistake_in(line)) is not None:
            return InventoryError(str(inventory.path), _number(inventory, offset) + before, what)
    return None


def _number(inventory: Inventory, offset: int) -> int:
    """The number of the line that begins at `offset`."""
    with inventory.path.open("rb") as file:
        return 1 + sum(part.count(b"\n") for _, part in blocks(file, 0, offset))


def blocks(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines, each with the offset at which it stands."""
    file.seek(start)
    at = start
    rest = b""
    while left := end - at - len(rest):
        read = file.read(min(BLOCK, left))
        if not read:
            break
        rest += read
        cut = rest.rfind(b"\n") + 1
        if cut or len(rest) > LONGEST:
            cut = cut or len(rest)
            yield at, rest[:cut]
            at += cut
            rest = rest[cut:]
    if rest:
        yield at, rest


def parts(inventory: Inventory, size: int) -> Iterator[tuple[int, int]]:
    """The file in parts of about `size` bytes, cut where a repository ends and another begins."""
    with inventory.path.open("rb") as file:
        start = inventory.start
        while start < inventory.size:
            end = _boundary(file, start + size, inventory.size)
            yield start, end
            start = end


def _boundary(file: BinaryIO, at: int, end: int) -> int:
    """A line's beginning, not before `at`, where the repository is another than in the line before; else the end."""
    start, name = _line_from(file, at, end)
    if start >= end:
        return end
    same, step = start, BLOCK
    while True:  # far enough to be in another repository
        other, found = _line_from(file, same + step, end)
        if found != name or other >= end:
            break
        same, step = other, step * 2
    other = min(same + step, end)
    while other - same > 1:  # between `same` and `other` the repository changes
        middle = (same + other) // 2
        found_at, found = _line_from(file, middle, end)
        if found == name and found_at < end:
            same = middle
        else:
            other = middle
    return _line_from(file, other, end)[0]


def _line_from(file: BinaryIO, at: int, end: int) -> tuple[int, str | None]:
    """Where the first line that begins at `at` or later begins, and its repository; None: none that can be read."""
    if at >= end:
        return end, None
    file.seek(max(at - 1, 0))
    start = at if at == 0 else at - 1 + len(file.readline())
    try:
        return min(start, end), repository_of(_named.decode(file.readline()).name)
    except WRONG:
        return min(start, end), None
