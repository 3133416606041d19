"""Putting images back, one at a time: children first, nobody's tags moved, and what is there said truly."""

import dataclasses

import pytest

from tests.support.restoring import Family, answers, find, put_back, unconfirmed
from tests.support.shelf import Shelf, ShelfDriver, ShelfNight
from worker.registries.errors import (
    BadAnswerError,
    PermissionDeniedError,
    RegistryError,
)
from worker.restore import restore
from worker.restore.images import CACHED, COLLECTED, Left


class TestPuttingBack:
    def test_what_was_left_unconfirmed(self, shelf: Shelf, night: ShelfNight) -> None:
        gone, run = unconfirmed(shelf, night)
        found = put_back(night, run.id)
        assert {digest: one.answer for digest, one in found.items()} == {gone.digest: "whole"}
        assert shelf.whole("shop/api", "old")

    def test_everything_children_first(self, shelf: Shelf, night: ShelfNight) -> None:
        first, second = Family(shelf), Family(shelf, "shop/web")
        run = night.sweep()
        assert run.deleted == 14
        found = put_back(night, run.id)
        assert found.keys() == {one.digest for one in (*first.all, *second.all)}
        assert answers(found) == {"whole"}
        assert found[first.outer.digest].tags == ("old-1", "old-latest")
        for family in (first, second):
            path = family.outer.repository
            assert all(shelf.whole(path, reference) for reference in ("old-1", "old-latest", *family.signature.tags))
            puts = shelf.puts(path)
            assert max(puts.index(one.digest) for one in family.children[:2]) < puts.index(family.inner.digest)
            assert puts.index(family.inner.digest) < puts.index(family.outer.digest) < puts.index("old-1")
            assert puts.index(family.outer.digest) < puts.index(family.signature.digest)

    def test_again_changes_nothing(self, shelf: Shelf, night: ShelfNight) -> None:
        Family(shelf)
        run = night.sweep()
        first = put_back(night, run.id)
        assert put_back(night, run.id) == first
        assert shelf.puts("shop/api") == []

    def test_after_the_collector_it_is_lost_by_its_blobs_names(self, shelf: Shelf, night: ShelfNight) -> None:
        family = Family(shelf)
        run = night.sweep()
        shelf.collect()
        found = put_back(night, run.id)
        assert answers(found) == {"lost"}
        for one in (*family.children, family.signature, family.referrer):
            assert found[one.digest].missing == tuple(blob.digest for blob in one.blobs)
            assert found[one.digest].message == COLLECTED
        assert found[family.inner.digest].missing == tuple(one.digest for one in family.children[:2])
        assert shelf.repositories["shop/api"].tags == {}

    def test_with_blobs_that_kept_images_have_it_is_whole(self, shelf: Shelf, night: ShelfNight) -> None:
        kept = shelf.image("shop/api", "v1", layers=["a", "b"])
        body = kept.body.replace(b'{"schemaVersion":2', b'{ "schemaVersion":2')  # the same blobs in another manifest
        gone = shelf.push("shop/api", body, kept.media_type, "old")
        run = night.sweep()
        shelf.collect()
        assert answers(put_back(night, run.id)) == {"whole"}
        assert shelf.whole("shop/api", "old")
        assert shelf.repositories["shop/api"].tags == {"v1": kept.digest, "old": gone.digest}

    def test_a_registry_that_remembers_what_was_freed(self, shelf: Shelf, night: ShelfNight) -> None:
        kept = shelf.image("shop/api", "v1", layers=["a", "b"])
        body = kept.body.replace(b'{"schemaVersion":2', b'{ "schemaVersion":2')
        shared = shelf.push("shop/api", body, kept.media_type, "old")
        alone = shelf.image("shop/api", "old-2", layers=["its own"])
        shelf.cache = True
        run = night.sweep()
        shelf.collect()

        found = put_back(night, run.id)
        assert (found[shared.digest].answer, found[shared.digest].message) == ("lost", CACHED)
        assert (found[alone.digest].answer, found[alone.digest].message) == ("lost", COLLECTED)
        assert shelf.puts("shop/api") == [shared.digest]  # no tag that names nothing, and nothing over lost blobs
        assert shelf.repositories["shop/api"].tags == {"v1": kept.digest}

        shelf.restart()
        found = put_back(night, run.id)
        assert (found[shared.digest].answer, found[alone.digest].answer) == ("whole", "lost")
        assert found[alone.digest].missing == tuple(blob.digest for blob in alone.blobs)
        assert shelf.whole("shop/api", "old")

    def test_a_tag_that_was_pushed_since_is_left(self, shelf: Shelf, night: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", "old-2", layers=["a"])
        night.sweep()
        theirs = shelf.image("shop/api", "old", layers=["b"])
        found = put_back(night, f"shop/api@{gone.digest}")[gone.digest]
        assert (found.answer, found.tags, found.left) == ("whole", ("old-2",), (Left("old", theirs.digest),))
        assert found.message == "old was pushed since, and is left as it is"
        assert shelf.repositories["shop/api"].tags == {"old": theirs.digest, "old-2": gone.digest}

    def test_an_image_whose_every_tag_is_another_s(self, shelf: Shelf, night: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", layers=["a"])
        night.sweep()
        shelf.image("shop/api", "old", layers=["b"])
        assert answers(put_back(night, "shop/api:old")) == {"whole"}
        assert shelf.whole("shop/api", gone.digest)

    def test_a_child_that_was_never_ours_is_missed(self, shelf: Shelf, night: ShelfNight) -> None:
        child = shelf.image("shop/api", "v-child", layers=["a"])
        index = shelf.index("shop/api", "old", lists=[child])
        night.sweep()
        shelf.take_away("shop/api", child.digest)
        found = put_back(night, "shop/api:old")[index.digest]
        assert (found.answer, found.missing) == ("lost", (child.digest,))
        assert "MANIFEST_BLOB_UNKNOWN" in found.message

    def test_a_repository_that_gives_nothing_is_passed_over(self, shelf: Shelf, night: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", layers=["base"])
        shelf.image("a/closed", "v1", layers=["base"])
        shelf.image("b/open", "v1", layers=["base"])
        run = night.sweep()
        base = gone.layers[0].digest
        shelf.repositories["shop/api"].linked.discard(base)
        shelf.broken[f"mount shop/api {base} from a/closed"] = PermissionDeniedError("denied")
        assert answers(put_back(night, run.id)) == {"whole"}

    def test_a_tag_that_the_registry_refuses_is_said(self, shelf: Shelf, night: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", "old-2", layers=["a"])
        run = night.sweep()
        shelf.broken["put shop/api old"] = RegistryError("the tag is immutable")
        found = put_back(night, run.id)[gone.digest]
        assert (found.answer, found.tags) == ("partly", ("old-2",))
        assert found.message == "the tag old could not be put: the tag is immutable"

    def test_blobs_lost_under_a_manifest_that_is_there(self, shelf: Shelf, night: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", layers=["a"])
        index = shelf.index("shop/api", "old-index", lists=[gone])
        run = night.sweep()
        put_back(night, run.id)
        del shelf.blobs[gone.layers[0].digest]
        found = put_back(night, run.id)
        assert (found[gone.digest].answer, found[gone.digest].missing) == ("partly", (gone.layers[0].digest,))
        assert (found[index.digest].answer, found[index.digest].missing) == ("partly", (gone.digest,))
        assert shelf.puts("shop/api") == []

    @pytest.mark.parametrize("partly", [False, True])
    def test_an_index_that_lacks_images_gets_no_tags_unless_asked(
        self, shelf: Shelf, night: ShelfNight, partly: bool
    ) -> None:
        gone = shelf.image("shop/api", "old", layers=["a"])
        index = shelf.index("shop/api", "old-index", lists=[gone])
        run = night.sweep()
        put_back(night, run.id)
        shelf.repositories["shop/api"].tags.pop("old-index")
        shelf.repositories["shop/api"].manifests.pop(gone.digest)
        del shelf.blobs[gone.layers[0].digest]
        night.shelf.asked.clear()
        asked = dataclasses.replace(find(night, run.id), partly=partly)
        found = {one.digest: one for one in restore.restore(night.store, asked, ShelfDriver(night.shelf))}[index.digest]
        assert found.answer == "partly"
        assert ("--partly puts it" in found.message) is not partly
        assert ("old-index" in shelf.puts("shop/api")) is partly or "could not be put" in found.message

    def test_blobs_that_a_collector_frees_at_that_very_moment(self, shelf: Shelf, night: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", layers=["a"])
        run = night.sweep()
        shelf.collected_at_once = {gone.layers[0].digest}
        found = put_back(night, run.id)[gone.digest]
        assert (found.answer, found.missing, found.tags) == ("partly", (gone.layers[0].digest,), ())
        assert found.message.startswith(f"{COLLECTED}; the tag old could not be put: ")

    def test_an_answer_that_is_none_concerns_one_image(self, shelf: Shelf, night: ShelfNight) -> None:
        bad, good = (shelf.image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2))
        run = night.sweep()
        shelf.broken[f"put shop/api {bad.digest}"] = BadAnswerError("not the protocol")
        found = put_back(night, run.id)
        assert (found[bad.digest].answer, found[good.digest].answer) == ("unfinished", "whole")
