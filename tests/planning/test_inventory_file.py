"""A saved inventory is read by repositories, each once, in blocks of any size; an invalid line is named."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.rules import Policy
from tests.planning.saved import EVERYTHING, lines, records, saved
from tests.support.builders import NOW, image, repository
from tests.support.planning import offline_ndjson
from worker.planning.inventory_file import open_inventory
from worker.planning.offline import InventoryError


def offline(path: Path, rules: Policy, **more: Any) -> bytes:
    return offline_ndjson(path, rules, NOW, **more)


@pytest.mark.parametrize("block", [1, 1000, 50_000, 10**9])
@pytest.mark.parametrize("indexed", [False, True])
def test_reads_each_repository_once_and_completely(large: Path, block: int, indexed: bool) -> None:
    inventory = open_inventory(large, block)
    if indexed:
        inventory.index()
    expected = {repository.path: len(repository.images) for repository in records(large)}
    listed = [(graph.path, len(graph.images)) for graph in inventory.read()]
    assert sorted(listed) == sorted(expected.items())
    chosen_paths = set(sorted(expected)[::3])
    assert {graph.path for graph in inventory.read(chosen_paths)} == chosen_paths


def test_names_the_invalid_line_of_a_large_file(large: Path, tmp_path: Path) -> None:
    listed_lines = large.read_bytes().splitlines()
    listed_lines[3456] = listed_lines[3456].replace(b'"tags"', b"tags")
    path = saved(tmp_path, listed_lines, [])
    with pytest.raises(InventoryError, match=r"F\.ndjson:3458: not JSON: ") as refused:
        offline(path, EVERYTHING, block=200_000)
    assert refused.value.line == 3458


def test_names_the_line_of_an_invalid_blob_digest(large: Path, tmp_path: Path) -> None:
    listed_lines = large.read_bytes().splitlines()
    first_line = msgspec.json.decode(listed_lines[2345])
    first_line["layers"] = [{"digest": "sha256:" + "g" * 64, "size": "5"}]
    listed_lines[2345] = msgspec.json.encode(first_line)
    path = saved(tmp_path, listed_lines)
    for block in (1, 200_000):
        with pytest.raises(InventoryError, match=r"F\.ndjson:2346: layers\[0\]\.digest: expected a digest"):
            offline(path, EVERYTHING, block=block)


def test_refuses_a_file_that_changed_between_two_reads(tmp_path: Path) -> None:
    path = saved(tmp_path, lines([repository("a", image("a1"), image("a2"))]))
    file = open_inventory(path)
    assert len(list(file.read())) == 1
    (tmp_path / "new").mkdir()
    os.replace(saved(tmp_path / "new", lines([repository("b", image("b1"))])), path)
    with pytest.raises(InventoryError, match="was changed while it was read"):
        list(file.read({"a"}))
