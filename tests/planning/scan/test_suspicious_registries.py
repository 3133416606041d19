"""Runs with an unusual plan, with impossible push times, and on a registry that is read-only or does not exist."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.harness import Harness, MakeHarness
from tests.support.scan_history import exceeded, pass_time, reasons, rows, saved_history
from tests.support.simulator.client import Simulator
from worker.planning import scan
from worker.report.run import show_report
from worker.store import runs as run_rows
from worker.store.tables import audit, manifest, repository

DAY = timedelta(days=1)
OLD = [{"name": "old", "delete": {"older_than": "14d"}}]


def earlier_runs(harness: Harness, *planned: int, outcome: str = "succeeded", with_plan: bool = True) -> None:
    """Add runs of the registry that ended long ago, with plans of these sizes."""
    with harness.store.write() as connection:
        registry = harness.settings.registries["production"]
        for number, images in enumerate(planned):
            at = datetime(2026, 1, 1, tzinfo=UTC) + number * DAY
            run_rows.add(
                connection,
                {
                    "id": run_rows.new_id(at),
                    "registry": "production",
                    "registry_key": registry.key,
                    "trigger": "schedule",
                    "mode": "delete",
                    "registry_mode": "delete",
                    "state": "finished",
                    "outcome": outcome,
                    "opened_at": at,
                    "planned_at": at if with_plan else None,
                    "policy": "nightly",
                    "policy_sha256": "",
                    "planned": images,
                },
            )


class TestUnusualPlan:
    def planned(self, simulator: Simulator, harness: Harness) -> Any:
        for number in range(7):
            simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
        run_id, _ = harness.plan()
        return harness.run(run_id)

    def test_an_unusual_plan_waits_for_a_person(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        harness = make_harness()
        earlier_runs(harness, *(9,) * 5, *(2,) * 14)  # only the last fourteen count

        run = self.planned(simulator, harness)

        assert (run.state, exceeded(run)) == ("blocked", ["unusual"])
        assert "7 images are more than three times what a plan usually deletes here, allowed 6" in run.message

    def test_runs_without_a_plan_or_a_normal_end_do_not_count(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        harness = make_harness()
        earlier_runs(harness, 1, 1, 1, 1, 1, outcome="failed")
        earlier_runs(harness, 1, 1, 1, 1, 1, outcome="blocked")
        earlier_runs(harness, 1, 1, 1, 1, 1, with_plan=False)

        assert self.planned(simulator, harness).exceeded == ()


class TestPushTimes:
    def restored(self, simulator: Simulator) -> list[dict[str, Any]]:
        """A registry after a restore: everything was pushed twenty days ago, but two tags know better."""
        at = datetime.now(UTC) - 20 * DAY
        seconds = {"2024-05-01": 0, "main-20240502": 5, "v1": 10, "v2": 15, "v3": 20}
        return [
            simulator.push("shop/api", tags=[tag], created_at=at + timedelta(seconds=after))
            for tag, after in seconds.items()
        ]

    def test_suspicious_times_are_unknown_until_a_person_trusts_them(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        self.restored(simulator)
        harness = make_harness(rules=OLD)

        run = harness.sweep()

        assert (run.outcome, run.planned) == ("succeeded", 0)
        assert run.suspicion is not None
        assert "100% of all images report a push time within the same minute" in run.suspicion
        assert "names an earlier day" in run.suspicion
        assert any("push times  not trusted" in line for line in show_report(run, []).table())
        said = reasons(harness, run).values()
        assert {cause for cause, _ in said} == {"no_rule"}
        assert all(f"old: its push time is not trusted: {run.suspicion}" in reason for _, reason in said)

        simulator.push("shop/api", tags=["new"], age=30 * DAY)
        for number in range(20):
            simulator.push("shop/web", tags=[f"v{number}"], age=(20 + number) * DAY)
        later = harness.sweep()  # they are no majority any more, and no truer
        assert (later.planned, later.suspicion) == (0, run.suspicion)

        harness.rewrite(rules=OLD, trust_times_after=(datetime.now(UTC) - 24.5 * DAY).isoformat(timespec="seconds"))
        answered = harness.sweep()
        assert answered.suspicion is None
        assert answered.planned == 10  # the five, and those of the shop's web pushed after that
        head = saved_history(harness).last_scan
        assert head is not None
        assert head.suspicion == ""

    def test_the_history_of_an_earlier_scan_clears_the_suspicion(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        pushed = [
            simulator.push("shop/api", tags=[f"v{number}"], content=str(number), age=(40 + number) * DAY)
            for number in range(4)
        ]
        harness = make_harness(rules=[{"name": "never", "delete": {"older_than": "500d"}}])
        harness.sweep()
        pass_time(harness, 30 * DAY)
        for number, image in enumerate(pushed):
            simulator.remove(image["id"])
            simulator.push("shop/api", tags=[f"v{number}"], content=str(number), age=20 * DAY)

        run = harness.sweep()

        assert run.suspicion is not None
        assert "an earlier scan saw shop/api@sha256:" in run.suspicion
        assert run.exceeded == ()

    def test_images_pushed_together_are_trusted_without_contrary_evidence(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        for number in range(4):
            simulator.push("shop/api", tags=[f"v{number}"], age=30 * DAY)
        harness = make_harness(rules=OLD)

        run = harness.sweep()

        assert (run.deleted, run.suspicion) == (4, None)

    def test_a_live_plan_warns_and_records_nothing(self, simulator: Simulator, make_harness: MakeHarness) -> None:
        self.restored(simulator)
        harness = make_harness(rules=OLD)

        planned = scan.plan_live(harness.settings, "production", store=harness.store)

        assert planned.plan.totals.delete == 0
        assert "names an earlier day" in planned.suspicion
        assert rows(harness) == {}


class TestEndOfARegistry:
    def test_a_read_only_registry_ends_the_run_with_a_remedy(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        for number in range(14):
            simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
        harness = make_harness(rate={"requests_per_second": 500, "concurrency": 1})
        run_id, task_calls = harness.plan()
        simulator.switch(phase="read_only")

        harness.carry_out(task_calls)

        run = harness.run(run_id)
        assert (run.outcome, run.failed, run.deleted) == ("failed", 10, 0)
        assert run.message is not None
        assert "\n" not in run.message
        assert run.message.startswith(
            "production accepts no deletions any more: Yandex Container Registry is read-only since 2026-11-10 and"
            " stops on 2026-12-14; its images go on in Yandex Cloud Registry: write kind: yandex-cloud-registry"
            f" with the same id, {simulator.registry_id}; 10 were refused in a row"
        )

    @pytest.mark.parametrize("end", ["not found", "no host"])
    def test_a_vanished_registry_fails_the_run_and_keeps_stored_facts(
        self, simulator: Simulator, make_harness: MakeHarness, end: str
    ) -> None:
        parts = [simulator.push("shop/api", age=30 * DAY), simulator.push("shop/api", tags=["v1"])]
        simulator.push_index("shop/api", [parts[1]["digest"]], tags=["v2"])
        harness = make_harness()
        harness.sweep()
        before = everything(harness)
        if end == "not found":
            simulator.switch(phase="gone")
        else:
            nowhere = dict.fromkeys(simulator.endpoints(), "http://127.0.0.1:9")
            harness.rewrite(endpoints=nowhere)

        run = harness.sweep()

        assert (run.state, run.outcome, run.plan_sha256) == ("finished", "failed", None)
        assert run.message
        assert "\n" not in run.message
        assert everything(harness) == before


def everything(harness: Harness) -> dict[str, Any]:
    """The stored facts about the registry, except its runs."""
    with harness.store.read() as connection:
        tables = (manifest, audit, repository)
        kept = {table.name: sorted(map(repr, connection.execute(select(table)))) for table in tables}
    assert all(kept.values())
    return {**kept, "memory": rows(harness)}
