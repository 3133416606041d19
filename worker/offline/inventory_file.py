"""Reads an inventory as NDJSON: its head, where it may be cut, and its images in blocks. Says which line is wrong."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from policies.image import Image, Unreadable

_NAME = attrgetter("name")
BLOCK = 128 * 1024  # bytes decoded at once: small enough to be still in the processor's cache when it is counted
LONGEST = 64 << 20  # bytes of a line; one that is longer is cut there, and so is no JSON
_WRONG = (ValueError, RecursionError)  # msgspec's errors, UnicodeDecodeError among them; nesting without end


@dataclass(eq=False)
class InventoryError(Exception):
    """A line of an inventory file that cannot be understood."""

    path: str
    line: int  # the first is 1
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"

    def __reduce__(self) -> tuple[type["InventoryError"], tuple[str, int, str]]:
        return InventoryError, (self.path, self.line, self.what)


class _Head(Struct):
    digest: msgspec.Raw | UnsetType = UNSET  # an image has one, a head has none
    unreadable: tuple[Unreadable, ...] = ()


class _Named(Struct):
    name: str = ""


_images = msgspec.json.Decoder(Image, strict=False)  # int64 comes in strings
_heads = msgspec.json.Decoder(_Head)
_probe = msgspec.json.Decoder(msgspec.Raw)
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
    if not first.strip():
        return Inventory(path, 0, size)
    try:
        _probe.decode(first)
        head = _heads.decode(first)
    except msgspec.ValidationError as error:
        if b'"digest"' in first:  # an image then, whose own error is told when it is read
            return Inventory(path, 0, size)
        raise InventoryError(str(path), 1, f"the head of an inventory: {_words(error)}") from error
    except _WRONG as error:
        raise InventoryError(str(path), 1, _words(error)) from error
    if head.digest is not UNSET:
        return Inventory(path, 0, size)
    return Inventory(path, len(first), size, head.unreadable)


def names(block: bytes) -> list[str]:
    """The names of the images of whole lines; fewer than lines where one cannot be read."""
    try:
        return [image.name for image in _named.decode_lines(block)]
    except _WRONG:
        return []


def repository_of(name: str) -> str:
    """The repository's path in an image's name, which begins with the registry's id."""
    return name.partition("/")[2] or name


def runs(inventory: Inventory, file: BinaryIO, start: int, end: int) -> Iterator[tuple[str, list[Image]]]:
    """The images from `start` to `end`, neighbours of one repository together; a repository may come in several runs.

    Raises InventoryError.
    """
    for offset, block in blocks(file, start, end):
        for name, images in groupby(decoded(inventory, offset, block), key=_NAME):
            yield repository_of(name), list(images)


def decoded(inventory: Inventory, offset: int, block: bytes) -> list[Image]:
    """The images of whole lines that stand at `offset`."""
    try:
        images = _images.decode_lines(block)
    except _WRONG:
        raise _error(inventory, offset, block) from None
    if not all(map(_NAME, images)) or not _one_a_line(images, block):
        raise _error(inventory, offset, block)
    return images


def _one_a_line(images: Sized, block: bytes) -> bool:
    """Whether every line that is not blank is an image: msgspec would take two on a line, or one on two lines."""
    ends = np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))  # five times as fast as bytes.count
    lines = ends + (not block.endswith(b"\n"))
    return len(images) == lines or len(images) == sum(1 for line in block.splitlines() if line.strip())


def _error(inventory: Inventory, offset: int, block: bytes) -> InventoryError:
    """What is wrong with the first bad line of a block."""
    with inventory.path.open("rb") as file:
        number = 1 + sum(part.count(b"\n") for _, part in blocks(file, 0, offset))
    for line in block.split(b"\n"):
        if line.strip():
            try:
                image = _images.decode(line)
            except _WRONG as error:
                return InventoryError(str(inventory.path), number, _words(error))
            if not image.name:
                return InventoryError(str(inventory.path), number, "name: expected a name, got nothing")
        number += 1
    return InventoryError(str(inventory.path), number, "not one JSON object a line")


def _words(error: Exception) -> str:
    """`compressedSize: expected int >= 0`, from msgspec's own words."""
    match error:
        case msgspec.ValidationError():
            what, _, where = str(error).replace("`", "").partition(" - at $.")
            what = what[:1].lower() + what[1:]
            return f"{where}: {what}" if where else what
        case msgspec.DecodeError():
            return f"not JSON: {str(error).removeprefix('JSON is malformed: ')}"
        case UnicodeDecodeError():
            return "not UTF-8"
        case RecursionError():
            return "nested too deep"
    return str(error)


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
    except _WRONG:
        return min(start, end), None
