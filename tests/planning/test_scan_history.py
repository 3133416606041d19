"""The scan history and its suspicions in whole runs, on both databases."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from policies.blobs import digest_rows
from policies.image import Image
from policies.plan import Survey
from policies.scan_history import NO_HISTORY, update_history
from tests.support.harness import Harness, MakeHarness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from tests.support.scan_history import exceeded, pass_time, reasons, remembered, rows, saved_history
from tests.support.simulator.client import Simulator
from worker.planning import scan
from worker.planning.scan_history import ScanHistoryRows, compare
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall
from worker.store import runs as night_runs
from worker.store import scan_history
from worker.store.scan_history import LAST_SCAN_PATH, LastScan, RegistryHistory
from worker.store.tables import run as run_table
from worker.store.tables import scan_history_next


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Both, as the queries differ between them."""
    kind: str = request.param
    return kind


DAY = timedelta(days=1)


class TestSettle:
    def test_deletes_only_images_that_scans_have_seen_for_the_settle_time(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        old = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        harness = make_harness(settle="24h")

        first = harness.sweep()
        assert (first.outcome, first.planned) == ("succeeded", 0)
        cause, reason = reasons(harness, first)[old["digest"]]
        assert (cause, reason) == ("unsettled", "no earlier complete scan has seen it; settle requires 1 day")

        pass_time(harness, 23 * timedelta(hours=1))
        assert harness.sweep().planned == 0

        pass_time(harness, timedelta(hours=1))
        new = simulator.push("shop/api", tags=["pr-2"], age=30 * DAY)
        third = harness.sweep()
        assert harness.outcomes(third.id) == {old["digest"]: ("deleted", None)}
        assert reasons(harness, third)[new["digest"]][0] == "unsettled"

    def test_a_live_plan_reads_the_history_and_does_not_change_it(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        harness = make_harness(settle="24h")
        harness.plan()
        pass_time(harness, 2 * DAY)
        before = rows(harness)

        seen = scan.plan_live(harness.settings, "production", store=harness.store)
        unseen = scan.plan_live(harness.settings, "production")

        assert (seen.plan.totals.delete, unseen.plan.totals.delete) == (1, 0)
        assert rows(harness) == before

    def test_a_moved_tag_starts_the_settle_time_again(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        old = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        harness = make_harness(settle="24h")
        harness.sweep()
        pass_time(harness, 2 * DAY)
        simulator.tag("shop/api", old["digest"], "pr-2")

        changed = harness.sweep()

        assert changed.planned == 0
        assert "with other tags" in reasons(harness, changed)[old["digest"]][1]
        assert "since 20" in reasons(harness, harness.sweep())[old["digest"]][1]


def test_untagged_for_counts_from_the_first_scan_without_a_tag(simulator: Simulator, make_harness: MakeHarness) -> None:
    rules = [{"name": "leftovers", "delete": {"untagged_for": "7d"}}]
    old = simulator.push("shop/api", tags=["latest"], age=300 * DAY)
    harness = make_harness(rules=rules)
    harness.sweep()
    pass_time(harness, 30 * DAY)
    simulator.untag("shop/api", "latest")

    assert harness.sweep().planned == 0  # the last scan saw it tagged
    pass_time(harness, 6 * DAY)
    assert harness.sweep().planned == 0
    pass_time(harness, DAY)
    last = harness.sweep()
    assert harness.outcomes(last.id) == {old["digest"]: ("deleted", None)}
    assert reasons(harness, last)[old["digest"]] == ("selected", "seen untagged for 7 days, at least 7")


class TestHistoryRows:
    def test_an_unchanged_repository_has_no_new_row(self) -> None:
        images = (Image(digest="sha256:" + "0" * 64, tags=("v1",)), Image(digest="sha256:" + "1" * 64))
        now = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
        before = RegistryHistory(
            seen={"shop/api": update_history(NO_HISTORY, images, now - DAY)}, last_scan=LastScan(now - DAY)
        )
        history_rows = ScanHistoryRows(
            compare(before, [Survey("shop/api", digest_rows([image.digest for image in images]))], ()), now
        )

        assert history_rows.repository_rows("shop/api", reversed(images)) == ()
        assert len(history_rows.repository_rows("shop/api", images[:1])) == 1
        assert len(history_rows.repository_rows("shop/web", images)) == 1
        assert [path for path, _ in history_rows.remaining_rows("")] == [LAST_SCAN_PATH]

    def test_a_scan_without_changes_writes_one_row(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        for path in ("shop/api", "shop/web", "base"):
            simulator.push(path, tags=["v1"])
        harness = make_harness()
        harness.plan()
        before = rows(harness)
        assert set(before) == {LAST_SCAN_PATH, "shop/api", "shop/web", "base"}
        simulator.push("base", tags=["v2"])

        harness.reconcile()
        end(harness)
        harness.plan()

        assert {path for path, seen in rows(harness).items() if before[path] != seen} == {LAST_SCAN_PATH, "base"}
        assert remembered(harness) == {"shop/api": 1, "shop/web": 1, "base": 2}
        assert staged(harness) == 0

    def test_a_plan_that_is_not_stored_does_not_change_the_history(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        simulator.push("shop/api", tags=["v1"])
        harness = make_harness()
        harness.sweep()
        before = rows(harness)
        simulator.push("shop/api", tags=["v2"])
        run_id = harness.open()
        lifecycle.abort(harness.store, run_id, datetime.now(UTC))

        harness.do(TaskCall("gc.scan", (run_id,)))

        assert rows(harness) == before

    def test_a_repeated_scan_deletes_what_the_first_had_staged(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        simulator.push("shop/api", tags=["v1"])
        harness = make_harness()
        run_id = harness.open()
        with harness.store.write() as connection:  # as a scan that was killed between its portions leaves them
            scan_history.stage(connection, run_id, [("shop/api", b"half"), ("gone/long/ago", b"half")])

        harness.do(TaskCall("gc.scan", (run_id,)))

        assert remembered(harness) == {"shop/api": 1}
        assert staged(harness) == 0

    def test_keeps_the_history_of_an_unlistable_repository(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        for number in range(10):
            simulator.push("shop/api", tags=[f"v{number}"])
            simulator.push("shop/web", tags=[f"v{number}"])
        harness = make_harness()
        harness.sweep()
        before = rows(harness)
        simulator.fault("status", path="images.*shop%2Fapi|images.*shop/api", status=500)

        run = harness.sweep()

        assert (run.outcome, run.complete, run.foreign_deletions, run.exceeded) == ("partial", False, 0, ())
        assert rows(harness)["shop/api"] == before["shop/api"]
        head = saved_history(harness).last_scan
        assert head is not None
        assert set(head.lagging) == {"shop/api"}
        assert head.lagging["shop/api"] < head.scanned_at


def staged(harness: Harness) -> int:
    with harness.store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(scan_history_next)).scalar_one())


def end(harness: Harness) -> None:
    """Carry out the task calls that remain of the newest run."""
    with harness.store.read() as connection:
        newest = night_runs.newest(connection, limit=1)[0]
    harness.carry_out(lifecycle.next_task_calls(harness.store, newest.id, datetime.now(UTC)))


class TestVanishedImages:
    def filled(self, simulator: Simulator, count: int = 10) -> list[dict[str, Any]]:
        return [simulator.push("shop/api", tags=[f"v{number}"], age=30 * DAY) for number in range(count)]

    def test_blocks_if_more_than_a_fifth_vanished_until_a_person_accepts_it(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        images = self.filled(simulator)
        harness = make_harness()
        harness.sweep()
        pass_time(harness, DAY)
        for image in images[:3]:
            simulator.remove(image["id"])

        first = harness.sweep()
        assert (first.state, exceeded(first), first.foreign_deletions) == ("blocked", ["vanished"], 3)
        assert first.exceeded[0]["value"] == pytest.approx(0.3)
        assert "30% of the images of the last complete scan are missing" in (first.message or "")

        second = harness.sweep()  # the next run is as suspicious, and counts nothing again
        assert (second.state, exceeded(second), second.foreign_deletions) == ("blocked", ["vanished"], 0)
        assert harness.run(first.id).outcome == "blocked"  # superseded

        for number in range(100):
            simulator.push("shop/web", tags=[f"v{number}"])
        third = harness.sweep()  # new pushes do not end the suspicion
        assert (third.state, exceeded(third)) == ("blocked", ["vanished"])
        assert remembered(harness) == {"shop/api": 10, "shop/web": 100}

        harness.carry_out(lifecycle.approve(harness.store, harness.settings, third.id, datetime.now(UTC)))
        assert harness.run(third.id).outcome == "succeeded"
        fourth = harness.sweep()
        assert (fourth.outcome, fourth.exceeded, fourth.foreign_deletions) == ("succeeded", (), 0)
        assert remembered(harness) == {"shop/api": 7, "shop/web": 100}

    def test_an_image_that_returns_is_no_longer_missing(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        simulator.push("shop/api", tags=["v0"], content="0", age=30 * DAY)
        simulator.push("shop/api", tags=["v1"], content="1", age=30 * DAY)
        harness = make_harness()
        harness.sweep()
        pass_time(harness, DAY)
        gone = next(image for image in simulator.images() if image["tags"] == ["v1"])
        simulator.remove(gone["id"])
        assert harness.sweep().state == "blocked"

        back = simulator.push("shop/api", tags=["v1"], content="1", age=30 * DAY)
        assert back["digest"] == gone["digest"]
        run = harness.sweep()
        assert (run.outcome, run.exceeded, run.foreign_deletions) == ("succeeded", (), 0)
        seen = saved_history(harness).seen["shop/api"]
        assert seen.missing.tolist() == [0, 0]
        known = seen.lookup([back["digest"]])[back["digest"]]
        assert known.first_seen == known.since == run.started_at  # it was away: it begins anew

    def test_does_not_block_if_exactly_a_fifth_vanished(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        images = self.filled(simulator)
        harness = make_harness()
        harness.sweep()
        for image in images[:2]:
            simulator.remove(image["id"])

        run = harness.sweep()

        assert (run.outcome, run.exceeded, run.foreign_deletions) == ("succeeded", (), 2)
        assert remembered(harness) == {"shop/api": 8}
        assert harness.sweep().foreign_deletions == 0

    def test_our_own_deletions_are_not_missing(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        for number in range(5):
            simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
        simulator.push("shop/api", tags=["v1"])
        harness = make_harness()
        assert harness.sweep().deleted == 5

        run = harness.sweep()

        assert (run.outcome, run.exceeded, run.foreign_deletions) == ("succeeded", (), 0)
        assert remembered(harness) == {"shop/api": 1}

    def test_children_deleted_with_our_index_are_not_missing(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        simulator.switch(deleted_index="cascade")
        children = [simulator.push("shop/api", age=30 * DAY)["digest"] for _ in range(3)]
        simulator.push_index("shop/api", children, tags=["pr-1"], age=30 * DAY)
        simulator.push("shop/api", tags=["v1"])
        harness = make_harness()
        first = harness.sweep()
        assert (first.deleted, first.gone) == (1, 3)

        run = harness.sweep()

        assert (run.outcome, run.exceeded, run.foreign_deletions) == ("succeeded", (), 0)

    def test_an_unconfirmed_deletion_counts_as_ours(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        simulator.push("shop/api", tags=["v1"])
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("status", method="DELETE", status=503)
        harness.carry_out(task_calls)
        simulator.no_faults()
        assert harness.outcomes(run_id) == {image["digest"]: ("intent", None)}
        with harness.store.write() as connection:
            connection.execute(update(run_table).where(run_table.c.id == run_id).values(state="finished"))
        simulator.remove(image["id"])

        run = harness.sweep()

        assert (run.outcome, run.exceeded, run.foreign_deletions) == ("succeeded", (), 0)

    def test_counts_the_images_of_a_vanished_repository(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        images = self.filled(simulator, 4)
        for number in range(12):
            simulator.push("shop/web", tags=[f"v{number}"])
        harness = make_harness()
        harness.sweep()
        for image in images:
            simulator.remove(image["id"])

        run = harness.sweep()

        assert (run.state, exceeded(run), run.foreign_deletions) == ("blocked", ["vanished"], 4)
        assert remembered(harness) == {"shop/api": 4, "shop/web": 12}

    @pytest.mark.parametrize("own", ["delete", "dry-run"])
    def test_an_empty_listing_does_not_delete_the_history(
        self, simulator: Simulator, make_harness: MakeHarness, own: str
    ) -> None:
        self.filled(simulator, 4)
        harness = make_harness(mode=own)
        harness.sweep()
        simulator.fault("status", path="/repositories", status=200, body="{}")

        run = harness.sweep()

        assert exceeded(run) == ["vanished"]
        assert run.state == ("blocked" if own == "delete" else "finished")
        assert remembered(harness) == {"shop/api": 4}
        simulator.no_faults()
        later = harness.sweep()
        assert (later.outcome, later.exceeded, later.foreign_deletions) == ("succeeded", (), 0)

    def test_a_registry_in_dry_run_keeps_the_suspicion_until_it_deletes(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        images = self.filled(simulator)
        harness = make_harness(mode="dry-run")
        harness.sweep()
        for image in images[:5]:
            simulator.remove(image["id"])

        first = harness.sweep()
        assert (first.outcome, exceeded(first), first.foreign_deletions) == ("succeeded", ["vanished"], 5)
        second = harness.sweep()
        assert (second.outcome, exceeded(second), second.foreign_deletions) == ("succeeded", ["vanished"], 0)
        harness.rewrite(mode="delete")
        third = harness.sweep()
        assert (third.state, exceeded(third)) == ("blocked", ["vanished"])
        harness.carry_out(lifecycle.approve(harness.store, harness.settings, third.id, datetime.now(UTC)))
        assert harness.sweep().exceeded == ()

    def test_an_approval_accepts_the_absences_of_its_plan_only(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        images = self.filled(simulator)
        harness = make_harness()
        harness.sweep()
        for image in images[:5]:
            simulator.remove(image["id"])
        blocked = harness.sweep()
        late = datetime.now(UTC) + timedelta(hours=20)  # by a clock far ahead
        harness.carry_out(lifecycle.approve(harness.store, harness.settings, blocked.id, late))
        for image in images[5:10]:
            simulator.remove(image["id"])
        for _ in range(2):
            assert exceeded(harness.sweep()) == ["vanished"]

    def test_a_manual_dry_run_does_not_change_the_history(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        images = self.filled(simulator)
        harness = make_harness()
        harness.sweep()
        for image in images[:5]:
            simulator.remove(image["id"])

        by_hand = harness.sweep(dry_run=True)
        assert (by_hand.outcome, exceeded(by_hand), by_hand.foreign_deletions) == ("succeeded", ["vanished"], 5)
        run = harness.sweep()
        assert (run.state, exceeded(run), run.foreign_deletions) == ("blocked", ["vanished"], 0)


class TestIncludedRepositories:
    """Images that `repositories` no longer names are neither vanished nor deleted by others."""

    RULES = ({"name": "pull requests", "delete": {"tags": ["pr-*"]}},)

    @pytest.mark.parametrize("left", [["shop/api"], ["shop/*"]])
    def test_forgets_repositories_that_the_file_excludes(self, tmp_path: Path, left: list[str]) -> None:
        with FakeRegistry() as registry:
            for path in ("shop/api", "ml/train", "ml/serve"):
                registry.push(path, "v1", layers=[path.encode()])
            harness = Harness(served(registry), tmp_path, rules=[*self.RULES])
            harness.sweep()
            harness.rewrite(rules=[*self.RULES], repositories=left)

            run = harness.sweep()

            assert (run.outcome, run.foreign_deletions, run.exceeded) == ("succeeded", 0, ())
            assert set(remembered(harness)) == {"shop/api"}
            harness.store.dispose()

    def test_detects_vanished_images_of_included_repositories(self, tmp_path: Path) -> None:
        with FakeRegistry() as registry:
            pushed = [registry.push("shop/api", f"v{number}", layers=[b"%d" % number]) for number in range(3)]
            registry.push("ml/train", "v1", layers=[b"train"])
            harness = Harness(served(registry), tmp_path, rules=[*self.RULES])
            harness.sweep()
            registry.remove("shop/api", pushed[0].digest)
            harness.rewrite(rules=[*self.RULES], repositories=["shop/api"])

            run = harness.sweep()

            assert (run.state, run.foreign_deletions, exceeded(run)) == ("blocked", 1, ["vanished"])
            harness.store.dispose()
