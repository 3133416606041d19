"""Finds the lines of each repository in an inventory that is not grouped: the cost of a second reading."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from worker.planning.offline.inventory_file import Inventory, blocks, decoded, names, repository_of
from worker.planning.offline.part import Part


def scattered(inventory: Inventory, size: int) -> Iterator[Part]:
    """The file's repositories in parts of about `size` bytes, by where their lines stand. Raises InventoryError."""
    paths, repositories, places = _index(inventory)
    order = np.argsort(repositories, kind="stable")
    places = places[order]
    ends = np.cumsum(np.bincount(repositories, minlength=len(paths)))
    number, held, lines = 0, 0, []
    for path, start, end in zip(paths, (ends - np.diff(ends, prepend=0)).tolist(), ends.tolist(), strict=True):
        stretches = _stretches(places[start:end])
        lines.append((path, stretches))
        held += int(stretches[:, 1].sum())
        if held >= size:
            yield Part(number, lines=tuple(lines))
            number, held, lines = number + 1, 0, []
    if lines:
        yield Part(number, lines=tuple(lines))


def _index(inventory: Inventory) -> tuple[list[str], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The repositories, and for each line the number of its repository, its offset and its length."""
    numbers: dict[str, int] = {}
    repositories, places = [np.empty(0, dtype=np.int32)], [np.empty((0, 2), dtype=np.int64)]
    with inventory.path.open("rb") as file:
        for offset, block in blocks(file, inventory.start, inventory.size):
            lines = block.splitlines(keepends=True)
            lengths = np.fromiter(map(len, lines), dtype=np.int64, count=len(lines))
            told = np.fromiter([bool(line.strip()) for line in lines], dtype=np.bool_, count=len(lines))
            found = names(block)
            if len(found) != int(told.sum()):
                decoded(inventory, offset, block)  # says what is wrong
            offsets = offset + np.cumsum(lengths) - lengths
            places.append(np.stack([offsets, lengths], axis=1)[told])
            named = [numbers.setdefault(repository_of(name), len(numbers)) for name in found]
            repositories.append(np.array(named, dtype=np.int32))
    return list(numbers), np.concatenate(repositories), np.concatenate(places)


def _stretches(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Lines that stand side by side as one."""
    apart = np.ones(len(places), dtype=np.bool_)
    apart[1:] = places[1:, 0] != places[:-1].sum(axis=1)
    starts = np.flatnonzero(apart)
    return np.stack([places[starts, 0], np.add.reduceat(places[:, 1], starts)], axis=1)
