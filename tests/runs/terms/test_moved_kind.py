"""A registry whose entry changes from Container Registry to Cloud Registry: holds and history stay, old runs end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ROOT
from tests.support.harness import Harness, MakeHarness
from tests.support.scan_history import exceeded, pass_time, reasons, remembered, saved_history
from tests.support.simulator.client import Simulator
from worker.runs import hold_requests, lifecycle
from worker.store import holds, plans

DAY = timedelta(days=1)
AGED = [{"name": "old", "delete": {"older_than": "1m"}}]


@pytest.fixture
def make_harness(simulator: Simulator, tmp_path: Path) -> Iterator[MakeHarness]:
    made: list[Harness] = []

    def make(**registry: Any) -> Harness:
        made.append(Harness(simulator, tmp_path, **registry))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


def move(harness: Harness, **registry: Any) -> None:
    """Give the entry the other kind; its name and id stay."""
    endpoints = harness.simulator.cloud_endpoints()
    before = harness.settings.registries["production"]
    harness.rewrite(kind="yandex-cloud-registry", endpoints=endpoints, **registry)
    after = harness.settings.registries["production"]
    assert (before.kind, after.kind) == ("yandex-container-registry", "yandex-cloud-registry")
    assert (before.id, before.history_key) == (after.id, after.history_key)
    assert before.key != after.key


def push_old(simulator: Simulator, count: int = 4) -> list[str]:
    """Pull requests' images of a month ago; their digests."""
    return [simulator.push("shop/api", tags=[f"pr-{n}"], age=30 * DAY)["digest"] for n in range(count)]


def alive(simulator: Simulator) -> set[str]:
    return {image["digest"] for image in simulator.images()}


def hold(harness: Harness, reference: str) -> None:
    """As `registry-gc hold` does it, with the entry as it is now."""
    registry = harness.settings.registries["production"]
    wanted = hold_requests.hold_of(registry, reference, who="anna", reason="the trial")
    hold_requests.place(harness.store, registry, wanted, datetime.now(UTC))


class TestHolds:
    def test_holds_by_tag_digest_and_repository_still_bind(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        by_tag, by_digest, moved, free = push_old(simulator)
        whole = simulator.push("base/os", tags=["pr-1"], age=30 * DAY)["digest"]
        harness = make_harness(mode="dry-run")
        hold(harness, "shop/api:pr-0")
        hold(harness, f"shop/api@{by_digest}")
        hold(harness, "shop/api:pr-2")
        hold(harness, "base/**")
        harness.sweep()
        simulator.tag("shop/api", moved, "pr-22")
        simulator.untag("shop/api", "pr-2")  # the image that the tag named when it was held stays held

        move(harness)
        run = harness.sweep()

        assert harness.outcomes(run.id) == {free: ("deleted", None)}
        assert alive(simulator) == {by_tag, by_digest, moved, whole}
        said = reasons(harness, run)
        assert {said[digest][0] for digest in (by_tag, by_digest, moved)} == {"held"}

    @pytest.mark.parametrize("scanned", [True, False], ids=["seen by a scan before", "placed before any scan"])
    def test_a_hold_by_an_image_id_of_the_former_kind_still_binds(
        self, simulator: Simulator, make_harness: MakeHarness, *, scanned: bool
    ) -> None:
        held, free = push_old(simulator, 2)
        harness = make_harness(mode="dry-run")
        if scanned:
            harness.sweep()
        hold(harness, next(image["id"] for image in simulator.images() if image["digest"] == held))
        if scanned:
            harness.sweep()

        move(harness)
        harness.sweep()

        assert held in alive(simulator), "a hold on the image's id of the former kind gave way"
        assert free not in alive(simulator)

    def test_a_hold_by_an_image_id_of_the_new_kind_binds(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        held, free = push_old(simulator, 2)
        harness = make_harness(mode="dry-run")
        harness.sweep()
        move(harness)
        hold(harness, simulator.artifact("shop/api", "pr-0")["id"])

        run = harness.sweep()

        assert harness.outcomes(run.id) == {free: ("deleted", None)}
        assert alive(simulator) == {held}


def test_a_pause_binds_until_it_is_resumed(simulator: Simulator, make_harness: MakeHarness) -> None:
    pushed = push_old(simulator)
    harness = make_harness(mode="dry-run")
    harness.sweep()
    with harness.store.write() as connection:
        holds.pause_registry(connection, "production", "anna", "moving house", datetime.now(UTC))

    move(harness)
    run = harness.sweep()

    assert (simulator.requests("DELETE"), alive(simulator)) == ([], set(pushed))
    assert run.deleted == 0
    with harness.store.write() as connection:
        assert holds.resume_registry(connection, "production")
    assert harness.sweep().deleted == len(pushed)


def test_runs_and_scan_history_go_on(simulator: Simulator, make_harness: MakeHarness) -> None:
    """The scan history from before the move counts for `settle`; no image is missing, no deletion is foreign."""
    old = push_old(simulator, 2)
    parts = [simulator.push("shop/web", age=30 * DAY)["digest"] for _ in range(2)]
    simulator.push_index("shop/web", parts, tags=["v1"], age=30 * DAY)
    simulator.sign("shop/web", parts[0])
    harness = make_harness(settle="24h")
    before = harness.sweep()
    assert before.planned == 0
    known = remembered(harness)
    pass_time(harness, DAY)

    move(harness, settle="24h")
    new = simulator.push("shop/api", tags=["pr-9"], age=30 * DAY)["digest"]
    run = harness.sweep()

    assert (run.outcome, exceeded(run), run.foreign_deletions, run.suspicion) == ("succeeded", [], 0, None)
    assert harness.outcomes(run.id) == dict.fromkeys(old, ("deleted", None))
    assert reasons(harness, run)[new][0] == "unsettled"
    later = harness.sweep()
    assert (later.outcome, exceeded(later), later.foreign_deletions) == ("succeeded", [], 0)
    assert remembered(harness) == {"shop/api": 1, "shop/web": known["shop/web"]}

    words = ["runs", "--config", str(harness.path), "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", *words], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    shown = json.loads(done.stdout)["runs"]
    assert [run["id"] for run in shown] == [later.id, run.id, before.id]
    assert {run["registry"] for run in shown} == {"production"}


class TestARunOfTheFormerKind:
    def test_a_deleting_run_of_the_former_kind_deletes_nothing_more(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        pushed = push_old(simulator)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()

        move(harness)
        harness.carry_out(task_calls)
        harness.go_on(run_id, times=4)

        assert (simulator.requests("DELETE"), alive(simulator)) == ([], set(pushed))
        assert harness.run(run_id).state == "finished"
        assert set(harness.outcomes(run_id).values()) == {("skipped", "mode")}
        assert harness.sweep().deleted == len(pushed)

    def test_a_run_of_the_former_kind_repeats_no_deletion_with_unknown_result(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        (digest,) = push_old(simulator, 1)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("status", method="DELETE", status=503)
        harness.carry_out(task_calls)
        simulator.no_faults()
        assert harness.outcomes(run_id) == {digest: ("intent", None)}
        asked = len(simulator.requests("DELETE"))

        move(harness)
        harness.go_on(run_id, times=4)

        assert (len(simulator.requests("DELETE")), alive(simulator)) == (asked, {digest})
        assert harness.outcomes(run_id) == {digest: ("failed", "unconfirmed")}
        assert harness.run(run_id).state == "finished"
        assert harness.sweep().deleted == 1

    @pytest.mark.parametrize("way", ["approved", "expired"])
    def test_a_blocked_run_of_the_former_kind_deletes_nothing(
        self, simulator: Simulator, make_harness: MakeHarness, way: str
    ) -> None:
        pushed = push_old(simulator)
        harness = make_harness(limits={"max_images": 1})
        blocked = harness.sweep()
        assert blocked.state == "blocked"

        move(harness)
        if way == "approved":
            with pytest.raises(lifecycle.NotBlockedError, match="another registry now"):
                lifecycle.approve(harness.store, harness.settings, blocked.id, datetime.now(UTC))
        else:
            harness.carry_out(harness.reconcile(after=2 * DAY))

        assert (simulator.requests("DELETE"), alive(simulator)) == ([], set(pushed))
        assert harness.run(blocked.id).state == "finished"
        assert harness.sweep().deleted == len(pushed)

    def test_a_blocked_run_of_the_former_kind_cannot_run_next_to_a_new_run(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        harness = make_harness(limits={"max_images": 1})
        push_old(simulator)
        blocked = harness.sweep()
        move(harness)
        simulator.tag("shop/api", "pr-0", "v1")  # kept from now on, and in the plan that waits

        assert harness.sweep().deleted == 3
        asked = len(simulator.requests("DELETE"))
        with pytest.raises(lifecycle.NotBlockedError, match="superseded"):
            lifecycle.approve(harness.store, harness.settings, blocked.id, datetime.now(UTC))

        assert len(simulator.requests("DELETE")) == asked
        assert (harness.run(blocked.id).state, harness.run(blocked.id).outcome) == ("finished", "blocked")
        assert [image["tags"] for image in simulator.images()] == [["pr-0", "v1"]]

    def test_a_blocked_run_of_the_former_kind_is_superseded_by_a_new_plan(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        push_old(simulator)
        harness = make_harness(limits={"max_images": 1})
        blocked = harness.sweep()
        move(harness)
        harness.sweep()

        assert harness.run(blocked.id).outcome == "blocked"


class TestPushTimesOfTheMigration:
    def test_push_times_are_suspicious_until_a_person_trusts_them(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        for number in range(12):
            simulator.push("shop/api", tags=[f"v{number}"], age=(30 + number) * DAY)
        harness = make_harness(mode="dry-run", rules=AGED)
        first = harness.sweep()
        assert (first.planned, first.suspicion) == (12, None)
        pass_time(harness, DAY)
        simulator.switch(times_after_migration="migration")

        move(harness, rules=AGED)
        run = harness.sweep()

        assert (run.outcome, run.planned, exceeded(run)) == ("succeeded", 0, [])
        assert run.suspicion is not None
        assert "report a push time after an earlier scan saw them" in run.suspicion
        said = reasons(harness, run).values()
        assert all(f"old: its push time is not trusted: {run.suspicion}" in reason for _, reason in said)
        assert (len(alive(simulator)), simulator.requests("DELETE")) == (12, [])
        assert harness.sweep().planned == 0  # the next run is as suspicious

        instant = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()  # no moved push time is trusted
        move_again(harness, rules=AGED, trust_times_after=instant)
        answered = harness.sweep()
        assert (answered.planned, answered.suspicion) == (0, None)
        move_again(harness, rules=AGED, trust_times_after=(datetime.now(UTC) - DAY).isoformat(timespec="seconds"))
        trusted_run = harness.sweep()
        with harness.store.read() as connection:
            images = plans.images_of(connection, trusted_run.id, "shop/api")
        minute_ago = (trusted_run.started_at or datetime.now(UTC)) - timedelta(minutes=1)
        old = {image.digest for image in images if image.created_at is not None and image.created_at <= minute_ago}
        assert set(harness.outcomes(trusted_run.id)) == old
        assert len(old) > 6
        head = saved_history(harness).last_scan
        assert head is not None
        assert head.suspicion == ""

    def test_push_times_that_did_not_change_are_trusted(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        pushed = push_old(simulator, 12)
        harness = make_harness(mode="dry-run", rules=AGED)
        harness.sweep()
        pass_time(harness, DAY)

        move(harness, rules=AGED)
        run = harness.sweep()

        assert (run.deleted, run.suspicion) == (len(pushed), None)


def move_again(harness: Harness, **registry: Any) -> None:
    """The entry of the new kind with other keys."""
    harness.rewrite(kind="yandex-cloud-registry", endpoints=harness.simulator.cloud_endpoints(), **registry)
