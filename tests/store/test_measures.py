"""What the metrics ask: sums over all runs, the newest of each kind, and what is known of a registry."""

import json
from typing import Any

import pytest
from sqlalchemy import insert

from tests.store.rows import HOUR, KEY, NOW, add_run
from worker.store import Store, holds, runs, sweeping
from worker.store.measures import Measures, RegistryMeasures, heartbeats, measure
from worker.store.tables import evidence

ENDED = {"state": "finished", "outcome": "succeeded", "finished_at": NOW}


def measured(store: Store) -> Measures:
    with store.read() as connection:
        return measure(connection)


def test_an_empty_store_has_nothing_to_tell(store: Store) -> None:
    found = measured(store)
    assert (found.registries, found.heartbeats, found.all_paused) == ({}, {}, False)
    assert found.of("production") == RegistryMeasures()


def test_sums_are_over_all_runs_of_a_registry(store: Store) -> None:
    with store.write() as connection:
        for number, facts in enumerate(
            [
                ENDED | {"deleted": 3, "reclaimed_bytes": 2**50, "difference_count": 2},
                ENDED | {"deleted": 2, "skipped": 1, "foreign_deletions": 4, "trigger": "schedule"},
                ENDED | {"outcome": "failed", "failed": 1},
                {"state": "deleting", "planned": 9, "deleted": 1, "gone": 1},
            ]
        ):
            add_run(connection, f"run-{number}", **facts)
        add_run(connection, "other", registry="staging", registry_key="staging", **ENDED, deleted=100)
    found = measured(store).of("production")
    assert found.images == {"deleted": 6, "gone": 1, "skipped": 1, "failed": 1}
    assert (found.reclaimed_bytes, found.foreign_deletions, found.differences) == (2**50, 4, 2)
    assert found.runs == {
        ("succeeded", "command", "delete"): 1, ("succeeded", "schedule", "delete"): 1,
        ("failed", "command", "delete"): 1,
    }  # fmt: skip
    assert measured(store).of("staging").images["deleted"] == 100


@pytest.mark.parametrize(
    ("facts", "backlog", "active"),
    [
        ({"state": "deleting", "planned": 9, "deleted": 2, "gone": 1, "skipped": 1, "failed": 1}, 4, True),
        ({"state": "blocked", "planned": 9}, 9, False),
        ({"state": "planned", "planned": 9, "mode": "dry-run"}, 0, True),
        (ENDED | {"planned": 9}, 0, False),
    ],
    ids=["deleting", "blocked", "a dry run waits for nobody", "finished"],
)
def test_the_backlog_is_what_a_run_may_still_delete(
    store: Store, facts: dict[str, Any], backlog: int, active: bool
) -> None:
    with store.write() as connection:
        add_run(connection, **facts)
    found = measured(store).of("production")
    assert (found.backlog, found.active) == (backlog, active)


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({}, True), ({"outcome": "partial"}, False), ({"mode": "dry-run"}, False),
        ({"mode": "dry-run", "registry_mode": "dry-run"}, True),
    ],
    ids=["in its mode", "partial", "more careful than the file", "the file says dry-run"],
)  # fmt: skip
def test_a_success_is_one_in_the_registry_s_own_mode(store: Store, facts: dict[str, Any], counts: bool) -> None:
    with store.write() as connection:
        add_run(connection, "before", **ENDED | {"finished_at": NOW - HOUR})
        add_run(connection, **ENDED | facts)
    assert measured(store).of("production").last_success == (NOW if counts else NOW - HOUR)


def test_the_newest_of_each_kind_is_shown(store: Store) -> None:
    over = json.dumps([{"limit": "max_images", "value": 2, "allowed": 1}])
    with store.write() as connection:
        add_run(connection, "first", **ENDED, images=1, planned_at=NOW)
        add_run(connection, "missed", **ENDED | {"outcome": "missed", "finished_at": NOW + HOUR}, images=2)
        add_run(connection, "blocked", state="blocked", planned_at=NOW + HOUR, images=3, exceeded=over)
        add_run(connection, "older", state="blocked", planned_at=NOW - HOUR, images=4)
    found = measured(store).of("production")
    assert found.finished is not None
    assert found.plan is not None
    assert (found.finished["images"], found.plan["images"]) == (1, 3)
    assert found.blocked_by == {"max_images"}


def test_what_is_known_beside_runs(store: Store) -> None:
    with store.write() as connection:
        runs.record_registry(connection, "production", "0 3 * * * UTC", NOW)
        runs.record_sign_in(connection, "production", works=False)
        runs.record_heartbeat(connection, "beat", NOW)
        for value in (1, 2.5):
            sweeping.add_to_tally(connection, "production", "rate_wait_seconds", "", value)
        sweeping.add_to_tally(connection, "production", "skipped", "locked", 3)
        values = {"sha256": "", "as_of": NOW, "read_at": NOW, "count": 0, "baseline": 0, "uses": b""}
        connection.execute(
            insert(evidence).values(registry="production", source="cluster", foreign_references=7, **values)
        )
        assert heartbeats(connection) == {"beat": NOW}
    found = measured(store).of("production")
    assert (found.enabled_since, found.cron_line, found.cron_line_since) == (NOW, "0 3 * * * UTC", NOW)
    assert found.auth_ok is False
    assert found.tallies == {"rate_wait_seconds": {"": 3.5}, "skipped": {"locked": 3}}
    assert (found.evidence, found.foreign_references) == ({"cluster": NOW}, {"cluster": 7})


@pytest.mark.parametrize(
    ("names", "paused"),
    [([], (False, False)), (["production"], (True, False)), ([holds.ALL], (True, True))],
    ids=["none", "one", "all"],
)
def test_what_is_paused(store: Store, names: list[str], paused: tuple[bool, bool]) -> None:
    with store.write() as connection:
        add_run(connection, **ENDED, registry_key=KEY)
        for name in names:
            holds.pause_registry(connection, name, "anna", "", NOW)
    found = measured(store)
    assert (found.of("production").paused, found.of("staging").paused) == paused
    with store.write() as connection:
        for name in names:
            holds.resume_registry(connection, name)
    assert not measured(store).of("production").paused
