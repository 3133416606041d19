"""The verification after a sweep: its lease, its differences, and the states of planned deletions."""

from typing import Any

import pytest

from tests.store.rows import HOUR, NOW, PATH, SECOND, add_item, add_run
from tests.support.builders import digest, image
from worker.store import Store, leases, runs, verification
from worker.store.tables import run
from worker.store.verification import MAX_LISTED, DeletionState, Difference, Unsuccessful


@pytest.mark.parametrize(
    ("facts", "claimed"),
    [
        ({}, True),
        ({"lease_until": NOW - SECOND}, True),
        ({"lease_until": NOW + SECOND}, False),
        ({"swept_at": None}, False),
        ({"verified_at": NOW}, False),
        ({"state": "finished"}, False),
    ],
    ids=["swept", "its lease ran out", "held", "not swept", "verified", "ended"],
)
def test_one_worker_claims_the_verification_of_a_swept_run(store: Store, facts: dict[str, Any], claimed: bool) -> None:
    with store.write() as connection:
        add_run(connection, **{"swept_at": NOW} | facts)
        listed_claimed = verification.claim(connection, "run-1", owner="me", now=NOW, until=NOW + HOUR)
        assert (listed_claimed is not None) is claimed
        if listed_claimed is not None:
            assert listed_claimed.verifications == 1
            assert verification.claim(connection, "run-1", owner="you", now=NOW, until=NOW + HOUR) is None
            lease = verification.lease_of(listed_claimed)
            assert leases.holds(connection, lease)
            connection.execute(run.update().values(state="finished"))
            assert not leases.holds(connection, lease)


@pytest.mark.parametrize("count", [0, 2, MAX_LISTED, MAX_LISTED + 1])
def test_lists_a_limited_number_of_differences_and_counts_all(store: Store, count: int) -> None:
    differences = [Difference(PATH, f"sha256:{number}", "is there") for number in range(count)]
    with store.write() as connection:
        add_run(connection, swept_at=NOW)
        claimed = verification.claim(connection, "run-1", owner="me", now=NOW, until=NOW + HOUR)
        assert claimed is not None
        lease = verification.lease_of(claimed)
        assert verification.record(connection, lease, differences, NOW, ["a", "b"])
        written = runs.get(connection, "run-1")
        assert written is not None
        assert not verification.record(connection, leases.Lease(run, {"id": "run-1"}, claimed.fence - 1), [], NOW)
        assert runs.get(connection, "run-1") == written
    assert (written.difference_count, written.verified_at, written.emptied_repositories) == (count, NOW, ("a", "b"))
    assert len(written.differences) == min(count, MAX_LISTED + 1)
    if count > MAX_LISTED:
        assert written.differences[-1] == {"repository": "", "digest": None, "difference": "and 1 more"}


def test_a_verification_that_was_given_up_has_a_reason(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, swept_at=NOW)
        stored = runs.get(connection, "run-1")
        assert stored is not None
        given_up = verification.give_up(connection, stored, "no answer", NOW)
    assert (given_up.verified_at, given_up.difference_count) == (NOW, 1)
    assert given_up.differences == ({"repository": "", "digest": None, "difference": "no answer"},)


def test_reports_the_states_of_planned_deletions_after_a_sweep(store: Store) -> None:
    states: list[dict[str, Any]] = [
        {"state": "deleted", "attempts": 1},
        {"state": "gone"},
        {"state": "planned"},
        {"state": "planned", "attempts": 2},
        {"state": "failed", "outcome_cause": "unconfirmed"},
        {"state": "skipped", "outcome_cause": "locked"},
    ]
    with store.write() as connection:
        add_run(connection)
        for number, facts in enumerate(states):
            add_item(connection, number, image(number), **facts)
        add_item(connection, 90, image(90), repository="elsewhere", state="deleted")
        left = verification.deletion_states(connection, "run-1", PATH)
        deleted = list(verification.deleted_images(connection, "run-1"))
    begun = {name: state.attempted for name, state in left.items()}
    assert left[digest(2)] == DeletionState(image(2), "planned", attempted=False)
    assert begun == {digest(number): number in (0, 3, 4) for number in range(6)}
    assert sorted(listed_image.digest for listed_image in deleted) == sorted(digest(number) for number in (0, 1, 90))


def test_groups_unsuccessful_items_by_cause_with_their_first_image(store: Store) -> None:
    rows: list[tuple[str, str | None, str | None]] = [
        ("deleted", None, None), ("skipped", "locked", "by a rule"), ("failed", None, "HTTP 500"),
        ("skipped", "locked", "again"), ("failed", "unconfirmed", None), ("planned", None, None),
        ("skipped", "unconfirmed", None),
    ]  # fmt: skip
    with store.write() as connection:
        add_run(connection)
        for number, (state, cause, message) in enumerate(rows):
            add_item(connection, number, image(number), state=state, outcome_cause=cause, message=message)
        assert verification.unsuccessful(connection, "run-1") == [
            Unsuccessful("skipped", "locked", 2, PATH, digest(1), "by a rule"),
            Unsuccessful("failed", "other", 1, PATH, digest(2), "HTTP 500"),
            Unsuccessful("failed", "unconfirmed", 1, PATH, digest(4), None),
            Unsuccessful("skipped", "unconfirmed", 1, PATH, digest(6), None),
        ]
        assert verification.unsuccessful(connection, "run-2") == []
