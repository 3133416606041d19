"""Requests to restore: found in the store or refused, with the images that they need, and their limits."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import delete

from tests.support.memory_driver import MemoryDriver
from tests.support.memory_harness import MakeMemoryHarness, MemoryHarness
from tests.support.memory_registry import MemoryRegistry
from tests.support.restoring import Family, answers, find, restore
from worker.config.settings import load
from worker.registries.errors import PermissionDeniedError, UnavailableError
from worker.restore import restore as restoring
from worker.restore.restore import NothingToRestoreError, RestoreUnsupportedError
from worker.runs import lifecycle
from worker.runs.lifecycle import AlreadyRunningError, UnknownRegistryError
from worker.store.tables import undo


class TestRequests:
    def test_refuses_to_restore_while_a_run_may_be_deleting(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        run = harness.sweep()
        second = harness.open(dry_run=True)
        assert find(harness, run.id).run_id == run.id  # a dry run does not block a restore
        lifecycle.abort(harness.store, second, datetime.now(UTC))
        third = harness.open()
        for words in (run.id, "shop/api:old"):
            with pytest.raises(AlreadyRunningError, match=third):
                find(harness, words)

    def test_restores_despite_dry_run_in_the_file(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        harness.sweep()
        harness.change(mode="dry-run")
        assert answers(restore(harness, "shop/api:old")) == {"whole"}

    def test_finds_deletions_of_a_renamed_registry(self, registry: MemoryRegistry, either: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", layers=["a"])
        image_id = registry.repositories["shop/api"][gone.digest].id
        run = either.sweep()
        either.change(name="main")
        names = ("shop/api:old", f"shop/api@{gone.digest}", f"shop/api:old@{gone.digest}", gone.digest, image_id)
        for words in (run.id, *names):
            asked = find(either, words)
            assert (asked.registry.name, asked.run_id, asked.repositories) == ("main", run.id, {"shop/api": 1})

    @pytest.mark.parametrize(
        "words", ["shop/api:nosuch", "shop/api:OLD", "shop/api:ol_", "shop/web:old", "20260101T000000Z-aaaaaaaa", "o"]
    )
    def test_refuses_an_unknown_reference(self, registry: MemoryRegistry, harness: MemoryHarness, words: str) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        harness.sweep()
        with pytest.raises(
            NothingToRestoreError, match=f"'{words}' is no run's id, and no deleted image of production"
        ):
            find(harness, words)

    def test_refuses_a_run_that_deleted_nothing(self, harness: MemoryHarness) -> None:
        run = harness.sweep()
        with pytest.raises(NothingToRestoreError, match=f"run {run.id} deleted nothing"):
            find(harness, run.id)

    def test_refuses_a_digest_of_two_repositories(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        for path in ("shop/api", "shop/web"):
            gone = registry.push_image(path, "old", layers=["a"])
        harness.sweep()
        with pytest.raises(NothingToRestoreError, match=rf"choose: shop/api@{gone.digest}, shop/web@{gone.digest}"):
            find(harness, gone.digest)
        assert find(harness, f"shop/web@{gone.digest}").repositories == {"shop/web": 1}

    def test_refuses_an_image_of_two_registries(
        self, registry: MemoryRegistry, make_memory_harness: MakeMemoryHarness
    ) -> None:
        harness = make_memory_harness(
            registries={name: MemoryHarness.entry() | {"id": name} for name in ("production", "second")}
        )
        for name in ("production", "second"):
            registry.push_image("shop/api", "old", layers=["a"])
            now = datetime.now(UTC)
            opened = lifecycle.open_run(harness.store, harness.settings, name, trigger="command", now=now)
            harness.carry_out(opened.task_calls)
        with pytest.raises(NothingToRestoreError, match="was deleted from production, second; choose with --registry"):
            find(harness, "shop/api:old")
        asked = find(harness, "shop/api:old", "second")
        assert (asked.registry.name, asked.run_id) == ("second", opened.run_id)
        assert find(harness, opened.run_id).registry.name == "second"
        with pytest.raises(
            NothingToRestoreError, match=f"run {opened.run_id} is not a run of production, but of second"
        ):
            find(harness, opened.run_id, "production")
        with pytest.raises(UnknownRegistryError, match=r"no registry 'third' in .*; known: production, second"):
            find(harness, "shop/api:old", "third")

    def test_refuses_a_registry_that_the_file_does_not_have(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        run = harness.sweep()
        harness.change(id="another")
        with pytest.raises(
            NothingToRestoreError, match=rf"run {run.id} deleted from production \(.* crp1\), which .* does not have"
        ):
            find(harness, run.id)

    def test_refuses_a_kind_that_cannot_restore(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        run = harness.sweep()
        asked = find(harness, run.id)
        plain = load(harness.path, environ={"TOKEN": "t"})
        said = "production is a yandex-container-registry, which cannot restore deleted images"
        with pytest.raises(RestoreUnsupportedError, match=said):
            restoring.resolve_request(harness.store, plain, "shop/api:old", "production")
        with pytest.raises(
            RestoreUnsupportedError, match=r"no registry of .* is of a kind that can restore deleted images"
        ):
            restoring.resolve_request(harness.store, plain, "shop/api:old")
        with pytest.raises(RestoreUnsupportedError, match="production is a memory"):
            restoring.restore(harness.store, asked, MemoryDriver(registry))

    def test_counts_deleted_images_without_a_saved_manifest(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        image, other = (registry.push_image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2))
        run = harness.sweep()
        with harness.store.write() as connection:
            connection.execute(delete(undo).where(undo.c.digest == image.digest))
        assert find(harness, run.id).unsaved == 1
        assert restore(harness, run.id).keys() == {other.digest}


class TestRestoredImages:
    def test_restores_an_index_with_its_children_and_referrers(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        family = Family(registry)
        other = registry.push_image("shop/api", "old-other", layers=["other"])
        harness.sweep()
        assert restore(harness, "shop/api:old-latest").keys() == {image.digest for image in family.all}
        assert registry.whole("shop/api", "old-1")
        assert not registry.whole("shop/api", other.digest)

    def test_restores_a_child_that_another_run_deleted_without_its_tags(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        child = registry.push_image("shop/api", "old-child", layers=["a"])
        index = registry.push_index("shop/api", "old-index", lists=[child])
        registry.untag("shop/api", "old-child")
        harness.sweep()
        restored = restore(harness, "shop/api:old-index")
        assert answers(restored) == {"whole"}
        registry.remove("shop/api", index.digest)  # by somebody else, of which this store keeps nothing more
        registry.tag("shop/api", child.digest, "old-child")
        second = harness.sweep()
        assert second.deleted == 1

        results = restore(harness, f"shop/api@{index.digest}")
        assert answers(results) == {"whole"}
        assert results[child.digest].run == second.id
        assert registry.asked_about("put", "shop/api") == [child.digest, index.digest, "old-index"]

    def test_restores_the_newest_deletion_with_the_tag(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        for layer in ("first", "second"):
            newest = registry.push_image("shop/api", "old", layers=[layer])
            harness.sweep()
        assert restore(harness, "shop/api:old").keys() == {newest.digest}

    def test_mounts_blobs_from_another_repository(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        gone = registry.push_image("shop/api", "old", layers=["base", "own"])
        registry.push_image("shop/web", "v1", layers=["base"])
        registry.push_image("tools/ci", "v1", layers=["own", "other"])
        run = harness.sweep()
        layers = [layer.digest for layer in gone.layers]
        registry.blobs.linked["shop/api"] -= set(layers)
        assert answers(restore(harness, run.id)) == {"whole"}
        mounts = registry.asked_about("mount", "shop/api")
        assert mounts == [f"{layers[0]} from shop/web", f"{layers[1]} from tools/ci"]

    def test_a_forbidden_repository_does_not_stop_others(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        closed = [registry.push_image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(2)]
        open_ = registry.push_image("shop/web", "old", layers=["b"])
        run = harness.sweep()
        registry.fail("put", "shop/api", PermissionDeniedError("insufficient_scope"))
        results = restore(harness, run.id)
        assert results[open_.digest].answer == "whole"
        assert {results[image.digest].answer for image in closed} == {"unfinished"}
        assert all("the right to pull and push in shop/api" in results[image.digest].message for image in closed)
        assert len(registry.asked_about("put", "shop/api")) == 1

    def test_stops_when_the_registry_becomes_unavailable(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        images = [registry.push_image("shop/api", f"old-{number}", layers=[f"a{number}"]) for number in range(3)]
        run = harness.sweep()
        registry.fail("put", "shop/api", UnavailableError("no answer"))
        results = restore(harness, run.id)
        assert {results[image.digest].answer for image in images} == {"unfinished"}
        assert sorted(result.message for result in results.values()) == ["no answer"] + ["not tried: no answer"] * 2
        assert len(registry.asked_about("put", "shop/api")) == 1
