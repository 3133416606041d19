"""What is deleted is kept before, and put back: children first, nobody's tags moved, and what is there said truly."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from policies.holds import Hold
from tests.support.builders import digest, image
from tests.support.oci.manifests import Pushed
from tests.support.shelf import KIND, Shelf, ShelfDriver, ShelfNight
from worker.config.settings import load
from worker.registries import DRIVERS
from worker.registries.errors import (
    BadAnswerError,
    NotFoundError,
    PermissionDeniedError,
    RegistryError,
    UnavailableError,
)
from worker.registries.interface import Kept
from worker.restore import restore
from worker.restore.images import CACHED, COLLECTED, Left, Restored, Wanted, in_order
from worker.restore.restore import Asked, NothingKeptError, TakesNothingBackError
from worker.runs import lifecycle
from worker.runs.lifecycle import AlreadyRunningError, UnknownRegistryError
from worker.store import holds, retention
from worker.store import undo as rows
from worker.store.runs import Run
from worker.store.tables import batch, undo
from worker.store.undo import Undo

MakeNight = Callable[..., ShelfNight]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def made(shelf: Shelf, tmp_path: Path) -> Iterator[MakeNight]:
    """Nights on the shelf, with their driver registered while the test runs."""
    nights: list[ShelfNight] = []

    def make(**changes: Any) -> ShelfNight:
        nights.append(ShelfNight(tmp_path, shelf, **changes))
        DRIVERS[KIND] = nights[-1].driver
        return nights[-1]

    yield make
    DRIVERS.pop(KIND, None)
    for one in nights:
        one.store.dispose()


@pytest.fixture
def night(made: MakeNight) -> ShelfNight:
    return made()


@pytest.fixture
def either(new_store: Callable[[], str | None], made: MakeNight) -> ShelfNight:
    """A night on each kind of store."""
    return made(store=new_store())


def count(night: ShelfNight) -> int:
    with night.store.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(undo)).scalar_one()
        return found


def find(night: ShelfNight, words: str, registry: str | None = None) -> Asked:
    return restore.find(night.store, night.settings, words, registry)


def put_back(night: ShelfNight, words: str) -> dict[str, Restored]:
    """By digest what became of what is asked for; nothing of before is in what was asked of the shelf."""
    night.shelf.asked.clear()
    found = restore.restore(night.store, find(night, words), ShelfDriver(night.shelf))
    assert len({(one.repository, one.digest) for one in found}) == len(found)
    return {one.digest: one for one in found}


def answers(found: dict[str, Restored]) -> set[str]:
    return {one.answer for one in found.values()}


class Family:
    """A nested index with its images, one of them signed, that all go in one night."""

    def __init__(self, shelf: Shelf, path: str = "shop/api") -> None:
        self.children = [shelf.image(path, layers=["base", f"{path} arm {number}"]) for number in range(3)]
        self.inner = shelf.index(path, lists=self.children[:2])
        self.outer = shelf.index(path, "old-1", "old-latest", lists=[self.inner, self.children[2]])
        signed = self.outer.digest.replace(":", "-")
        self.signature = shelf.image(path, f"{signed}.sig", layers=["signature"])
        self.referrer = shelf.image(path, layers=["report"], subject=self.children[0])

    @property
    def all(self) -> list[Pushed]:
        return [*self.children, self.inner, self.outer, self.signature, self.referrer]


class TestWhatIsKept:
    def test_bytes_type_tags_and_children_with_the_intent(self, shelf: Shelf, either: ShelfNight) -> None:
        family = Family(shelf)
        run = either.sweep()
        with either.store.read() as connection:
            kept = {one.kept.digest: one for one in rows.of_run(connection, run.id, "shop/api")}
            assert rows.repositories_of(connection, run.id) == {"shop/api": 7}
            assert rows.count_unkept(connection, run.id) == 0
        assert {one: (found.kept.body, found.kept.media_type) for one, found in kept.items()} == {
            one.digest: (one.body, one.media_type) for one in family.all
        }
        outer = kept[family.outer.digest].image
        assert (outer.tags, outer.children) == (
            ("old-1", "old-latest"),
            (family.inner.digest, family.children[2].digest),
        )
        assert kept[family.referrer.digest].image.subject == family.children[0].digest

    def test_before_the_deletion(self, shelf: Shelf, night: ShelfNight) -> None:
        one = shelf.image("shop/api", "old", layers=["a"])
        night.sweep()
        verbs = [verb for verb, what in shelf.asked if what == one.digest]
        assert verbs.index("keep shop/api") < verbs.index("delete shop/api")

    def test_what_cannot_be_kept_is_not_deleted(self, shelf: Shelf, night: ShelfNight) -> None:
        one = shelf.image("shop/api", "old", layers=["a"])
        shelf.broken["keep shop/api"] = BadAnswerError("other bytes than its digest names")
        run = night.sweep()
        assert (run.deleted, run.failed) == (0, 1)
        assert shelf.whole("shop/api", one.digest)
        assert ("delete shop/api", one.digest) not in shelf.asked

    def test_nothing_without_an_intent(self, shelf: Shelf, night: ShelfNight) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        run_id, bells = night.plan()
        with night.store.write() as connection:
            holds.add(connection, "production", Hold(kind="tag", repository="shop/api", value="old"), datetime.now(UTC))
        night.ring(bells)
        assert night.run(run_id).skipped == 1
        assert count(night) == 0

    def test_once_though_it_is_intended_again_and_only_what_went_is_put_back(
        self, shelf: Shelf, night: ShelfNight
    ) -> None:
        one = shelf.image("shop/api", "old", layers=["a"])
        shelf.broken["delete shop/api"] = UnavailableError("a cut connection", maybe_done=True)
        run_id, bells = night.plan()
        night.ring(bells)
        assert count(night) == 1
        with night.store.read() as connection:
            assert rows.of_run(connection, run_id, "shop/api") == []
        shelf.broken.clear()
        with night.store.write() as connection:
            connection.execute(update(batch).values(rung_at=None))
        night.ring(lifecycle.ring(night.store, run_id, datetime.now(UTC)))
        assert night.run(run_id).deleted == 1
        assert [what for verb, what in shelf.asked if verb == "keep shop/api"] == [one.digest]

    def test_as_long_as_its_plan(self, shelf: Shelf, either: ShelfNight) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        run = either.sweep()
        with suppress(ZeroDivisionError), either.store.write() as connection:  # a crash in the midst of forgetting
            retention.forget(connection, "production", plans=0)
            raise ZeroDivisionError
        assert find(either, run.id).repositories == {"shop/api": 1}
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=0)
        assert count(either) == 0
        with pytest.raises(NothingKeptError, match=r"nothing is kept \(any more\) of what run .* deleted"):
            find(either, run.id)

    def test_though_runs_that_delete_nothing_come_after_it(self, shelf: Shelf, either: ShelfNight) -> None:
        taken = []
        for layer in ("first", "second", "third"):
            taken.append((shelf.image("shop/api", "old", layers=[layer]), either.sweep()))
            for _ in range(3):
                either.sweep(dry_run=True)
                either.sweep()
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=2)
        assert count(either) == 2
        for gone, run in taken[1:]:
            assert find(either, run.id).repositories == {"shop/api": 1}
            assert answers(put_back(either, gone.digest)) == {"whole"}
        with pytest.raises(NothingKeptError, match=r"the last 30 runs that deleted anything"):
            find(either, taken[0][1].id)

    def test_of_a_run_of_which_only_doubt_is_left(self, shelf: Shelf, either: ShelfNight) -> None:
        gone, run = unconfirmed(shelf, either)
        for _ in range(3):
            either.sweep(dry_run=True)
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=1)
        assert put_back(either, run.id).keys() == {gone.digest}
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=0)
        with pytest.raises(NothingKeptError, match=r"nothing is kept \(any more\)"):
            find(either, run.id)

    def test_not_of_a_run_that_surely_deleted_nothing(self, shelf: Shelf, night: ShelfNight) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        shelf.broken["delete shop/api"] = PermissionDeniedError("denied")
        refused = night.sweep()
        assert (refused.failed, count(night)) == (1, 1)
        with pytest.raises(NothingKeptError, match=f"run {refused.id} deleted nothing"):
            find(night, refused.id)
        night.sweep(dry_run=True)
        with night.store.write() as connection:
            retention.forget(connection, "production", plans=1)
        assert count(night) == 0


def unconfirmed(shelf: Shelf, night: ShelfNight) -> tuple[Pushed, Run]:
    """An image that a run asked to be deleted, of which nobody knows whether it was; it is gone by now."""
    gone = shelf.image("shop/api", "old", layers=["a"])
    shelf.broken["delete shop/api"] = NotFoundError("not found, and listed all the same")
    run = night.sweep()
    assert (run.deleted, run.gone) == (0, 0)
    assert night.outcomes(run.id) == {gone.digest: ("failed", "unconfirmed")}
    shelf.broken.clear()
    shelf.take_away("shop/api", gone.digest)
    return gone, run


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

    def test_an_index_brings_what_it_needs_and_what_belongs_to_it(self, shelf: Shelf, night: ShelfNight) -> None:
        family = Family(shelf)
        other = shelf.image("shop/api", "old-other", layers=["other"])
        night.sweep()
        assert put_back(night, "shop/api:old-latest").keys() == {one.digest for one in family.all}
        assert shelf.whole("shop/api", "old-1")
        assert not shelf.whole("shop/api", other.digest)

    def test_a_child_that_another_run_deleted_comes_without_its_tags(self, shelf: Shelf, night: ShelfNight) -> None:
        child = shelf.image("shop/api", "old-child", layers=["a"])
        index = shelf.index("shop/api", "old-index", lists=[child])
        shelf.repositories["shop/api"].tags.pop("old-child")
        night.sweep()
        restored = put_back(night, "shop/api:old-index")
        assert answers(restored) == {"whole"}
        shelf.take_away("shop/api", index.digest)  # by somebody else, of which this store keeps nothing more
        shelf.repositories["shop/api"].tags["old-child"] = child.digest
        second = night.sweep()
        assert second.deleted == 1

        found = put_back(night, f"shop/api@{index.digest}")
        assert answers(found) == {"whole"}
        assert found[child.digest].run == second.id
        assert shelf.puts("shop/api") == [child.digest, index.digest, "old-index"]

    def test_a_child_that_was_never_ours_is_missed(self, shelf: Shelf, night: ShelfNight) -> None:
        child = shelf.image("shop/api", "v-child", layers=["a"])
        index = shelf.index("shop/api", "old", lists=[child])
        night.sweep()
        shelf.take_away("shop/api", child.digest)
        found = put_back(night, "shop/api:old")[index.digest]
        assert (found.answer, found.missing) == ("lost", (child.digest,))
        assert "MANIFEST_BLOB_UNKNOWN" in found.message

    def test_the_newest_deletion_that_had_the_tag(self, shelf: Shelf, night: ShelfNight) -> None:
        for layer in ("first", "second"):
            newest = shelf.image("shop/api", "old", layers=[layer])
            night.sweep()
        assert put_back(night, "shop/api:old").keys() == {newest.digest}

    def test_blobs_are_taken_over_from_another_repository(self, shelf: Shelf, night: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", layers=["base", "own"])
        shelf.image("shop/web", "v1", layers=["base"])
        shelf.image("tools/ci", "v1", layers=["own", "other"])
        run = night.sweep()
        layers = [one.digest for one in gone.layers]
        shelf.repositories["shop/api"].linked -= set(layers)
        assert answers(put_back(night, run.id)) == {"whole"}
        mounts = [what for verb, what in shelf.asked if verb == "mount shop/api"]
        assert mounts == [f"{layers[0]} from shop/web", f"{layers[1]} from tools/ci"]

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

    def test_no_right_to_push_into_one_repository(self, shelf: Shelf, night: ShelfNight) -> None:
        closed = [shelf.image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2)]
        open_ = shelf.image("shop/web", "old", layers=["b"])
        run = night.sweep()
        shelf.broken["put shop/api"] = PermissionDeniedError("insufficient_scope")
        found = put_back(night, run.id)
        assert found[open_.digest].answer == "whole"
        assert {found[one.digest].answer for one in closed} == {"unfinished"}
        assert all("the right to pull and push in shop/api" in found[one.digest].message for one in closed)
        assert len(shelf.puts("shop/api")) == 1

    def test_a_registry_that_goes_away(self, shelf: Shelf, night: ShelfNight) -> None:
        images = [shelf.image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(3)]
        run = night.sweep()
        shelf.broken["put shop/api"] = UnavailableError("no answer")
        found = put_back(night, run.id)
        assert {found[one.digest].answer for one in images} == {"unfinished"}
        assert sorted(one.message for one in found.values()) == ["no answer"] + ["not tried: no answer"] * 2
        assert len(shelf.puts("shop/api")) == 1

    def test_an_answer_that_is_none_concerns_one_image(self, shelf: Shelf, night: ShelfNight) -> None:
        bad, good = (shelf.image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2))
        run = night.sweep()
        shelf.broken[f"put shop/api {bad.digest}"] = BadAnswerError("not the protocol")
        found = put_back(night, run.id)
        assert (found[bad.digest].answer, found[good.digest].answer) == ("unfinished", "whole")


class TestWhatIsAsked:
    def test_a_run_that_may_be_deleting_is_waited_for(self, shelf: Shelf, night: ShelfNight) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        run = night.sweep()
        second = night.open(dry_run=True)
        assert find(night, run.id).run_id == run.id  # a dry run is in nobody's way
        lifecycle.abort(night.store, second, datetime.now(UTC))
        third = night.open()
        for words in (run.id, "shop/api:old"):
            with pytest.raises(AlreadyRunningError, match=third):
                find(night, words)

    def test_dry_run_in_the_file_forbids_no_restoring(self, shelf: Shelf, night: ShelfNight) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        night.sweep()
        night.change(mode="dry-run")
        assert answers(put_back(night, "shop/api:old")) == {"whole"}

    def test_a_renamed_registry_is_the_same(self, shelf: Shelf, either: ShelfNight) -> None:
        gone = shelf.image("shop/api", "old", layers=["a"])
        run = either.sweep()
        either.change(name="main")
        for words in (run.id, "shop/api:old", f"shop/api@{gone.digest}", f"shop/api:old@{gone.digest}", gone.digest,
                      gone.digest[7:27]):  # fmt: skip
            asked = find(either, words)
            assert (asked.registry.name, asked.run_id, asked.repositories) == ("main", run.id, {"shop/api": 1})

    @pytest.mark.parametrize(
        "words", ["shop/api:nosuch", "shop/api:OLD", "shop/api:ol_", "shop/web:old", "20260101T000000Z-aaaaaaaa", "o"]
    )
    def test_nothing_of_that_name(self, shelf: Shelf, night: ShelfNight, words: str) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        night.sweep()
        with pytest.raises(NothingKeptError, match=f"no run has the id '{words}', and no deleted image of production"):
            find(night, words)

    def test_a_run_that_deleted_nothing(self, night: ShelfNight) -> None:
        run = night.sweep()
        with pytest.raises(NothingKeptError, match=f"run {run.id} deleted nothing"):
            find(night, run.id)

    def test_a_digest_of_two_repositories(self, shelf: Shelf, night: ShelfNight) -> None:
        for path in ("shop/api", "shop/web"):
            gone = shelf.image(path, "old", layers=["a"])
        night.sweep()
        with pytest.raises(NothingKeptError, match=rf"say which: shop/api@{gone.digest}, shop/web@{gone.digest}"):
            find(night, gone.digest)
        assert find(night, f"shop/web@{gone.digest}").repositories == {"shop/web": 1}

    def test_an_image_of_two_registries(self, shelf: Shelf, made: MakeNight) -> None:
        night = made(registries={name: ShelfNight.entry() | {"id": name} for name in ("production", "second")})
        for name in ("production", "second"):
            shelf.image("shop/api", "old", layers=["a"])
            now = datetime.now(UTC)
            opened = lifecycle.open_run(night.store, night.settings, name, trigger="command", now=now)
            night.ring(opened.bells)
        with pytest.raises(
            NothingKeptError, match="was deleted from production, second; say from which with --registry"
        ):
            find(night, "shop/api:old")
        asked = find(night, "shop/api:old", "second")
        assert (asked.registry.name, asked.run_id) == ("second", opened.run_id)
        assert find(night, opened.run_id).registry.name == "second"
        with pytest.raises(NothingKeptError, match=f"run {opened.run_id} is not one of production, but of second"):
            find(night, opened.run_id, "production")
        with pytest.raises(UnknownRegistryError, match=r"no registry 'third' in .*; known: production, second"):
            find(night, "shop/api:old", "third")

    def test_a_registry_that_left_the_file(self, shelf: Shelf, night: ShelfNight) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        run = night.sweep()
        night.change(id="another")
        with pytest.raises(NothingKeptError, match=rf"run {run.id} deleted from production \(.* crp1\), which .* has"):
            find(night, run.id)

    def test_a_kind_that_takes_nothing_back(self, shelf: Shelf, night: ShelfNight) -> None:
        shelf.image("shop/api", "old", layers=["a"])
        run = night.sweep()
        asked = find(night, run.id)
        plain = load(night.path, environ={"TOKEN": "t"})
        said = "production is a yandex-container-registry, which takes no deleted image back"
        with pytest.raises(TakesNothingBackError, match=said):
            restore.find(night.store, plain, "shop/api:old", "production")
        with pytest.raises(
            TakesNothingBackError, match=r"no registry of .* is of a kind that takes deleted images back"
        ):
            restore.find(night.store, plain, "shop/api:old")
        with pytest.raises(TakesNothingBackError, match="production is a shelf"):
            restore.restore(night.store, asked, OneWay())

    def test_what_was_not_kept_is_counted(self, shelf: Shelf, night: ShelfNight) -> None:
        one, other = (shelf.image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2))
        run = night.sweep()
        with night.store.write() as connection:
            connection.execute(delete(undo).where(undo.c.digest == one.digest))
        assert find(night, run.id).unkept == 1
        assert put_back(night, run.id).keys() == {other.digest}


class OneWay(ShelfDriver):
    """A registry that only deletes."""

    put = None  # type: ignore[assignment]  # so that it is none that Restores

    def __init__(self) -> None:
        super().__init__(Shelf())


def wanted(name: int) -> Wanted:
    one = image(name)
    return Wanted(Undo("run", name, "shop/api", one, Kept(one.digest, "", b""), datetime.now(UTC)))


@given(st.data())
def test_what_is_listed_comes_before_what_lists_it(data: st.DataObject) -> None:
    """Whatever the order of the rows, and whatever they say of each other's subjects."""
    size = data.draw(st.integers(1, 12))
    lists = {
        number: data.draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else set()
        for number in range(size)
    }
    about = {number: data.draw(st.sets(st.integers(0, size + 2), max_size=2)) for number in range(size)}
    needs = {digest(number): tuple(map(digest, some)) for number, some in lists.items()}
    subjects = {digest(number): tuple(map(digest, some)) for number, some in about.items()}
    names = data.draw(st.permutations(range(size)))
    order = [one.undo.item for one in in_order([wanted(name) for name in names], needs, subjects)]
    assert sorted(order) == list(range(size))
    assert all(order.index(child) < order.index(index) for index, some in lists.items() for child in some)
    assert order == [one.undo.item for one in in_order([wanted(name) for name in sorted(names)], needs, subjects)]
    if all(subject < one for one, some in about.items() for subject in some):  # no circle is possible
        assert all(order.index(subject) < order.index(one) for one, some in about.items() for subject in some)


def test_a_long_chain_is_no_recursion() -> None:
    chain = {digest(number): (digest(number - 1),) for number in range(1, 3000)}
    order = in_order([wanted(number) for number in range(3000)], chain, {})
    assert [one.undo.item for one in order] == list(range(3000))
