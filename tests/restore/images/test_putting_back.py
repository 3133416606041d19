"""Putting images back, one at a time: children first, nobody's tags moved, and what is there said truly."""

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
from worker.restore.images import CACHED, COLLECTED, MovedTag


class TestPuttingBack:
    def test_what_was_left_unconfirmed(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone, run = unconfirmed(registry, harness)
        found = restore(harness, run.id)
        assert {digest: one.answer for digest, one in found.items()} == {gone.digest: "whole"}
        assert registry.whole("shop/api", "old")

    def test_everything_children_first(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        first, second = Family(registry), Family(registry, "shop/web")
        run = harness.sweep()
        assert run.deleted == 14
        found = restore(harness, run.id)
        assert found.keys() == {one.digest for one in (*first.all, *second.all)}
        assert answers(found) == {"whole"}
        assert found[first.outer.digest].tags == ("old-1", "old-latest")
        for family in (first, second):
            path = family.outer.repository
            assert all(registry.whole(path, reference) for reference in ("old-1", "old-latest", *family.signature.tags))
            puts = registry.asked_about("put", path)
            assert max(puts.index(one.digest) for one in family.children[:2]) < puts.index(family.inner.digest)
            assert puts.index(family.inner.digest) < puts.index(family.outer.digest) < puts.index("old-1")
            assert puts.index(family.outer.digest) < puts.index(family.signature.digest)

    def test_again_changes_nothing(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        Family(registry)
        run = harness.sweep()
        first = restore(harness, run.id)
        assert restore(harness, run.id) == first
        assert registry.asked_about("put", "shop/api") == []

    def test_after_the_collector_it_is_lost_by_its_blobs_names(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        family = Family(registry)
        run = harness.sweep()
        registry.collect()
        found = restore(harness, run.id)
        assert answers(found) == {"lost"}
        for one in (*family.children, family.signature, family.referrer):
            assert found[one.digest].missing == tuple(blob.digest for blob in one.blobs)
            assert found[one.digest].message == COLLECTED
        assert found[family.inner.digest].missing == tuple(one.digest for one in family.children[:2])
        assert registry.tags("shop/api") == {}

    def test_with_blobs_that_kept_images_have_it_is_whole(
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

    def test_a_registry_that_remembers_what_was_freed(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        kept = registry.push_image("shop/api", "v1", layers=["a", "b"])
        body = kept.body.replace(b'{"schemaVersion":2', b'{ "schemaVersion":2')
        shared = registry.push_manifest("shop/api", body, kept.media_type, "old")
        alone = registry.push_image("shop/api", "old-2", layers=["its own"])
        registry.blobs.cached = True
        run = harness.sweep()
        registry.collect()

        found = restore(harness, run.id)
        assert (found[shared.digest].answer, found[shared.digest].message) == ("lost", CACHED)
        assert (found[alone.digest].answer, found[alone.digest].message) == ("lost", COLLECTED)
        assert registry.asked_about("put", "shop/api") == [
            shared.digest
        ]  # no tag that names nothing, and nothing over lost blobs
        assert registry.tags("shop/api") == {"v1": kept.digest}

        registry.blobs.restart()
        found = restore(harness, run.id)
        assert (found[shared.digest].answer, found[alone.digest].answer) == ("whole", "lost")
        assert found[alone.digest].missing == tuple(blob.digest for blob in alone.blobs)
        assert registry.whole("shop/api", "old")

    def test_a_tag_that_was_pushed_since_is_left(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", "old-2", layers=["a"])
        harness.sweep()
        theirs = registry.push_image("shop/api", "old", layers=["b"])
        found = restore(harness, f"shop/api@{gone.digest}")[gone.digest]
        assert (found.answer, found.tags, found.left) == ("whole", ("old-2",), (MovedTag("old", theirs.digest),))
        assert found.message == "old was pushed since, and is left as it is"
        assert registry.tags("shop/api") == {"old": theirs.digest, "old-2": gone.digest}

    def test_an_image_whose_every_tag_is_another_s(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        harness.sweep()
        registry.push_image("shop/api", "old", layers=["b"])
        assert answers(restore(harness, "shop/api:old")) == {"whole"}
        assert registry.whole("shop/api", gone.digest)

    def test_a_child_that_was_never_ours_is_missed(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        child = registry.push_image("shop/api", "v-child", layers=["a"])
        index = registry.push_index("shop/api", "old", lists=[child])
        harness.sweep()
        registry.remove("shop/api", child.digest)
        found = restore(harness, "shop/api:old")[index.digest]
        assert (found.answer, found.missing) == ("lost", (child.digest,))
        assert "MANIFEST_BLOB_UNKNOWN" in found.message

    def test_a_repository_that_gives_nothing_is_passed_over(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        gone = registry.push_image("shop/api", "old", layers=["base"])
        registry.push_image("a/closed", "v1", layers=["base"])
        registry.push_image("b/open", "v1", layers=["base"])
        run = harness.sweep()
        base = gone.layers[0].digest
        registry.blobs.linked["shop/api"].discard(base)
        registry.fail("mount", "shop/api", PermissionDeniedError("denied"), f"{base} from a/closed")
        assert answers(restore(harness, run.id)) == {"whole"}

    def test_a_tag_that_the_registry_refuses_is_said(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", "old-2", layers=["a"])
        run = harness.sweep()
        registry.fail("put", "shop/api", RegistryError("the tag is immutable"), "old")
        found = restore(harness, run.id)[gone.digest]
        assert (found.answer, found.tags) == ("partly", ("old-2",))
        assert found.message == "the tag old could not be restored: the tag is immutable"

    def test_blobs_lost_under_a_manifest_that_is_there(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        index = registry.push_index("shop/api", "old-index", lists=[gone])
        run = harness.sweep()
        restore(harness, run.id)
        registry.blobs.stored.discard(gone.layers[0].digest)
        found = restore(harness, run.id)
        assert (found[gone.digest].answer, found[gone.digest].missing) == ("partly", (gone.layers[0].digest,))
        assert (found[index.digest].answer, found[index.digest].missing) == ("partly", (gone.digest,))
        assert registry.asked_about("put", "shop/api") == []

    @pytest.mark.parametrize("partly", [False, True])
    def test_an_index_that_lacks_images_gets_no_tags_unless_asked(
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
        found = {
            one.digest: one for one in restoring.restore(harness.store, asked, RestoringMemoryDriver(harness.registry))
        }[index.digest]
        assert found.answer == "partly"
        assert ("--partly does it" in found.message) is not partly
        assert (
            "old-index" in registry.asked_about("put", "shop/api")
        ) is partly or "could not be restored" in found.message

    def test_blobs_that_a_collector_frees_at_that_very_moment(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        run = harness.sweep()
        registry.blobs.freed_at_once = {gone.layers[0].digest}
        found = restore(harness, run.id)[gone.digest]
        assert (found.answer, found.missing, found.tags) == ("partly", (gone.layers[0].digest,), ())
        assert found.message.startswith(f"{COLLECTED}; the tag old could not be restored: ")

    def test_an_answer_that_is_none_concerns_one_image(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        bad, good = (registry.push_image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2))
        run = harness.sweep()
        registry.fail("put", "shop/api", BadResponseError("not the protocol"), bad.digest)
        found = restore(harness, run.id)
        assert (found[bad.digest].answer, found[good.digest].answer) == ("unfinished", "whole")
