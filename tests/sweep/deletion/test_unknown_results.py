"""Changes between reading, request and deletion: only the right images are deleted, and each is counted."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.runs import lifecycle
from worker.store import StoreError
from worker.store.tables import audit, batch, repository, run
from worker.sweep import batches

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SLOWLY = {"requests_per_second": 500, "concurrency": 1}


def go_on(harness: Harness, run_id: str) -> None:
    """Let the publication of batches expire and publish them again, a few times, as some minutes of reconcile would."""
    for _ in range(6):
        harness.write(update(batch).values(published_at=None))
        harness.carry_out(lifecycle.next_task_calls(harness.store, run_id, datetime.now(UTC)))


def asked_for(simulator: Simulator, image_id: str) -> list[dict[str, Any]]:
    return [request for request in simulator.requests(method="GET") if request["path"].endswith(image_id)]


class TestAChangeAfterTheReading:
    def test_a_change_while_the_registry_requests_a_pause_keeps_the_image(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("error", method="DELETE", times=1, code=8, message="slow down", retry_after=4)
        simulator.after("DELETE", image["id"], "tag", repository="shop/api", reference=image["digest"], tag="stable")

        harness.carry_out(task_calls)
        go_on(harness, run_id)

        assert image["digest"] in {image["digest"] for image in simulator.images()}
        assert len(simulator.requests("DELETE")) == 1
        assert harness.outcomes(run_id)[image["digest"]] == ("failed", "rate_limited")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            pytest.param("createdAt", "2026-02-03T04:05:06Z", id="push time"),
            pytest.param("digest", "sha256:" + "0" * 64, id="digest"),
            pytest.param("tags", ["pr-1", "pr-2"], id="tags"),
        ],
    )
    def test_a_change_of_any_planned_fact_keeps_the_image(
        self, simulator: Simulator, make_harness: MakeHarness, field: str, value: object
    ) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("wrong_types", method="GET", path=f"/images/{image['id']}", set={field: value})

        harness.carry_out(task_calls)

        assert harness.outcomes(run_id) == {image["digest"]: ("skipped", "changed")}
        assert simulator.requests("DELETE") == []


class TestADeletionWithUnknownResult:
    """The registry answered 503 until the reading was too old; it may have carried out the deletion."""

    def left(
        self, simulator: Simulator, make_harness: MakeHarness, **pushed: Any
    ) -> tuple[Harness, str, dict[str, Any]]:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY, **pushed)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("status", method="DELETE", status=503)
        harness.carry_out(task_calls)
        simulator.no_faults()
        assert harness.outcomes(run_id) == {image["digest"]: ("intent", None)}
        return harness, run_id, image

    def test_a_deletion_with_unknown_result_is_sent_again_with_the_same_key(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        harness, run_id, image = self.left(simulator, make_harness)
        before = len(simulator.requests("DELETE"))

        go_on(harness, run_id)

        assert harness.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert len(simulator.requests("DELETE")) == before + 1
        assert len({request["key"] for request in simulator.requests("DELETE")}) == 1

    def test_a_deletion_with_unknown_result_is_not_sent_again_for_a_needed_image(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        harness, run_id, image = self.left(simulator, make_harness)
        before = len(simulator.requests("DELETE"))
        simulator.sign("shop/api", image["digest"])
        harness.write(update(repository).values(rechecked_at=None))

        go_on(harness, run_id)

        assert harness.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
        assert len(simulator.requests("DELETE")) == before

    def test_a_deletion_with_unknown_result_counts_as_ours_when_the_image_is_gone(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        harness, run_id, image = self.left(simulator, make_harness)
        simulator.remove(image["id"])  # as if one of the lost DELETEs had done it

        go_on(harness, run_id)

        assert harness.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert harness.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0

    @pytest.mark.parametrize("way", ["dry-run", "invalid"])
    def test_a_deletion_with_unknown_result_is_unconfirmed_in_dry_run_mode(
        self, simulator: Simulator, make_harness: MakeHarness, way: str
    ) -> None:
        harness, run_id, image = self.left(simulator, make_harness)
        if way == "dry-run":
            harness.rewrite(mode="dry-run")
        else:
            harness.path.write_text("{")

        go_on(harness, run_id)

        assert harness.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
        assert harness.run(run_id).outcome == "partial"

    def test_a_deletion_with_unknown_result_is_resolved_before_its_batch_is_poison(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        other = simulator.push("shop/api", tags=["pr-2"], age=30 * DAY)
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        mine = simulator.push("shop/web", tags=["pr-1"])
        done = simulator.fault("hang_operation", method="DELETE", path=other["id"])
        harness.do(task_calls[0])
        assert (mine["digest"] != other["digest"], done) == (True, None)
        assert harness.outcomes(run_id)[other["digest"]] == ("accepted", None)
        simulator.remove(other["id"])
        harness.write(update(batch).values(takeovers=batches.TAKEOVERS, published_at=None))
        simulator.fault("error", method="GET", path="/operations/", code=5, message="no such operation")

        go_on(harness, run_id)

        assert harness.outcomes(run_id) == {other["digest"]: ("deleted", None)}

    def test_a_deletion_with_unknown_result_is_unconfirmed_after_three_attempts(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        harness, run_id, image = self.left(simulator, make_harness)
        simulator.fault("status", method="DELETE", status=503)

        go_on(harness, run_id)

        assert harness.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
        assert [item.attempts for item in harness.items(run_id)] == [3]


class TestAnUnreadableOutcome:
    def test_an_operation_that_may_not_be_read_is_polled_again(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("error", method="GET", path="/operations/", times=1, code=7, message="no")

        harness.carry_out(task_calls)
        assert harness.outcomes(run_id) == {image["digest"]: ("accepted", None)}
        go_on(harness, run_id)

        assert harness.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert harness.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0

    def test_a_deletion_whose_operation_is_unknown_counts_when_the_image_is_gone(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        simulator.switch(image_vanishes="at_acceptance")
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("error", method="GET", path="/operations/", code=5, message="no such operation")

        harness.carry_out(task_calls)

        assert harness.outcomes(run_id) == {image["digest"]: ("deleted", None)}
        assert harness.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0

    def test_an_image_deleted_by_others_after_a_failed_reading_is_gone(
        self, simulator: Simulator, make_harness: MakeHarness
    ) -> None:
        image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
        simulator.push("shop/lib", tags=["v1"], age=30 * DAY, layers=[7])
        harness = make_harness()
        run_id, task_calls = harness.plan_and_recheck()
        simulator.fault("status", method="GET", path=f"/images/{image['id']}", times=1, status=503)
        simulator.after("GET", f"/images/{image['id']}", "remove", image=image["id"])

        harness.carry_out(task_calls)

        assert harness.outcomes(run_id) == {image["digest"]: ("gone", None)}
        assert (harness.run(run_id).reclaimed_bytes, simulator.requests("DELETE")) == (0, [])


def test_a_stale_worker_records_no_outcome_of_another_workers_deletion(
    simulator: Simulator, make_harness: MakeHarness
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    simulator.fault("latency", method="GET", path=f"/images/{image['id']}", times=1, seconds=1.5)
    stale = threading.Thread(target=harness.do, args=(task_calls[0],))
    stale.start()
    until(lambda: asked_for(simulator, image["id"]), what="the first worker's reading")
    past = datetime.now(UTC) - HOUR
    harness.write(update(batch).values(lease_until=past))  # it sleeps past its lease
    harness.carry_out(task_calls)
    stale.join()

    assert harness.outcomes(run_id) == {image["digest"]: ("deleted", None)}
    assert harness.run(run_id).reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_a_deleted_image_that_is_pushed_again_is_new(simulator: Simulator, make_harness: MakeHarness) -> None:
    pushed = {"tags": ["pr-1"], "layers": [4000], "content": "the same"}
    image = simulator.push("shop/api", age=30 * DAY, **pushed)
    signature = simulator.sign("shop/api", image["digest"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    harness.do(task_calls[0])  # the first wave
    assert harness.outcomes(run_id)[image["digest"]] == ("deleted", None)
    again = simulator.push("shop/api", **{**pushed, "tags": ["v2"]})
    assert again["digest"] == image["digest"]
    harness.write(update(repository).values(rechecked_at=None))

    go_on(harness, run_id)

    assert harness.outcomes(run_id)[signature["digest"]] == ("skipped", "still_needed")


def test_a_sweep_stops_when_the_store_fails(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(5):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    harness = make_harness(rate=SLOWLY)
    _, task_calls = harness.plan_and_recheck()
    with harness.store.write() as connection:
        audit.drop(connection)  # no outcome can be written any more

    with pytest.raises(StoreError):
        harness.do(task_calls[0])

    assert len(simulator.requests("DELETE")) == 1


def test_records_no_intent_after_plan_max_age(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan_and_recheck()
    harness.write(update(run).values(started_at=datetime.now(UTC) - 25 * HOUR))

    harness.carry_out(task_calls)

    finished = harness.run(run_id)
    assert (finished.state, finished.outcome, finished.deleted) == ("finished", "partial", 0)
    assert simulator.requests("DELETE") == []
