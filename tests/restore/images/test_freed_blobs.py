"""Restoring from a registry that caches freed blobs, or accepts an index without its images."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.oci.fake import FLAVOURS, FakeRegistry
from tests.support.oci.real_runs import restore, served
from tests.support.oci.wire import Wire

OLD = [{"name": "old", "delete": {"tags": ["old*"]}}]
Starter = Callable[..., tuple[FakeRegistry, Harness]]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Starter]:
    """Start a registry and a harness for it."""
    with ExitStack() as stack:

        def start(**switches: Any) -> tuple[FakeRegistry, Harness]:
            registry = stack.enter_context(FakeRegistry(**switches))
            harness = Harness(served(registry), tmp_path, rules=OLD)
            stack.callback(harness.store.dispose)
            return registry, harness

        yield start


def statuses(registry: FakeRegistry, *paths: str) -> list[int]:
    wire = Wire(registry.url)
    try:
        return [wire.ask("HEAD", path).status for path in paths]
    finally:
        wire.close()


def test_a_cached_freed_blob_does_not_make_an_image_whole(started: Starter) -> None:
    registry, harness = started(**FLAVOURS["distribution-3"], blob_cache=True)
    image = registry.push("shop/api", "old", layers=[b"own", b"shared"])
    registry.push("shop/api", "v1", layers=[b"shared"])
    run = harness.sweep()
    registry.collect()
    assert image.config
    freed = [image.config.digest, image.layers[0].digest]
    assert statuses(registry, *(f"/v2/shop/api/blobs/{digest}" for digest in freed)) == [200, 200]

    result = restore(harness, run.id)[image.digest]
    assert (result.answer, set(result.missing), result.tags) == ("lost", set(freed), ())
    registry.put("shop/api", image.body, image.media_type, "pushed")  # a client's push is taken, over nothing
    result = restore(harness, run.id)[image.digest]
    assert (result.answer, set(result.missing), result.tags) == ("partly", set(freed), ())
    assert list(registry.state()["shop/api"][image.digest]) == ["pushed"]

    registry.flush_cache()
    assert statuses(registry, *(f"/v2/shop/api/blobs/{digest}" for digest in freed)) == [404, 404]
    assert restore(harness, run.id)[image.digest].answer == "partly"


def test_does_not_mount_a_layer_that_only_the_cache_has(started: Starter) -> None:
    registry, harness = started(blob_cache=True)
    old = registry.push("shop/api", "old", layers=[b"own"])
    other = registry.push("shop/web", "v1", layers=[b"own"])
    run = harness.sweep()
    registry.remove("shop/web", other.digest)
    registry.collect()
    result = restore(harness, run.id)[old.digest]
    assert (result.answer, set(result.missing)) == ("lost", {blob.digest for blob in old.blobs})
    assert old.digest not in registry.state()["shop/api"]


@pytest.mark.parametrize("partly", [False, True])
def test_tags_an_incomplete_index_only_with_partly(started: Starter, partly: bool) -> None:
    registry, harness = started(takes_incomplete=True, frees_at_once=True)
    gone = registry.push("shop/api", layers=[b"own"])
    index = registry.push_index("shop/api", "old-all", children=[gone.digest])
    run = harness.sweep()
    assert (run.outcome, run.deleted) == ("succeeded", 2)

    results = restore(harness, run.id, partly=partly)
    assert results[gone.digest].answer == "lost"
    assert (results[index.digest].answer, results[index.digest].missing) == ("partly", (gone.digest,))
    tags = ("old-all",) if partly else ()
    assert (results[index.digest].tags, registry.state()["shop/api"]) == (tags, {index.digest: tags})
    assert ("--partly does it" in results[index.digest].message) is not partly


def test_tags_an_index_whose_images_are_restored(started: Starter) -> None:
    registry, harness = started(takes_incomplete=True)
    image = registry.push("shop/api", layers=[b"own"])
    index = registry.push_index("shop/api", "old-all", children=[image.digest])
    run = harness.sweep()
    assert {result.answer for result in restore(harness, run.id).values()} == {"whole"}
    assert registry.state()["shop/api"] == {image.digest: (), index.digest: ("old-all",)}
