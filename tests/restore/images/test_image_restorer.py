"""Restoring images one at a time: children first, moved tags left alone, and a true result."""

import dataclasses

import pytest

from tests.support.memory_driver import RestoringMemoryDriver
from tests.support.memory_harness import MemoryHarness
from tests.support.memory_registry import MemoryRegistry
from tests.support.restoring import Family, answers, find, restore, unconfirmed
from worker.registries.errors import (
    BadResponseError,
    PermissionDeniedError,
    RegistryError,
)
from worker.restore import restore as restoring
from worker.restore.images import BLOBS_DELETED, MANIFEST_CACHED, MovedTag


class TestImageRestorer:
    def test_restores_an_unconfirmed_deletion(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone, run = unconfirmed(registry, harness)
        results = restore(harness, run.id)
        assert {digest: value.answer for digest, value in results.items()} == {gone.digest: "whole"}
        assert registry.whole("shop/api", "old")

    def test_restores_everything_children_first(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        first, second = Family(registry), Family(registry, "shop/web")
        run = harness.sweep()
        assert run.deleted == 14
        results = restore(harness, run.id)
        assert results.keys() == {image.digest for image in (*first.all, *second.all)}
        assert answers(results) == {"whole"}
        assert results[first.outer.digest].tags == ("old-1", "old-latest")
        for family in (first, second):
            path = family.outer.repository
            assert all(registry.whole(path, reference) for reference in ("old-1", "old-latest", *family.signature.tags))
            puts = registry.asked_about("put", path)
            assert max(puts.index(image.digest) for image in family.children[:2]) < puts.index(family.inner.digest)
            assert puts.index(family.inner.digest) < puts.index(family.outer.digest) < puts.index("old-1")
            assert puts.index(family.outer.digest) < puts.index(family.signature.digest)

    def test_restoring_again_changes_nothing(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        Family(registry)
        run = harness.sweep()
        first = restore(harness, run.id)
        assert restore(harness, run.id) == first
        assert registry.asked_about("put", "shop/api") == []

    def test_an_image_with_collected_blobs_is_lost_and_names_them(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        family = Family(registry)
        run = harness.sweep()
        registry.collect()
        results = restore(harness, run.id)
        assert answers(results) == {"lost"}
        for listed_image in (*family.children, family.signature, family.referrer):
            assert results[listed_image.digest].missing == tuple(blob.digest for blob in listed_image.blobs)
            assert results[listed_image.digest].message == BLOBS_DELETED
        assert results[family.inner.digest].missing == tuple(image.digest for image in family.children[:2])
        assert registry.tags("shop/api") == {}

    def test_an_image_whose_blobs_kept_images_share_is_whole(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        kept = registry.push_image("shop/api", "v1", layers=["a", "b"])
        body = kept.body.replace(b'{"schemaVersion":2', b'{ "schemaVersion":2')  # the same blobs in another manifest
        gone = registry.push_manifest("shop/api", body, kept.media_type, "old")
        run = harness.sweep()
        registry.collect()
        assert answers(restore(harness, run.id)) == {"whole"}
        assert registry.whole("shop/api", "old")
        assert registry.tags("shop/api") == {"v1": kept.digest, "old": gone.digest}

    def test_an_accepted_manifest_that_is_missing_is_lost(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        kept = registry.push_image("shop/api", "v1", layers=["a", "b"])
        body = kept.body.replace(b'{"schemaVersion":2', b'{ "schemaVersion":2')
        shared = registry.push_manifest("shop/api", body, kept.media_type, "old")
        alone = registry.push_image("shop/api", "old-2", layers=["its own"])
        registry.blobs.cached = True
        run = harness.sweep()
        registry.collect()

        results = restore(harness, run.id)
        assert (results[shared.digest].answer, results[shared.digest].message) == ("lost", MANIFEST_CACHED)
        assert (results[alone.digest].answer, results[alone.digest].message) == ("lost", BLOBS_DELETED)
        assert registry.asked_about("put", "shop/api") == [
            shared.digest
        ]  # no tag that names nothing, and nothing over lost blobs
        assert registry.tags("shop/api") == {"v1": kept.digest}

        registry.blobs.restart()
        results = restore(harness, run.id)
        assert (results[shared.digest].answer, results[alone.digest].answer) == ("whole", "lost")
        assert results[alone.digest].missing == tuple(blob.digest for blob in alone.blobs)
        assert registry.whole("shop/api", "old")

    def test_leaves_a_tag_that_was_pushed_since(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", "old-2", layers=["a"])
        harness.sweep()
        theirs = registry.push_image("shop/api", "old", layers=["b"])
        result = restore(harness, f"shop/api@{gone.digest}")[gone.digest]
        assert (result.answer, result.tags, result.left) == ("whole", ("old-2",), (MovedTag("old", theirs.digest),))
        assert result.message == "old was pushed since, and is left as it is"
        assert registry.tags("shop/api") == {"old": theirs.digest, "old-2": gone.digest}

    def test_restores_an_image_whose_tags_all_moved(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        harness.sweep()
        registry.push_image("shop/api", "old", layers=["b"])
        assert answers(restore(harness, "shop/api:old")) == {"whole"}
        assert registry.whole("shop/api", gone.digest)

    def test_names_a_missing_child_that_we_did_not_delete(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        child = registry.push_image("shop/api", "v-child", layers=["a"])
        index = registry.push_index("shop/api", "old", lists=[child])
        harness.sweep()
        registry.remove("shop/api", child.digest)
        result = restore(harness, "shop/api:old")[index.digest]
        assert (result.answer, result.missing) == ("lost", (child.digest,))
        assert "MANIFEST_BLOB_UNKNOWN" in result.message

    def test_skips_a_repository_that_refuses_a_mount(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", layers=["base"])
        registry.push_image("a/closed", "v1", layers=["base"])
        registry.push_image("b/open", "v1", layers=["base"])
        run = harness.sweep()
        base = gone.layers[0].digest
        registry.blobs.linked["shop/api"].discard(base)
        registry.fail("mount", "shop/api", PermissionDeniedError("denied"), f"{base} from a/closed")
        assert answers(restore(harness, run.id)) == {"whole"}

    def test_names_a_tag_that_the_registry_refuses(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", "old-2", layers=["a"])
        run = harness.sweep()
        registry.fail("put", "shop/api", RegistryError("the tag is immutable"), "old")
        result = restore(harness, run.id)[gone.digest]
        assert (result.answer, result.tags) == ("partly", ("old-2",))
        assert result.message == "the tag old could not be restored: the tag is immutable"

    def test_names_missing_blobs_of_an_existing_manifest(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        index = registry.push_index("shop/api", "old-index", lists=[gone])
        run = harness.sweep()
        restore(harness, run.id)
        registry.blobs.stored.discard(gone.layers[0].digest)
        results = restore(harness, run.id)
        assert (results[gone.digest].answer, results[gone.digest].missing) == ("partly", (gone.layers[0].digest,))
        assert (results[index.digest].answer, results[index.digest].missing) == ("partly", (gone.digest,))
        assert registry.asked_about("put", "shop/api") == []

    @pytest.mark.parametrize("partly", [False, True])
    def test_an_incomplete_index_gets_no_tags_without_partly(
        self, registry: MemoryRegistry, harness: MemoryHarness, partly: bool
    ) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        index = registry.push_index("shop/api", "old-index", lists=[gone])
        run = harness.sweep()
        restore(harness, run.id)
        registry.untag("shop/api", "old-index")
        registry.remove("shop/api", gone.digest)
        registry.blobs.stored.discard(gone.layers[0].digest)
        harness.registry.asked.clear()
        asked = dataclasses.replace(find(harness, run.id), partly=partly)
        restored = restoring.restore(harness.store, asked, RestoringMemoryDriver(harness.registry))
        results = {result.digest: result for result in restored}[index.digest]
        assert results.answer == "partly"
        assert ("--partly does it" in results.message) is not partly
        assert (
            "old-index" in registry.asked_about("put", "shop/api")
        ) is partly or "could not be restored" in results.message

    def test_names_blobs_that_are_collected_during_the_restore(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        run = harness.sweep()
        registry.blobs.freed_at_once = {gone.layers[0].digest}
        result = restore(harness, run.id)[gone.digest]
        assert (result.answer, result.missing, result.tags) == ("partly", (gone.layers[0].digest,), ())
        assert result.message.startswith(f"{BLOBS_DELETED}; the tag old could not be restored: ")

    def test_a_failed_answer_concerns_one_image_only(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        bad, good = (registry.push_image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2))
        run = harness.sweep()
        registry.fail("put", "shop/api", BadResponseError("not the protocol"), bad.digest)
        results = restore(harness, run.id)
        assert (results[bad.digest].answer, results[good.digest].answer) == ("unfinished", "whole")
