"""Refused deletions: protected images are skipped as `locked`, a missing permission is a failure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Harness, MakeHarness
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.real_runs import served
from worker.store.measures import measure
from worker.store.runs import Run

OLD = [{"name": "old", "delete": {"tags": ["t0*"]}}]
LOCKED = "^locked/"


@pytest.fixture
def make(fake: FakeRegistry, tmp_path: Path, no_backoff: None) -> Iterator[MakeHarness]:
    made: list[Harness] = []

    def new(**keys: Any) -> Harness:
        keys = {"rules": OLD, "rate": {"requests_per_second": 1000, "concurrency": 4}, "mode": "delete"} | keys
        made.append(Harness(served(fake), tmp_path, **keys))  # type: ignore[arg-type]  # a registry's url is all that is taken of it
        return made[-1]

    yield new
    for harness in made:
        harness.store.dispose()


def counts(run: Run) -> tuple[str | None, int, int, int]:
    return run.outcome, run.deleted, run.skipped, run.failed


def causes(harness: Harness, run: Run) -> dict[tuple[str, str | None], int]:
    counts: dict[tuple[str, str | None], int] = {}
    for pair in harness.outcomes(run.id).values():
        counts[pair] = counts.get(pair, 0) + 1
    return counts


@pytest.mark.parametrize("says", ["harbor", "protected"])
@pytest.mark.parametrize(("locked", "free"), [("locked/api", "zoo/web"), ("locked/api", "app/web")])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_protected_images_are_skipped_as_locked(
    fake: FakeRegistry, make: MakeHarness, says: str, locked: str, free: str, concurrency: int
) -> None:
    fake.switches.locks, fake.switches.locked_says = LOCKED, says  # type: ignore[assignment]
    fake.fill(locked, 12)
    fake.fill(free, 8)
    harness = make(rate={"requests_per_second": 1000, "concurrency": concurrency})

    first = harness.sweep()

    assert counts(first) == ("succeeded", 8, 12, 0)
    assert causes(harness, first) == {("skipped", "locked"): 12, ("deleted", None): 8}
    assert (first.message or "").startswith(
        f"12 of 20 images skipped (locked), for example production: DELETE {locked}@"
    )

    second = harness.sweep()

    assert counts(second) == ("succeeded", 0, 12, 0)
    assert causes(harness, second) == {("skipped", "locked"): 12}


@pytest.mark.parametrize("says", ["harbor", "protected", "forbidden"])
def test_protected_images_are_locked_while_others_are_deleted(fake: FakeRegistry, make: MakeHarness, says: str) -> None:
    fake.switches.locks, fake.switches.locked_says = ":t000(0.|1[0-4])$", says  # type: ignore[assignment]
    fake.fill("shop/api", 20)
    harness = make()
    run = harness.sweep()
    assert counts(run) == ("succeeded", 5, 15, 0)


@pytest.mark.parametrize("repositories", [1, 3, 12])
def test_a_missing_permission_ends_the_run_after_ten_refusals_more_than_repositories(
    fake: FakeRegistry, make: MakeHarness, repositories: int
) -> None:
    tries = repositories - 1 + 10

    fake.switches.locks, fake.switches.locked_says = ".", "forbidden"
    for number in range(repositories):
        fake.fill(f"shop/api{number:02}", 36 // repositories)
    harness = make()

    run = harness.sweep()

    assert counts(run) == ("failed", 0, 0, tries)
    assert causes(harness, run) == {("failed", "permission_denied"): tries, ("planned", None): 36 - tries}
    assert (run.message or "").startswith("stopped after 10 failures in a row, the last: production: DELETE shop/api")
    assert len(fake.lines("DELETE")) == tries


def test_a_few_images_without_permission_fail(fake: FakeRegistry, make: MakeHarness) -> None:
    fake.switches.locks, fake.switches.locked_says = ".", "forbidden"
    fake.fill("shop/api", 3)
    harness = make()

    run = harness.sweep()

    assert counts(run) == ("partial", 0, 0, 3)
    assert (run.message or "").startswith("3 of 3 images failed (permission_denied), for example production: DELETE ")
    with harness.store.read() as connection:
        assert measure(connection).of("production").last_success is None


def test_images_locked_before_do_not_hide_a_missing_permission(fake: FakeRegistry, make: MakeHarness) -> None:
    fake.switches.locks, fake.switches.locked_says = LOCKED, "protected"
    fake.fill("locked/api", 2)
    fake.fill("shop/api", 2)
    harness = make()
    assert counts(harness.sweep()) == ("succeeded", 2, 2, 0)
    fake.switches.locks, fake.switches.locked_says = ".", "forbidden"
    fake.fill("shop/api", 2, prefix="t0new")

    run = harness.sweep()

    assert counts(run) == ("partial", 0, 0, 4)
    assert causes(harness, run) == {("failed", "permission_denied"): 4}


@pytest.mark.parametrize("free", ["zoo/web", "app/web"])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_repository_without_permission_fails_after_ten_refusals(
    fake: FakeRegistry, make: MakeHarness, free: str, concurrency: int
) -> None:
    fake.switches.locks, fake.switches.locked_says = LOCKED, "forbidden"
    fake.fill("locked/api", 30)
    fake.fill(free, 8)
    harness = make(rate={"requests_per_second": 1000, "concurrency": concurrency})

    run = harness.sweep()

    assert counts(run) == ("partial", 8, 0, 30)
    assert causes(harness, run) == {("failed", "permission_denied"): 30, ("deleted", None): 8}
    assert len(fake.lines("DELETE")) == 18
    messages = [item.message or "" for item in harness.items(run.id) if item.state == "failed"]
    assert sum(message.startswith("not tried: the registry refused 10 others") for message in messages) == 20


def test_protected_images_do_not_hide_the_others_of_their_repository(fake: FakeRegistry, make: MakeHarness) -> None:
    fake.switches.locks, fake.switches.locked_says = ":t0(locked|newest)", "forbidden"
    for month, (prefix, number) in enumerate((("t0locked", 14), ("t0middle", 10), ("t0newest", 14)), 1):
        fake.fill("shop/api", number, prefix=prefix, created=f"2026-{month:02}-02T03:04:05Z")
    harness = make()

    run = harness.sweep()

    assert counts(run) == ("succeeded", 10, 28, 0)


def test_protected_repositories_do_not_hide_the_others(fake: FakeRegistry, make: MakeHarness) -> None:
    fake.switches.locks, fake.switches.locked_says = LOCKED, "forbidden"
    for number in range(12):
        fake.fill(f"locked/api{number:02}", 1)
    fake.fill("zoo/web", 8)
    harness = make()

    run = harness.sweep()

    assert counts(run) == ("partial", 8, 0, 12)


def test_a_repository_s_name_hides_no_missing_permission(fake: FakeRegistry, make: MakeHarness) -> None:
    fake.switches.locks, fake.switches.locked_says = ".", "named"
    fake.fill("infra/protected", 3)
    harness = make()

    run = harness.sweep()

    assert counts(run) == ("partial", 0, 0, 3)
    assert causes(harness, run) == {("failed", "permission_denied"): 3}
