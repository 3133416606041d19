"""A deleted digest that is listed again is a new image, regardless of who deleted it and who pushed it again."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.harness import Harness
from tests.support.oci.fake import FakeRegistry
from tests.support.scan_history import pass_time, reasons, saved_history
from tests.support.simulator.client import Simulator
from worker.registries import open_registry
from worker.restore.restore import resolve_request, restore
from worker.store.tables import run as run_table

DAY = timedelta(days=1)
PATH = "shop/api"
OLD = [{"name": "old", "delete": {"tags": ["build-*"], "older_than": "14d"}}]


@pytest.fixture
def harness(on_fake: Callable[..., Harness]) -> Harness:
    return on_fake(rules=OLD, concurrency=4)


def build(fake: FakeRegistry) -> str:
    return fake.push(PATH, "build-1", layers=[b"build"]).digest


def month_old(fake: FakeRegistry, harness: Harness) -> str:
    """An image that scans have known for thirty days, with another that stays; its digest."""
    digest = build(fake)
    fake.push(PATH, "keep", layers=[b"keep"])
    harness.sweep()
    pass_time(harness, 30 * DAY)
    return digest


@pytest.fixture
def deleted(fake: FakeRegistry, harness: Harness) -> str:
    """An image of thirty days that a sweep has deleted; its digest."""
    digest = month_old(fake, harness)
    assert harness.sweep().deleted == 1
    return digest


def is_young_for_fourteen_days(harness: Harness, digest: str) -> bool:
    pass_time(harness, DAY)
    first = harness.sweep()
    said = reasons(harness, first)[digest]
    pass_time(harness, 13 * DAY)
    second = harness.sweep()
    pass_time(harness, DAY)
    third = harness.sweep()
    assert (first.deleted, second.deleted, third.deleted) == (0, 0, 1)
    return said[0] == "no_rule"


def test_an_image_pushed_again_before_the_next_scan_is_new(fake: FakeRegistry, harness: Harness, deleted: str) -> None:
    assert build(fake) == deleted
    assert is_young_for_fourteen_days(harness, deleted)


def test_a_deleted_image_that_reappears_after_some_scans_is_new(
    fake: FakeRegistry, harness: Harness, deleted: str
) -> None:
    pass_time(harness, DAY)
    harness.sweep()
    assert build(fake) == deleted
    assert is_young_for_fourteen_days(harness, deleted)


def test_a_restored_image_is_new(fake: FakeRegistry, harness: Harness, deleted: str) -> None:
    registry = harness.settings.registries["production"]
    with open_registry(registry) as opened:
        (back,) = restore(harness.store, resolve_request(harness.store, harness.settings, f"{PATH}@{deleted}"), opened)
    assert (back.digest, deleted in fake.state()[PATH]) == (deleted, True)
    assert is_young_for_fourteen_days(harness, deleted)


def test_an_image_found_gone_that_reappears_is_new(fake: FakeRegistry, harness: Harness) -> None:
    digest = month_old(fake, harness)
    run_id, task_calls = harness.plan_and_recheck()
    fake.remove(PATH, digest)
    harness.carry_out(task_calls)
    assert harness.outcomes(run_id) == {digest: ("gone", None)}
    assert build(fake) == digest
    assert is_young_for_fourteen_days(harness, digest)


def test_an_image_with_an_unconfirmed_deletion_is_new(fake: FakeRegistry, harness: Harness) -> None:
    """It is not known whether that is the former image."""
    digest = month_old(fake, harness)
    run_id, task_calls = harness.plan_and_recheck()
    fake.fault("status", "DELETE", times=None, status=503)
    harness.carry_out(task_calls)
    fake.heal()
    assert harness.outcomes(run_id) == {digest: ("intent", None)}
    with harness.store.write() as connection:
        connection.execute(run_table.update().where(run_table.c.id == run_id).values(state="finished"))
    fake.remove(PATH, digest)
    build(fake)
    assert is_young_for_fourteen_days(harness, digest)


def test_an_unlistable_repository_changes_no_first_sight(fake: FakeRegistry, harness: Harness) -> None:
    digest = build(fake)
    fake.push("shop/web", "keep", layers=[b"web"])
    harness.sweep()
    pass_time(harness, 30 * DAY)
    fake.fault("html", "GET", f"/{PATH}/tags/list", status=200, times=None)
    assert harness.sweep().complete is False
    fake.heal()
    last = harness.sweep()
    assert harness.outcomes(last.id) == {digest: ("deleted", None)}


def test_a_deletion_is_remembered_across_a_scan_that_cannot_list(
    fake: FakeRegistry, harness: Harness, deleted: str
) -> None:
    build(fake)
    fake.push("shop/web", "keep", layers=[b"web"])
    pass_time(harness, DAY)
    fake.fault("html", "GET", f"/{PATH}/tags/list", status=200, times=None)
    assert harness.sweep().complete is False
    fake.heal()
    assert is_young_for_fourteen_days(harness, deleted)


def test_a_deletion_after_the_scan_of_another_run_is_remembered(fake: FakeRegistry, harness: Harness) -> None:
    """A plan that waited for its approval while another was made."""
    digest = month_old(fake, harness)
    run_id, task_calls = harness.plan()
    head = saved_history(harness).last_scan
    assert head is not None
    with harness.store.write() as connection:  # as if it had begun before the last scan
        before = head.scanned_at - timedelta(hours=1)
        connection.execute(run_table.update().where(run_table.c.id == run_id).values(started_at=before))
    harness.carry_out(task_calls)
    assert harness.run(run_id).deleted == 1
    build(fake)
    assert is_young_for_fourteen_days(harness, digest)


@pytest.fixture
def vendors(simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(**keys: object) -> Harness:
        made.append(Harness(simulator, tmp_path, **keys))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


def test_a_reappearing_image_settles_again_where_push_times_are_reported(
    simulator: Simulator, vendors: Callable[..., Harness]
) -> None:
    simulator.push(PATH, tags=["pr-1"], content="a", age=30 * DAY)
    simulator.push(PATH, tags=["v1"], content="b", age=30 * DAY)
    harness = vendors(settle="24h")
    harness.sweep()
    pass_time(harness, 2 * DAY)
    assert harness.sweep().deleted == 1
    again = simulator.push(PATH, tags=["pr-1"], content="a", age=30 * DAY)

    run = harness.sweep()

    assert run.planned == 0
    cause, reason = reasons(harness, run)[again["digest"]]
    assert (cause, reason) == ("unsettled", "no earlier complete scan has seen it; settle requires 1 day")
    pass_time(harness, DAY)
    assert harness.sweep().deleted == 1
