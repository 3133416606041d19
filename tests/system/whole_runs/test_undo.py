"""Restores of images that a run deleted from Debian's docker-registry, before its collector ran and after."""

from datetime import UTC, datetime

import pytest

from tests.support.harness import Harness
from tests.support.oci import real_runs
from tests.support.oci.contents import REPOSITORIES, fill
from tests.support.oci.pusher import Pusher
from tests.support.oci.real_runs import restore
from tests.support.oci.server import DockerRegistry

FAST = {"requests_per_second": 1000, "concurrency": 8}
OLD = [{"name": "old", "delete": {"tags": ["old*"]}}]


@pytest.fixture
def harness(registry, tmp_path):
    made = Harness(real_runs.served(registry), tmp_path, rules=OLD, rate=FAST)
    yield made
    made.store.dispose()


def test_restores_every_image_before_the_collector_ran(tmp_path):
    with DockerRegistry() as registry:
        repositories = REPOSITORIES[:2]
        contents = fill(registry, now=datetime.now(UTC), repositories=repositories, untagged=False, by_skopeo=False)
        pusher = Pusher(registry.url)
        tags = [pusher.tags(repository) for repository in repositories]
        harness = Harness(real_runs.served(registry), tmp_path, rules=real_runs.RULES, rate=FAST)
        run = harness.sweep()
        assert run.deleted == len(real_runs.expected_deletions(contents, real_runs.SELECTED_TAGS)) > 0
        restored = restore(harness, run.id)
        harness.store.dispose()
        assert {image.answer for image in restored.values()} == {"whole"}
        assert len(restored) == run.deleted
        assert [pusher.tags(repository) for repository in repositories] == tags
        assert real_runs.collected(registry, contents) == {}
        real_runs.pull_all(registry, contents.images)


@pytest.fixture
def own_shared_and_index(pusher):
    """Images to delete: one with its own layer, one that shares its blobs with a kept image, and an index of both."""
    own = pusher.image("shop/api", "old-own", layers=[b"base", b"own"])
    shared = pusher.image("shop/api", "old-shared", layers=[b"base"])
    pusher.image(
        "shop/api", "v1", layers=[b"base"], annotations={"kept": "yes"}
    )  # another manifest with the same blobs
    index = pusher.index("shop/api", "old-index", children=[own, shared])
    for tag in pusher.tags("shop/api"):
        pusher.pull_whole("shop/api", tag)  # so that a cache has every blob
    return own, shared, index


def test_reports_lost_images_after_the_collector_ran(registry, pusher, harness, own_shared_and_index):
    """A cache can answer 201 for a manifest without blobs: it is not reported as whole. A restart empties the cache."""
    own, shared, index = own_shared_and_index
    run = harness.sweep()
    assert (run.outcome, run.deleted) == ("succeeded", 3)
    assert registry.collect().returncode == 0
    restored = restore(harness, run.id)
    assert "whole" not in {restored[own.digest].answer, restored[index.digest].answer}
    assert not pusher.exists("shop/api", own.digest)
    assert restored[shared.digest].answer == ("lost" if registry.cached else "whole")
    assert ("restart the registry" in restored[shared.digest].message) is registry.cached
    for answer in restored.values():
        assert (answer.answer == "whole") is is_whole(registry, answer.digest)

    registry.restart()
    restored = restore(harness, run.id)
    lost = {own.config.digest, own.layers[1].digest}
    assert (restored[own.digest].answer, set(restored[own.digest].missing)) == ("lost", lost)
    assert (restored[index.digest].answer, restored[index.digest].missing) == ("lost", (own.digest,))
    assert (restored[shared.digest].answer, restored[shared.digest].tags) == ("whole", ("old-shared",))
    assert pusher.pull_whole("shop/api", "old-shared")
    assert set(pusher.tags("shop/api")) == {"old-shared", "v1"}


def is_whole(registry, digest):
    try:
        real_runs.pull_all(registry, [("shop/api", digest)])
    except AssertionError:
        return False
    return True


def test_reports_blobs_that_only_a_cache_has_as_lost(tmp_path):
    """The cache has the blobs and not the manifest: the manifest is restored, and its blobs are missing."""
    with DockerRegistry(cache=True) as registry:
        pusher = Pusher(registry.url)
        image = pusher.image("shop/api", "old", layers=[b"a layer"])
        harness = Harness(real_runs.served(registry), tmp_path, rules=OLD, rate=FAST)
        run = harness.sweep()
        registry.restart()  # the cache is empty
        for blob in image.blobs:
            pusher.wire.expect(200, "GET", f"/v2/shop/api/blobs/{blob.digest}")
        assert registry.collect().returncode == 0
        restored = restore(harness, run.id)[image.digest]
        harness.store.dispose()
        assert (restored.answer, set(restored.missing)) == ("lost", {blob.digest for blob in image.blobs})


def test_leaves_a_tag_that_was_pushed_after_the_deletion(pusher, harness, own_shared_and_index):
    own, _, _ = own_shared_and_index
    run = harness.sweep()
    new = pusher.image("shop/api", "old-own", layers=[b"pushed since"])
    restored = restore(harness, run.id)[own.digest]
    assert ([(left.tag, left.digest) for left in restored.left], restored.tags) == ([("old-own", new.digest)], ())
    assert pusher.tags("shop/api")["old-own"] == new.digest
    assert pusher.pull_whole("shop/api", own.digest)
