"""The check right before a deletion: an owner that is back, a tag that moved, a listing that takes long."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.manifests import Pushed
from tests.support.simulator.client import Simulator
from tests.sweep.shops import DAY, PATH, STILL_NEEDED, Shop, first_deletion, stored_batches
from worker.runs import lifecycle, tags_read
from worker.runs.lifecycle import TaskCall
from worker.store import sweeping
from worker.store.tables import run
from worker.sweep import batches, deletion, live_check


@pytest.mark.parametrize("tag", ["v9", "production"], ids=["a new tag", "a tag that moves"])
def test_an_index_pushed_after_the_recheck_keeps_planned_images(shop: Shop, tag: str) -> None:
    planned = [shop.push(content="a"), shop.push(content="b")] if shop.kind != "oci" else []
    planned += [shop.push("pr-1", content="c"), shop.push("pr-2", content="d")]
    other = shop.push("pr-3", content="e")
    shop.push("production", content="kept")
    harness = shop.harness()
    run_id, task_calls = harness.plan_and_recheck()

    index = shop.push_index(*planned, tag=tag)
    harness.carry_out(task_calls)

    assert {index, *planned} <= shop.there()
    assert other not in shop.there()
    # Where only tags are listed, the reading of the image itself finds the new tag first.
    causes = {cause for digest, (_, cause) in harness.outcomes(run_id).items() if digest in planned}
    assert causes == ({"used_by_image_lists"} if shop.kind == "oci" else {"still_needed"})


class TestOwnersRightNow:
    """The last moment at which an owner can come back and be seen: its child was read, and no DELETE was sent yet."""

    def test_keeps_an_image_whose_owner_is_back_where_only_tags_are_listed(
        self, fake: FakeRegistry, tmp_path: Path
    ) -> None:
        shop = Shop("oci", fake, tmp_path)
        child = shop.push(content="a")
        index = shop.push_index(child, tag="pr-1")
        shop.push("v1", content="kept")
        harness = shop.harness()
        run_id, task_calls = first_deletion(harness)

        fake.before("HEAD", f"/manifests/{child}$", lambda: shop.push_index(child, tag="pr-1"))
        harness.carry_out(task_calls)

        assert {index, child} <= shop.there()
        assert harness.outcomes(run_id)[child] == STILL_NEEDED
        harness.store.dispose()

    def test_keeps_an_image_whose_owner_is_back_where_every_image_is_listed(
        self, simulator: Simulator, tmp_path: Path
    ) -> None:
        shop = Shop("yandex-container-registry", simulator, tmp_path)
        child = simulator.push(PATH, content="a", age=30 * DAY)
        index = shop.push_index(child["digest"], tag="pr-1")
        shop.push("v1", content="kept")
        harness = shop.harness()
        run_id, task_calls = first_deletion(harness)

        again = {"repository": PATH, "children": [child["digest"]], "tags": ["pr-1"]}
        simulator.before("GET", f"/images/{child['id']}", "push_index", **again)
        harness.carry_out(task_calls)

        assert {index, child["digest"]} <= shop.there()
        assert harness.outcomes(run_id)[child["digest"]] == STILL_NEEDED
        harness.store.dispose()

    @pytest.mark.parametrize("kind", ["yandex-container-registry", "yandex-cloud-registry"])
    def test_reads_owners_again_however_recent_the_last_listing_is(
        self, simulator: Simulator, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A listing that is still recent enough for all other checks is too old to prove owners."""
        monkeypatch.setattr(live_check, "SHARED", 3600.0)
        shop = Shop(kind, simulator, tmp_path)
        child = shop.push(content="a")
        index = shop.push_index(child, tag="pr-1")
        shop.push("v1", content="kept")
        harness = shop.harness()
        run_id, task_calls = first_deletion(harness)

        again = {"repository": PATH, "children": [child], "tags": ["pr-1"]}
        simulator.before("HEAD", f"/manifests/{index}", "push_index", **again)
        harness.carry_out(task_calls)

        assert {index, child} <= shop.there()
        assert harness.outcomes(run_id)[child] == STILL_NEEDED
        harness.store.dispose()

    MANY = live_check.FEW_OWNERS + 1

    def owned_by_many(self, fake: FakeRegistry, tmp_path: Path) -> tuple[Shop, Harness, list[str], list[Pushed]]:
        """Two children, and the indexes that list both."""
        shop = Shop("oci", fake, tmp_path)
        children = [shop.push(content="a"), shop.push(content="b")]
        indexes = [
            fake.push_index(PATH, f"pr-{number}", children=children, annotations={"n": f"{number}"})
            for number in range(self.MANY)
        ]
        shop.push("v1", content="kept")
        return shop, shop.harness(rate={"requests_per_second": 60, "concurrency": 1}), children, indexes

    def test_keeps_an_image_if_one_of_many_owners_is_back(self, fake: FakeRegistry, tmp_path: Path) -> None:
        """Their absence for the image before does not count."""
        shop, harness, children, indexes = self.owned_by_many(fake, tmp_path)
        run_id, task_calls = harness.plan()
        last = indexes[-1]
        fake.before("DELETE", f"/manifests/({'|'.join(children)})$", lambda: fake.put(PATH, last.body, last.media_type))

        harness.carry_out(task_calls)

        (left,) = set(children) & shop.there()
        assert last.digest in shop.there()
        assert harness.outcomes(run_id)[left] == STILL_NEEDED
        harness.store.dispose()

    def test_skips_an_image_with_more_owners_than_can_be_read_in_time(
        self, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_check, "OWNERS_SECONDS", 0.1)
        shop, harness, children, _ = self.owned_by_many(fake, tmp_path)
        run = harness.sweep()
        assert (run.state, run.deleted, run.skipped) == ("finished", self.MANY, 2)
        assert set(children) <= shop.there()
        messages = {item.message or "" for item in harness.items(run.id) if item.decision.digest in children}
        assert all("raise rate.requests_per_second" in message for message in messages)
        harness.store.dispose()


def lines_of(fake: FakeRegistry, harness: Harness, task_call: TaskCall) -> list[str]:
    """The first lines of the requests that a task call sends."""
    before = len(fake.requests)
    harness.do(task_call)
    return [request.line for request in fake.requests[before:]]


class TestMoreTagsThanAreReadInASecond:
    """Where only tags are listed, every tag is read before a batch, if that takes no longer than 30 s."""

    def planned(self, fake: FakeRegistry, tmp_path: Path, rate: float = 20) -> tuple[Shop, Harness, str]:
        shop = Shop("oci", fake, tmp_path)
        old = shop.push("pr-1", content="old")
        shop.push("production", content="kept")
        for number in range(28):
            fake.push(PATH, f"v{number}", layers=[number])
        return shop, shop.harness(rate={"requests_per_second": rate, "concurrency": 4}), old

    @pytest.mark.parametrize("adopted", [False, True], ids=["a tag rolled back", "an index under a known tag"])
    def test_keeps_an_image_to_which_a_known_tag_moves_after_the_recheck(
        self, fake: FakeRegistry, tmp_path: Path, adopted: bool
    ) -> None:
        shop, harness, old = self.planned(fake, tmp_path)
        run_id, task_calls = harness.plan_and_recheck()
        if adopted:
            shop.push_index(old, tag="production")
        else:
            fake.move_tag(PATH, "production", old)

        harness.carry_out(task_calls)

        assert fake.deleted == []
        assert harness.outcomes(run_id) == {old: STILL_NEEDED if adopted else ("skipped", "changed")}
        harness.store.dispose()

    def test_reads_only_tags_not_known_manifests_again(self, fake: FakeRegistry, tmp_path: Path) -> None:
        _, harness, old = self.planned(fake, tmp_path, rate=1000)
        _, task_calls = harness.plan_and_recheck()
        lines = lines_of(fake, harness, task_calls[0])
        assert len([line for line in lines if line.startswith("HEAD") and "/manifests/v" in line]) == 2 * 28
        assert {line for line in lines if line.startswith("GET") and "sha256" in line} == {
            f"GET /v2/{PATH}/manifests/{old}"  # its bytes are saved
        }
        harness.store.dispose()

    def test_reads_no_tag_of_a_repository_with_too_many_tags(
        self, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tags_read, "TAGS_SECONDS", 1.0)  # of 20 tags a second: more than there are
        _, harness, old = self.planned(fake, tmp_path)
        run_id, task_calls = harness.plan_and_recheck()
        lines = lines_of(fake, harness, task_calls[0])
        assert harness.outcomes(run_id) == {old: ("deleted", None)}
        assert not [line for line in lines if line.startswith("HEAD") and "/manifests/v" in line]
        harness.store.dispose()

    def test_the_time_of_a_batch_begins_after_its_tags_are_read(
        self, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deletion, "START_NO_IMAGE_AFTER", 1.0)  # reading 30 tags takes 1.5 s
        _, harness, old = self.planned(fake, tmp_path)
        run_id, task_calls = harness.plan_and_recheck()
        harness.do(task_calls[0])
        assert harness.outcomes(run_id) == {old: ("deleted", None)}
        assert "not_compared_again" not in {warning["code"] for warning in harness.run(run_id).warnings}
        harness.store.dispose()

    def test_gives_up_reading_tags_after_its_time_with_a_warning(
        self, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batches, "BEGIN_BY", 0.5)
        _, harness, old = self.planned(fake, tmp_path)
        run_id, task_calls = harness.plan_and_recheck()
        lines = lines_of(fake, harness, task_calls[0])
        assert harness.outcomes(run_id) == {old: ("deleted", None)}
        assert len([line for line in lines if line.startswith("HEAD") and "/manifests/v" in line]) < 15
        (warning,) = (warning for warning in harness.run(run_id).warnings if warning["code"] == "not_compared_again")
        assert warning["message"].startswith("shop/api: its deletions are compared with a listing")
        harness.store.dispose()

    def test_reads_no_tag_while_other_batches_use_the_rate(
        self, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tags_read, "TAGS_SECONDS", 2.0)  # of 40 tags; there are 30
        fake.push("shop/web", "pr-9", layers=[b"web"])
        _, harness, old = self.planned(fake, tmp_path)
        run_id, task_calls = harness.plan()
        numbers = stored_batches(harness, run_id)
        harness.carry_out(task_calls, until="gc.delete_batch")
        harness.do(TaskCall("gc.recheck", (run_id, PATH)))
        with harness.store.write() as connection:
            now = harness.store.now(connection)
            assert sweeping.claim(
                connection, run_id, numbers["shop/web"], owner="another", now=now, until=now + timedelta(minutes=1)
            )
            connection.execute(update(run).values(deleted=1))  # the run's first deletion was another's, and is done

        lines = lines_of(fake, harness, TaskCall("gc.delete_batch", (run_id, numbers[PATH])))

        assert harness.outcomes(run_id)[old] == ("deleted", None)
        assert not [line for line in lines if line.startswith("HEAD") and "/manifests/v" in line]
        (warning,) = (warning for warning in harness.run(run_id).warnings if warning["code"] == "not_compared_again")
        assert "during 1 other batches of this run" in warning["message"]
        harness.store.dispose()

    def test_the_plan_warns_of_a_repository_with_too_many_tags(
        self, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, harness, _ = self.planned(fake, tmp_path)
        run_id, _ = harness.plan()
        assert "tags_not_read" not in {warning["code"] for warning in harness.run(run_id).warnings}
        lifecycle.abort(harness.store, run_id, datetime.now(UTC))
        harness.carry_out(harness.reconcile())

        monkeypatch.setattr(tags_read, "TAGS_SECONDS", 1.0)
        fake.push("shop/web", *(f"v{number}" for number in range(40)), layers=[b"nothing goes here"])
        run_id, _ = harness.plan()

        (warning,) = (warning for warning in harness.run(run_id).warnings if warning["code"] == "tags_not_read")
        assert warning["message"].startswith(
            "shop/api: reading its 30 tags takes more than 1 s at 20 requests a second"
        )
        assert "Set rate.requests_per_second to 30" in warning["message"]
        harness.store.dispose()


class TestAListingThatTakesLong:
    """Where a repository is listed whole: the listing is given up, and its images are deleted."""

    @pytest.fixture(params=["yandex-container-registry", "yandex-cloud-registry"])
    def shop(self, request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path) -> Iterator[Shop]:
        made = Shop(request.param, simulator, tmp_path)
        yield made
        for harness in made.harnesses:
            harness.store.dispose()

    def test_lists_a_slow_repository_once(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_check, "LISTING_SECONDS", 0.0)
        monkeypatch.setattr(live_check, "SHARED", -1.0)
        monkeypatch.setattr(live_check, "LISTING_SHARE", 0)
        children = [shop.push(content="a"), shop.push(content="b")]
        index = shop.push_index(*children, tag="pr-1")
        shop.push("v1", content="kept")
        harness = shop.harness()

        run = harness.sweep()

        assert (run.outcome, run.deleted) == ("succeeded", 3)
        assert index not in shop.there()
        (warning,) = (warning for warning in run.warnings if warning["code"] == "not_compared_again")
        assert "listing it took longer than there was time" in warning["message"]

    def test_reads_owners_in_a_slow_repository_too(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_check, "LISTING_SECONDS", 0.0)
        child = shop.push(content="a")
        index = shop.push_index(child, tag="pr-1")
        shop.push("v1", content="kept")
        harness = shop.harness()
        run_id, task_calls = first_deletion(harness)

        shop.push_index(child, tag="pr-1")
        harness.carry_out(task_calls)

        assert {index, child} <= shop.there()
        assert harness.outcomes(run_id)[child] == STILL_NEEDED
