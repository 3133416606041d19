"""Whole runs on Cloud Registry: exactly the plan is deleted, and any other deletion stops the run."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.registries.yandex.cloud_registry.tools import LEVEL, tags_left
from tests.support.harness import Harness
from tests.support.simulator.client import Simulator
from worker.store.tables import item, repository

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
DELETE = "/cloud-registry/v1/artifacts/"
ONE_BY_ONE = {"requests_per_second": 500, "concurrency": 1}


@pytest.fixture
def make_harness(simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(**registry: Any) -> Harness:
        entry = {"kind": "yandex-cloud-registry", "endpoints": simulator.cloud_endpoints(), **registry}
        made.append(Harness(simulator, tmp_path, **entry))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


def old(simulator: Simulator, *tags: str, **more: Any) -> str:
    """An image of a month ago in shop/api; its digest."""
    pushed = simulator.push("shop/api", tags=tags, age=30 * DAY, **more)
    return str(pushed["digest"])


@pytest.mark.parametrize(
    "switches",
    [
        pytest.param({}, id="as is likely"),
        pytest.param({"deleted_artifact": "manifest", "missing_image": "operation_error"}, id="the first takes all"),
        pytest.param({"last_tag": "manifest_stays", "artifact_path": "parent"}, id="the last leaves something"),
        pytest.param({"artifacts_of_image": "per_digest", "after_deletion": "status"}, id="one for all tags"),
        pytest.param({"deleted_index": "cascade"}, id="children go along"),
        pytest.param({"child_artifacts": "not_listed", "deleted_index": "cascade"}, id="children are not shown"),
    ],
)
def test_deletes_exactly_the_plan(
    simulator: Simulator, make_harness: Callable[..., Harness], switches: dict[str, Any]
) -> None:
    simulator.switch(**switches)
    requested = [old(simulator, f"pr-{n}", f"pr-{n}-x", layers=["base:1000", 100]) for n in range(5)]
    child = old(simulator, layers=[10])
    index = simulator.push_index("shop/api", [child], tags=["pr-9"], age=30 * DAY)["digest"]
    kept = [old(simulator, "v1", "pr-7", layers=["base:1000", 7]), old(simulator, "main")]
    harness = make_harness()
    run = harness.sweep()
    assert (run.state, run.outcome, run.message) == ("finished", "succeeded", None)
    assert {image["digest"] for image in simulator.images()} == set(kept)
    assert (run.deleted + run.gone, run.skipped, run.failed) == (7, 0, 0)
    assert run.deleted >= 6
    assert {harness.outcomes(run.id)[digest] for digest in (*requested, index)} == {("deleted", None)}
    assert run.reclaimed_bytes == simulator.state()["lost_bytes"]  # our request deleted the child as well


def test_stops_when_an_unplanned_tag_is_deleted(simulator: Simulator, make_harness: Callable[..., Harness]) -> None:
    for n in range(5):
        old(simulator, f"pr-{n}")
    kept = old(simulator, "v1", "prod")
    simulator.after("DELETE", DELETE, "untag", repository="shop/api", tag="prod")
    run = make_harness(rate=ONE_BY_ONE).sweep()
    assert run.outcome != "succeeded"
    assert "the registry deleted prod of the same repository, which the plan keeps" in str(run.message)
    assert run.deleted == 1
    assert len(simulator.requests("DELETE")) == 1
    assert tags_left(simulator, kept) == {"v1"}


def test_stops_when_a_kept_child_is_deleted_with_its_index(
    simulator: Simulator, make_harness: Callable[..., Harness]
) -> None:
    simulator.switch(deleted_index="cascade")
    child = old(simulator)
    simulator.push_index("shop/api", [child], tags=["pr-1"], age=30 * DAY)
    harness = make_harness(
        rules=[
            {"name": "the child", "keep": {"digests": [child]}},
            {"name": "pull requests", "delete": {"tags": ["pr-*"]}},
        ]
    )
    run = harness.sweep()
    assert run.outcome != "succeeded"
    assert f"the registry deleted {child}" in str(run.message)


def test_does_not_stop_for_parallel_deletions_of_other_workers(
    simulator: Simulator, make_harness: Callable[..., Harness]
) -> None:
    """Another process's deletion looks like collateral damage, but the image is in the plan."""
    digests = [old(simulator, f"pr-{n}") for n in range(3)]
    old(simulator, "v1")  # kept images make a 404 trustworthy
    other = next(image["id"] for image in simulator.images() if image["digest"] == digests[2])
    simulator.after("DELETE", DELETE, "remove", image=other)
    run = make_harness(rate=ONE_BY_ONE).sweep()
    assert (run.outcome, run.deleted + run.gone) == ("succeeded", 3)


def test_stops_when_a_skipped_image_is_deleted(simulator: Simulator, make_harness: Callable[..., Harness]) -> None:
    old(simulator, "pr-1")
    skipped = old(simulator, "pr-2")
    harness = make_harness()
    run_id, task_calls = harness.plan()
    with harness.store.write() as connection:
        connection.execute(update(item).where(item.c.digest == skipped).values(state="skipped"))
    simulator.after("DELETE", DELETE, "untag", repository="shop/api", tag="pr-2")
    harness.carry_out(task_calls)
    assert "the registry deleted pr-2 of the same repository" in str(harness.run(run_id).message)


def test_stops_for_collateral_tags_of_a_partly_deleted_image(
    simulator: Simulator, make_harness: Callable[..., Harness]
) -> None:
    digest = old(simulator, "pr-1", "pr-2")
    old(simulator, "v1", "prod")
    simulator.fault("fail_operation", method="DELETE", after=1, times=1, code=9, message="broken")
    simulator.after("DELETE", DELETE, "untag", repository="shop/api", tag="prod")
    harness = make_harness()
    run = harness.sweep()
    assert harness.outcomes(run.id) == {digest: ("failed", "operation_failed")}
    assert "the registry deleted prod of the same repository, which the plan keeps" in str(run.message)


def test_a_partly_deleted_image_is_a_failure(simulator: Simulator, make_harness: Callable[..., Harness]) -> None:
    digest = old(simulator, "pr-1", "pr-2")
    simulator.fault("fail_operation", method="DELETE", after=1, times=1, code=9, message="broken")
    harness = make_harness()
    run = harness.sweep()
    assert (run.outcome, harness.outcomes(run.id)) == ("partial", {digest: ("failed", "operation_failed")})
    assert tags_left(simulator, digest) == {"pr-2"}
    assert run.reclaimed_bytes == 0
    again = harness.sweep()
    assert (again.outcome, again.deleted) == ("succeeded", 1)


@pytest.mark.parametrize("rechecked_at", [timedelta(), HOUR])
def test_completes_a_deletion_after_a_crash(
    simulator: Simulator, make_harness: Callable[..., Harness], rechecked_at: timedelta
) -> None:
    """The worker died between two artifacts; the repository may have to be listed again first."""
    child = old(simulator)
    index = simulator.push_index("shop/api", [child], tags=["pr-1", "pr-2"], age=30 * DAY)["digest"]
    harness = make_harness()
    run_id, task_calls = harness.plan()
    harness.carry_out(task_calls, until="gc.delete_batch")
    now = datetime.now(UTC)
    with harness.store.write() as connection:
        begun = {"state": "intent", "idempotency_key": "a key", "attempts": 1, "intent_at": now}
        connection.execute(update(item).where(item.c.digest == index).values(**begun))
        connection.execute(update(repository).values(rechecked_at=now - rechecked_at))
    first = min(("pr-1", "pr-2"), key=lambda tag: simulator.artifact("shop/api", tag)["id"])
    simulator.untag("shop/api", first)  # so that the remaining artifact has another id
    harness.go_on(run_id, times=4)
    assert harness.outcomes(run_id) == {index: ("deleted", None), child: ("deleted", None)}
    assert simulator.images() == []
    assert harness.run(run_id).outcome == "succeeded"


def test_completes_a_deletion_whose_follower_crashed(
    simulator: Simulator, make_harness: Callable[..., Harness]
) -> None:
    digest = old(simulator, "pr-1", "pr-2")
    simulator.fault("error", path=LEVEL, after=2, times=1, code=7, message="not now")  # after the look and the reading
    harness = make_harness()
    run_id, task_calls = harness.plan()
    simulator.switch(last_tag="manifest_stays")
    harness.carry_out(task_calls)
    harness.go_on(run_id, times=4)
    assert harness.outcomes(run_id) == {digest: ("deleted", None)}
    assert tags_left(simulator, digest) is None


@pytest.mark.parametrize("says_so", [False, True])
def test_deletes_from_a_transitional_registry_only_if_configured(
    simulator: Simulator, make_harness: Callable[..., Harness], says_so: bool
) -> None:
    simulator.set_registry(type="TRANSITIONAL")
    digest = old(simulator, "pr-1")
    run = make_harness(**({"transitional": True} if says_so else {})).sweep()
    assert (run.outcome == "succeeded") is says_so
    assert (tags_left(simulator, digest) is None) is says_so
    if not says_so:
        assert "to delete images there, write transitional: true" in str(run.message)


@pytest.mark.parametrize("type_", ["REMOTE", "VIRTUAL"])
def test_does_not_plan_a_registry_without_own_images(
    simulator: Simulator, make_harness: Callable[..., Harness], type_: str
) -> None:
    simulator.set_registry(type=type_)
    old(simulator, "pr-1")
    run = make_harness().sweep()
    assert (run.outcome, run.images) == ("failed", 0)
    assert f"has the type {type_}" in str(run.message)
