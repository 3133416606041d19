"""After a sweep: deleted images are gone, and kept images that share something with them exist, or it is partial."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from policies.image import Image
from tests.support.simulator.client import Simulator
from worker.report.run import show_report
from worker.runs import lifecycle
from worker.runs.lifecycle import TaskCall
from worker.store import verification
from worker.sweep.verify import Expectation, _against

DAY = timedelta(days=1)


@pytest.fixture
def filled(simulator: Simulator) -> dict[str, dict]:
    """By name: an image to delete, and others that share something with it, or nothing."""
    push = simulator.push
    made = {
        "goes": push("shop/api", tags=["pr-1"], age=30 * DAY, content="goes", layers=["base:9000", 100]),
        "base here": push("shop/api", tags=["v1"], age=30 * DAY, layers=["base:9000", 200]),
        "base elsewhere": push("shop/web", tags=["v1"], age=30 * DAY, layers=["base:9000", 300]),
        "stranger": push("shop/other", tags=["v1"], age=30 * DAY, layers=[400]),
    }
    children = [push("shop/api", age=30 * DAY, layers=[4000 + number]) for number in range(2)]
    simulator.tag("shop/api", children[1]["digest"], "v2")  # is kept when its index is deleted
    made["kept child"] = children[1]
    digests = [image["digest"] for image in children]
    made["index"] = simulator.push_index("shop/api", digests, tags=["pr-2"], age=30 * DAY)
    return made


def swept(make_harness, filled):
    """A run of which every batch is done, and the task call of its verification."""
    made = make_harness()
    run_id, task_calls = made.plan()
    (task_call,) = made.carry_out(task_calls, until="gc.verify")
    return made, run_id, task_call


def test_a_sweep_as_planned_has_no_difference(make_harness, filled):
    made, run_id, task_call = swept(make_harness, filled)
    assert made.run(run_id).state == "deleting"
    made.carry_out([task_call])
    run = made.run(run_id)
    assert (run.state, run.outcome, run.differences, run.deleted) == ("finished", "succeeded", (), 3)


@pytest.mark.parametrize("name", ["base here", "base elsewhere", "kept child"])
def test_reports_a_lost_image_that_shared_something_with_a_deleted_image(make_harness, filled, simulator, name):
    made, run_id, task_call = swept(make_harness, filled)
    simulator.remove(filled[name]["id"])
    made.carry_out([task_call])
    run = made.run(run_id)
    (difference,) = run.differences
    assert (run.outcome, difference["digest"], difference["difference"]) == (
        "partial", filled[name]["digest"], "it was kept, and is gone",
    )  # fmt: skip
    assert run.message == (
        f"the verification after the sweep found 1 difference: {difference['repository']}@{difference['digest']}:"
        f" it was kept, and is gone; `registry-gc show {run_id}` lists them"
    )


def test_reads_no_repository_that_shares_nothing_with_a_deleted_image(make_harness, filled, simulator):
    made, run_id, task_call = swept(make_harness, filled)
    simulator.remove(filled["stranger"]["id"])
    before = len(simulator.requests(method="GET"))
    made.carry_out([task_call])
    assert made.run(run_id).outcome == "succeeded"
    later = simulator.requests(method="GET")[before:]
    assert not [request for request in later if "shop/other" in str(request)]


def test_reports_a_deleted_image_that_still_exists(make_harness, filled, simulator):
    """The very image, as it was pushed then: not one that was pushed since."""
    made, run_id, task_call = swept(make_harness, filled)
    pushed = datetime.fromisoformat(filled["goes"]["created_at"])
    again = simulator.push("shop/api", tags=["pr-1"], created_at=pushed, content="goes", layers=["base:9000", 100])
    assert again["digest"] == filled["goes"]["digest"]
    made.carry_out([task_call])
    run = made.run(run_id)
    assert [(difference["digest"], difference["difference"]) for difference in run.differences] == [
        (filled["goes"]["digest"], "it was deleted, and exists")
    ]
    assert run.outcome == "partial"


def test_a_deleted_image_that_is_pushed_again_is_no_difference(make_harness, filled, simulator):
    made, run_id, task_call = swept(make_harness, filled)
    again = simulator.push("shop/api", tags=["pr-1"], content="goes", layers=["base:9000", 100])
    assert again["digest"] == filled["goes"]["digest"]
    made.carry_out([task_call])
    assert made.run(run_id).outcome == "succeeded"


def test_tries_an_unavailable_registry_three_times(make_harness, filled, simulator):
    made, run_id, task_call = swept(make_harness, filled)
    simulator.fault("status", status=503)
    for _ in range(3):
        assert made.run(run_id).state == "deleting"
        made.carry_out([task_call])
    run = made.run(run_id)
    assert (run.state, run.outcome, run.deleted) == ("finished", "partial", 3)
    assert "the registry could not be read: " in run.message


def test_reports_a_repository_that_cannot_be_listed(make_harness, filled, simulator):
    made, run_id, task_call = swept(make_harness, filled)
    simulator.fault("status", status=403, path="shop(/|%2F)web")
    made.carry_out([task_call])
    run = made.run(run_id)
    (difference,) = run.differences
    assert (run.outcome, difference["repository"], difference["digest"]) == ("partial", "shop/web", None)
    assert difference["difference"].startswith("it could not be listed again: ")


def test_may_run_twice_late_or_never(make_harness, filled, simulator):
    made, run_id, task_call = swept(make_harness, filled)
    assert made.reconcile() == (task_call,)
    made.carry_out([task_call, task_call])
    requests = len(simulator.requests())
    made.carry_out([task_call, TaskCall("gc.verify", ("no such run",))])
    assert len(simulator.requests()) == requests
    assert made.run(run_id).verifications == 1


def test_the_lease_allows_one_verification_at_a_time(make_harness, filled):
    made, run_id, task_call = swept(make_harness, filled)
    with made.store.write() as connection:
        now = made.store.now(connection)
        assert verification.claim(connection, run_id, owner="another", now=now, until=now + DAY)
    made.carry_out([task_call])
    assert made.run(run_id).state == "deleting"
    assert made.reconcile() == ()
    with made.store.write() as connection:
        late = verification.claim(connection, run_id, owner="third", now=now + 2 * DAY, until=now + 3 * DAY)
        assert late is not None
        former = replace(verification.lease_of(late), fence=late.fence - 1)
        assert not verification.record(connection, former, [], now)


def test_an_aborted_run_is_not_verified(make_harness, filled):
    made, run_id, _ = swept(make_harness, filled)
    assert list(lifecycle.abort(made.store, run_id, made.run(run_id).swept_at)) == []
    assert made.run(run_id).outcome == "aborted"


def test_a_run_that_deleted_nothing_is_not_verified(make_harness, simulator):
    simulator.push("shop/api", tags=["v1"], age=30 * DAY)
    made = make_harness()
    run_id, task_calls = made.plan()
    assert made.carry_out(task_calls, until="gc.verify") == []
    assert made.run(run_id).outcome == "succeeded"


def test_show_lists_the_differences(make_harness, filled, simulator):
    made, run_id, task_call = swept(make_harness, filled)
    simulator.remove(filled["base here"]["id"])
    made.carry_out([task_call])
    run = made.run(run_id)
    line = f"differences shop/api@{filled['base here']['digest']}: it was kept, and is gone"
    assert line in list(show_report(run, made.items(run_id)).table())
    assert b'"differences":[{"repository":"shop/api"' in b"".join(show_report(run, made.items(run_id)).json())


def test_reports_repositories_that_were_emptied(make_harness, simulator):
    """Not repositories that were pushed to, that keep an image, or that were empty before."""
    push = simulator.push
    for path in ("shop/empty", "ml/gone", "shop/pushed", "shop/kept", "shop/rest"):
        push(path, tags=["pr-1"], age=30 * DAY, content=path)
        push(path, age=30 * DAY, content=f"{path} untagged")
    push("shop/kept", tags=["v1"], age=30 * DAY)
    kept = push("shop/rest", tags=["pr-2"], age=DAY)
    made, run_id, task_call = swept(make_harness, None)
    push("shop/pushed", tags=["v2"])
    made.carry_out([task_call])
    run = made.run(run_id)
    assert (run.outcome, run.emptied_repositories) == ("succeeded", ("ml/gone", "shop/empty"))
    assert json.loads(b"".join(show_report(run, []).json()))["emptied_repositories"] == ["ml/gone", "shop/empty"]
    assert "ml/gone" in "\n".join(show_report(run, []).table())
    simulator.remove(kept["id"])
    assert made.sweep().emptied_repositories == (), "nothing was deleted there by this run"


def test_a_repository_that_cannot_be_listed_is_not_reported_as_emptied(make_harness, simulator):
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    made, run_id, task_call = swept(make_harness, None)
    simulator.fault("error", path="repositoryName=", code=7)
    made.carry_out([task_call])
    run = made.run(run_id)
    assert (run.outcome, run.emptied_repositories) == ("partial", ())


ONE, TWO, THREE = (f"sha256:{number:064x}" for number in range(3))


@pytest.mark.parametrize(
    ("gone", "listed", "differences"),
    [
        pytest.param(
            {ONE: Image(digest=ONE)},
            {TWO: Image(digest=TWO, children=(ONE, THREE))},
            {TWO: f"it lists {ONE}, deleted by this run"},
            id="an index pushed during the run",
        ),
        pytest.param(
            {ONE: Image(digest=ONE, subject=TWO)},
            {TWO: Image(digest=TWO)},
            {TWO: f"{ONE}, about it, was deleted by this run"},
            id="a signature of an image that is pushed again",
        ),
        pytest.param({ONE: Image(digest=ONE)}, {TWO: Image(digest=TWO, children=(THREE,))}, {}, id="never ours"),
    ],
)
def test_reports_kept_images_that_need_a_deleted_image(
    gone: dict[str, Image], listed: dict[str, Image], differences: dict[str, str]
) -> None:
    differing = _against(Expectation("shop/api", gone, frozenset()), listed)
    assert {difference.digest: difference.difference for difference in differing} == differences
