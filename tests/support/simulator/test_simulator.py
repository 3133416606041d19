"""The simulator as a whole: its count of lost bytes, its filling, its process."""

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.simulator import fill
from tests.support.simulator.caller import NOW
from tests.support.simulator.client import ROOT, Simulator
from tests.support.simulator.registry import DEFAULT_REGISTRY, Blob, Cloud, digest_of
from tests.support.waiting import until


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 5)), st.integers(0, 3)), max_size=12), st.data()
)
def test_lost_bytes_are_those_of_unreferenced_blobs(
    pushes: list[tuple[str, set[int], int]], data: st.DataObject
) -> None:
    """Compared with sets: all pushed blobs without the remaining blobs."""
    cloud = Cloud(NOW)
    for path, layers, config in pushes:
        cloud.push(path, layers=[blob(layer) for layer in sorted(layers)], config=blob(config + 10), created_at=NOW)
    ever = {held for image in cloud.by_id.values() for held in image.blobs}
    for image in data.draw(st.permutations(list(cloud.by_id.values())).map(lambda images: images[: len(images) // 2])):
        cloud.remove(image, by_request=True)
    left = {held for image in cloud.by_id.values() for held in image.blobs}
    registry = cloud.registries[DEFAULT_REGISTRY]
    assert registry.bytes == sum(held.size for held in left)
    assert registry.lost_bytes == registry.lost_bytes_by_request == sum(held.size for held in ever - left)


def blob(number: int) -> Blob:
    return Blob(digest_of(str(number).encode()), 2**number)


def filled(seed: int) -> Cloud:
    cloud = Cloud(NOW)
    fill.fill(cloud, "demo", NOW, seed)
    return cloud


def test_the_demo_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert set(filled(1).by_id) == set(filled(1).by_id) != set(filled(2).by_id)


def test_the_demo_has_images_of_every_kind() -> None:
    registry = filled(1).registries[DEFAULT_REGISTRY]
    images = list(registry.images())
    children = {child for image in images for child in image.children}
    sizes = [sum(held.size for held in image.blobs) for image in images if image.blobs]
    ages = [NOW - image.created_at for image in images]
    named = [tag for image in images for tag in image.tags]

    assert (len(registry.repositories), 1_800 < len(images) < 2_200) == (25, True)
    assert registry.bytes < 0.8 * sum(sizes)  # layers are shared
    assert sum(image.is_index for image in images) > 80
    assert not any(image.tags for image in images if image.digest in children)
    assert sum(not image.tags and image.digest not in children for image in images) > 300  # leftovers
    assert sum(tag.startswith("pr-") for tag in named) > 150
    assert sum(tag.endswith(".sig") for tag in named) > 60
    assert sum(tag.startswith("v") for tag in named) > 200
    assert {"latest", "stable", "main", "nightly"} <= set(named)
    assert (min(sizes) < 1_000, max(sizes) > 5 * 2**30) == (True, True)
    assert (max(ages) > timedelta(days=600), min(ages) >= timedelta(0)) == (True, True)
    assert all(image.created_at.microsecond % 1_000 == 0 for image in images)


def test_fills_a_registry_with_a_number_of_images() -> None:
    cloud = Cloud(NOW)
    assert fill.fill(cloud, "500", NOW, 1) == {"images": 500}
    assert sum(bool(image.tags) for image in cloud.by_id.values()) == 333


def test_a_busy_day_adds_images_and_moves_tags() -> None:
    with Simulator(fill="demo") as simulator:
        before = simulator.images()
        assert simulator.push_more(60)["images"] == len(before) + 60
        after = simulator.images()
    had, has = ({image["id"] for image in images if "main" in image["tags"]} for images in (before, after))
    assert had - has


def test_fills_a_registry_from_a_file_of_pushes(tmp_path: Path) -> None:
    pushes = tmp_path / "pushes.json"
    pushes.write_text(
        json.dumps(
            [
                {"repository": "shop/api", "tags": ["v1"], "layers": ["base:1000"], "age": 86_400},
                {"command": "push_index", "repository": "shop/api", "children": ["v1"], "tags": ["multi"]},
            ]
        )
    )
    with Simulator(fill=str(pushes)) as simulator:
        assert [image["tags"] for image in simulator.images()] == [["v1"], ["multi"]]


@pytest.mark.parametrize("words", [["--switch", "nosuch=1"], ["--fill", "nosuch"], ["--fill", "nosuch.json"]])
def test_reports_wrong_arguments_in_one_line(words: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.simulator", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("simulator: ")
    assert ended.stderr.count("\n") == 1


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_simulator_ends_with_a_killed_test() -> None:
    program = "from tests.support.simulator.client import Simulator\n"
    program += "s = Simulator().start()\nprint(s.url, flush=True)\ninput()"
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner.stdin, owner.stdout:
        port = int(owner.stdout.readline().rpartition(":")[2])
        assert listens(port)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait(timeout=10)
        until(lambda: not listens(port), what="its end", timeout=10)
