"""What goes wrong in a sweep: each failure is counted once, doubt is resolved or named, hopelessness ends the run."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.support.night import Night
from tests.support.simulator.client import Simulator
from tests.support.waiting import until

DAY = timedelta(days=1)
MakeNight = Callable[..., Night]


def test_somebody_else_deleted_it_before_us(simulator: Simulator, night: MakeNight) -> None:
    theirs = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY, layers=[1000, "base:5000"])
    ours = simulator.push("shop/api", tags=["pr-2"], age=30 * DAY, layers=[300, "base:5000"])
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.remove(theirs["id"])

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert tonight.outcomes(run_id) == {theirs["digest"]: ("gone", None), ours["digest"]: ("deleted", None)}
    assert (run.gone, run.deleted, run.outcome) == (1, 1, "succeeded")
    # Theirs alone is not counted; what both referenced went with ours, the last of the two.
    assert run.reclaimed_bytes == 300 + 500 + 5000


@pytest.mark.parametrize("position", ["not_found", "operation_error"])
def test_it_vanishes_between_reading_and_deleting(simulator: Simulator, night: MakeNight, position: str) -> None:
    simulator.switch(missing_image=position)
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.before("DELETE", f"/images/{image['id']}", "remove", image=image["id"])

    tonight.ring(bells)

    assert tonight.outcomes(run_id) == {image["digest"]: ("gone", None)}
    assert tonight.run(run_id).reclaimed_bytes == 0


@pytest.mark.parametrize("position", ["remembered", "forgotten"])
def test_a_deletion_whose_answer_was_lost_is_ours(simulator: Simulator, night: MakeNight, position: str) -> None:
    simulator.switch(idempotency=position, image_vanishes="at_acceptance", operation_seconds_to=0.0)
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/web", tags=["v1"], age=30 * DAY, layers=[7])
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.fault("reply_lost", method="DELETE", times=1)

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert tonight.outcomes(run_id) == {image["digest"]: ("deleted", None)}
    assert run.reclaimed_bytes == simulator.state()["lost_bytes"] > 0


def test_not_found_and_yet_listed_is_not_believed(simulator: Simulator, night: MakeNight) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.fault("error", method="GET", path=f"/images/{image['id']}", code=5, message="Image not found")

    tonight.ring(bells)

    assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
    assert tonight.run(run_id).outcome == "partial"


def test_an_operation_that_fails(simulator: Simulator, night: MakeNight) -> None:
    simulator.switch(error_before_done=True)
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/api", tags=["pr-2"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.fault("fail_operation", method="DELETE", path=f"/images/{image['id']}", code=13, message="storage is ill")

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert tonight.outcomes(run_id)[image["digest"]] == ("failed", "operation_failed")
    assert "storage is ill" in next(one.message or "" for one in tonight.items(run_id) if one.state == "failed")
    assert (run.deleted, run.failed, run.outcome) == (1, 1, "partial")


def test_ten_systemic_failures_in_a_row_end_the_run(simulator: Simulator, night: MakeNight) -> None:
    for number in range(40):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    tonight = night(rate={"requests_per_second": 500, "concurrency": 2})
    run_id, bells = tonight.plan()
    simulator.switch(may_delete=False)

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "failed", 0)
    assert 10 <= run.failed <= 12
    assert sum(one.state == "planned" for one in tonight.items(run_id)) == 40 - run.failed
    assert run.message is not None
    assert run.message.startswith("stopped after 10 failures in a row, the last: production: ")


def test_a_read_only_registry_says_so(simulator: Simulator, night: MakeNight) -> None:
    for number in range(12):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()
    simulator.switch(phase="read_only")

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert run.outcome == "failed"
    assert {cause for _, cause in tonight.outcomes(run_id).values()} <= {"read_only", None}
    assert "read-only" in (run.message or "")


def test_a_success_ends_a_streak_of_failures(simulator: Simulator, night: MakeNight) -> None:
    ids = [simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)["id"] for number in range(20)]
    tonight = night(rate={"requests_per_second": 500, "concurrency": 1})
    run_id, bells = tonight.plan()
    for number, one in enumerate(ids):
        if number % 2:
            simulator.fault("error", method="DELETE", path=one, code=9, message="the registry is read-only")

    tonight.ring(bells)

    run = tonight.run(run_id)
    assert (run.deleted, run.failed, run.outcome) == (10, 10, "partial")


def test_an_operation_that_never_ends_is_polled_again_and_then_unconfirmed(
    simulator: Simulator, night: MakeNight
) -> None:
    image = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    tonight = night(timing={"reconcile": "1s", "lease": "1s"})
    run_id, bells = tonight.plan()
    simulator.fault("hang_operation", method="DELETE")

    bells = tonight.ring(bells, until="gc.delete_batch")
    bells = [*tonight.do(bells[0])]  # each claim asks for a quarter of the lease and leaves it to the next, at once
    assert tonight.outcomes(run_id) == {image["digest"]: ("accepted", None)}
    assert [bell.task for bell in bells] == ["gc.delete_batch"]

    tonight.ring(bells)

    assert tonight.outcomes(run_id) == {image["digest"]: ("failed", "unconfirmed")}
    assert len(simulator.requests(method="DELETE")) == 1
    assert tonight.run(run_id).outcome == "partial"


def test_tokens_that_expire_in_the_middle(simulator: Simulator, night: MakeNight) -> None:
    for number in range(6):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()
    token = simulator.new_token()
    simulator.expire_tokens()
    (tonight.folder / "token").write_text(simulator.new_token())

    tonight.ring(bells)

    assert token
    assert tonight.run(run_id).deleted == 6


def test_a_repository_that_cannot_be_listed_is_kept_whole(simulator: Simulator, night: MakeNight) -> None:
    hidden = simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    seen = simulator.push("shop/web", tags=["pr-1"], age=30 * DAY)
    simulator.fault("html", path="repositoryName=.*api")
    tonight = night()

    run = tonight.sweep()

    assert tonight.outcomes(run.id) == {seen["digest"]: ("deleted", None)}
    assert (run.outcome, run.complete, run.images) == ("partial", False, 1)
    assert [one["repository"] for one in run.unreadable] == ["shop/api"]
    assert hidden["digest"] in {image["digest"] for image in simulator.images()}


@pytest.mark.parametrize(
    ("fault", "switches", "says"),
    [
        pytest.param({}, {"clock_skew": 400.0}, "clock", id="a clock six minutes off"),
        pytest.param({"kind": "html", "path": "repositoryName"}, {}, "production", id="no repository is readable"),
        pytest.param({"kind": "broken_utf8", "path": "/repositories"}, {}, "production", id="the list is no text"),
        pytest.param({}, {"may_view": False}, "production", id="no permission"),
    ],
)
def test_a_scan_that_cannot_be_trusted_fails_the_run(
    simulator: Simulator, night: MakeNight, fault: dict[str, str], switches: dict[str, object], says: str
) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.switch(**switches)
    if fault:
        simulator.fault(**fault)
    tonight = night()

    run = tonight.sweep()

    assert (run.state, run.outcome, run.planned) == ("finished", "failed", 0)
    assert says in (run.message or "")
    assert "\n" not in (run.message or "")
    assert simulator.requests(method="DELETE") == []


def test_an_unreadable_index_keeps_what_could_be_its_child(simulator: Simulator, night: MakeNight) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    index = simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    simulator.fault("status", path=f"/v2/.*{index['digest']}", status=404)
    tonight = night()

    run = tonight.sweep()

    assert (run.planned, run.outcome) == (0, "partial")
    (unreadable,) = run.unreadable_images
    assert (unreadable["repository"], unreadable["digest"]) == ("shop/api", index["digest"])


def test_two_workers_with_the_same_batch_delete_once(simulator: Simulator, night: MakeNight) -> None:
    for number in range(30):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    simulator.switch(latency=0.02)
    tonight = night()
    run_id, bells = tonight.plan()
    bells = tonight.ring(bells, until="gc.delete_batch")

    threads = [threading.Thread(target=tonight.do, args=(bells[0],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tonight.run(run_id).deleted == 30
    assert len(simulator.requests(method="DELETE")) == 30


def test_the_same_bells_ten_times_are_the_same_as_once(simulator: Simulator, night: MakeNight) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    simulator.push("shop/web", tags=["pr-1"], age=30 * DAY)
    tonight = night()
    run_id, bells = tonight.plan()

    tonight.ring(bells * 10)
    tonight.ring(bells * 10)

    assert (tonight.run(run_id).deleted, len(simulator.requests(method="DELETE"))) == (2, 2)


def test_a_worker_that_lost_its_lease_stops(simulator: Simulator, night: MakeNight) -> None:
    for number in range(3):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY)
    tonight = night(rate={"requests_per_second": 500, "concurrency": 1})
    run_id, bells = tonight.plan()
    bells = tonight.ring(bells, until="gc.delete_batch")
    simulator.fault("latency", method="GET", path="/images/", times=1, seconds=1.0)
    slow = threading.Thread(target=tonight.do, args=(bells[0],))
    slow.start()
    until(
        lambda: [one for one in simulator.requests(method="GET") if "/images/" in one["path"]], what="its first request"
    )
    from worker.store.tables import batch  # noqa: PLC0415 -- somebody else takes the batch over, as after a pause

    with tonight.store.write() as connection:
        connection.execute(batch.update().values(fence=batch.c.fence + 1))
    slow.join()

    assert simulator.requests(method="DELETE") == []
    assert {state for state, _ in tonight.outcomes(run_id).values()} == {"planned"}
