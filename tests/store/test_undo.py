"""Which manifests are saved before a deletion, and for how long."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from policies.holds import Hold
from tests.support.memory_harness import MakeMemoryHarness, MemoryHarness
from tests.support.memory_registry import MemoryRegistry
from tests.support.restoring import Family, answers, count, find, restore, unconfirmed
from worker.registries.errors import (
    BadResponseError,
    PermissionDeniedError,
    UnavailableError,
)
from worker.restore.restore import NothingToRestoreError
from worker.runs import lifecycle
from worker.store import holds, retention
from worker.store import undo as rows
from worker.store.tables import batch


@pytest.fixture
def harness(make_memory_harness: MakeMemoryHarness) -> MemoryHarness:
    return make_memory_harness()


@pytest.fixture
def either(new_store: Callable[[], str | None], make_memory_harness: MakeMemoryHarness) -> MemoryHarness:
    """A harness on each kind of store."""
    return make_memory_harness(store=new_store())


class TestSavedManifests:
    def test_saves_bytes_type_tags_and_children_with_the_intent(
        self, registry: MemoryRegistry, either: MemoryHarness
    ) -> None:
        family = Family(registry)
        run = either.sweep()
        with either.store.read() as connection:
            kept = {record.manifest.digest: record for record in rows.find_by_run(connection, run.id, "shop/api")}
            assert rows.repositories_of(connection, run.id) == {"shop/api": 7}
            assert rows.count_unsaved(connection, run.id) == 0
        assert {name: (record.manifest.body, record.manifest.media_type) for name, record in kept.items()} == {
            image.digest: (image.body, image.media_type) for image in family.all
        }
        outer = kept[family.outer.digest].image
        assert (outer.tags, outer.children) == (
            ("old-1", "old-latest"),
            (family.inner.digest, family.children[2].digest),
        )
        assert kept[family.referrer.digest].image.subject == family.children[0].digest

    def test_saves_the_manifest_before_the_deletion(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        image = registry.push_image("shop/api", "old", layers=["a"])
        harness.sweep()
        calls = [call for call, path, what in registry.asked if (path, what) == ("shop/api", image.digest)]
        assert calls.index("keep") < calls.index("delete")

    def test_does_not_delete_an_image_whose_manifest_cannot_be_saved(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        image = registry.push_image("shop/api", "old", layers=["a"])
        registry.fail("keep", "shop/api", BadResponseError("other bytes than its digest names"))
        run = harness.sweep()
        assert (run.deleted, run.failed) == (0, 1)
        assert registry.whole("shop/api", image.digest)
        assert ("delete", "shop/api", image.digest) not in registry.asked

    def test_saves_nothing_without_an_intent(self, registry: MemoryRegistry, harness: MemoryHarness) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        run_id, task_calls = harness.plan()
        with harness.store.write() as connection:
            holds.add(connection, "production", Hold(kind="tag", repository="shop/api", value="old"), datetime.now(UTC))
        harness.carry_out(task_calls)
        assert harness.run(run_id).skipped == 1
        assert count(harness) == 0

    def test_saves_a_manifest_once_and_restores_only_deleted_images(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        image = registry.push_image("shop/api", "old", layers=["a"])
        registry.fail("delete", "shop/api", UnavailableError("a cut connection", maybe_done=True))
        run_id, task_calls = harness.plan()
        harness.carry_out(task_calls)
        assert count(harness) == 1
        with harness.store.read() as connection:
            assert rows.find_by_run(connection, run_id, "shop/api") == []
        registry.faults.clear()
        with harness.store.write() as connection:
            connection.execute(update(batch).values(published_at=None))
        harness.carry_out(lifecycle.next_task_calls(harness.store, run_id, datetime.now(UTC)))
        assert harness.run(run_id).deleted == 1
        assert registry.asked_about("keep", "shop/api") == [image.digest]

    def test_keeps_a_manifest_as_long_as_its_plan(self, registry: MemoryRegistry, either: MemoryHarness) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        run = either.sweep()
        with suppress(ZeroDivisionError), either.store.write() as connection:  # a crash in the midst of forgetting
            retention.forget(connection, "production", plans=0)
            raise ZeroDivisionError
        assert find(either, run.id).repositories == {"shop/api": 1}
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=0)
        assert count(either) == 0
        with pytest.raises(NothingToRestoreError, match=r"no manifest that run .* deleted is saved \(any more\)"):
            find(either, run.id)

    def test_keeps_a_manifest_through_later_runs_that_delete_nothing(
        self, registry: MemoryRegistry, either: MemoryHarness
    ) -> None:
        taken = []
        for layer in ("first", "second", "third"):
            taken.append((registry.push_image("shop/api", "old", layers=[layer]), either.sweep()))
            for _ in range(3):
                either.sweep(dry_run=True)
                either.sweep()
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=2)
        assert count(either) == 2
        for gone, run in taken[1:]:
            assert find(either, run.id).repositories == {"shop/api": 1}
            assert answers(restore(either, gone.digest)) == {"whole"}
        with pytest.raises(NothingToRestoreError, match=r"the last 30 runs that deleted anything"):
            find(either, taken[0][1].id)

    def test_keeps_manifests_of_a_run_with_only_unconfirmed_deletions(
        self, registry: MemoryRegistry, either: MemoryHarness
    ) -> None:
        gone, run = unconfirmed(registry, either)
        for _ in range(3):
            either.sweep(dry_run=True)
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=1)
        assert restore(either, run.id).keys() == {gone.digest}
        with either.store.write() as connection:
            retention.forget(connection, "production", plans=0)
        with pytest.raises(NothingToRestoreError, match=r"is saved \(any more\)"):
            find(either, run.id)

    def test_forgets_manifests_of_a_run_that_deleted_nothing(
        self, registry: MemoryRegistry, harness: MemoryHarness
    ) -> None:
        registry.push_image("shop/api", "old", layers=["a"])
        registry.fail("delete", "shop/api", PermissionDeniedError("denied"))
        refused = harness.sweep()
        assert (refused.failed, count(harness)) == (1, 1)
        with pytest.raises(NothingToRestoreError, match=f"run {refused.id} deleted nothing"):
            find(harness, refused.id)
        harness.sweep(dry_run=True)
        with harness.store.write() as connection:
            retention.forget(connection, "production", plans=1)
        assert count(harness) == 0
