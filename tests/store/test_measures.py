"""The facts for metrics: sums over all runs, the newest run of each kind, and facts of a registry."""

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


def test_measures_of_an_empty_store_are_zero(store: Store) -> None:
    measures = measured(store)
    assert (measures.registries, measures.heartbeats, measures.all_paused) == ({}, {}, False)
    assert measures.of("production") == RegistryMeasures()


def test_sums_all_runs_of_a_registry(store: Store) -> None:
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
    measures = measured(store).of("production")
    assert measures.images == {"deleted": 6, "gone": 1, "skipped": 1, "failed": 1}
    assert (measures.reclaimed_bytes, measures.foreign_deletions, measures.differences) == (2**50, 4, 2)
    assert measures.runs == {
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
    ids=["deleting", "blocked", "a dry run has no backlog", "finished"],
)
def test_the_backlog_counts_images_that_a_run_may_still_delete(
    store: Store, facts: dict[str, Any], backlog: int, active: bool
) -> None:
    with store.write() as connection:
        add_run(connection, **facts)
    measures = measured(store).of("production")
    assert (measures.backlog, measures.active) == (backlog, active)


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({}, True), ({"outcome": "partial"}, False), ({"mode": "dry-run"}, False),
        ({"mode": "dry-run", "registry_mode": "dry-run"}, True),
    ],
    ids=["in its mode", "partial", "more careful than the file", "the file says dry-run"],
)  # fmt: skip
def test_only_a_run_in_the_registry_s_own_mode_is_a_success(store: Store, facts: dict[str, Any], counts: bool) -> None:
    with store.write() as connection:
        add_run(connection, "before", **ENDED | {"finished_at": NOW - HOUR})
        add_run(connection, **ENDED | facts)
    assert measured(store).of("production").last_success == (NOW if counts else NOW - HOUR)


def test_reports_the_newest_run_of_each_kind(store: Store) -> None:
    over = json.dumps([{"limit": "max_images", "value": 2, "allowed": 1}])
    with store.write() as connection:
        add_run(connection, "first", **ENDED, images=1, planned_at=NOW)
        add_run(connection, "missed", **ENDED | {"outcome": "missed", "finished_at": NOW + HOUR}, images=2)
        add_run(connection, "blocked", state="blocked", planned_at=NOW + HOUR, images=3, exceeded=over)
        add_run(connection, "older", state="blocked", planned_at=NOW - HOUR, images=4)
    measures = measured(store).of("production")
    assert measures.finished is not None
    assert measures.plan is not None
    assert (measures.finished["images"], measures.plan["images"]) == (1, 3)
    assert measures.blocked_by == {"max_images"}


def test_reports_facts_that_do_not_come_from_runs(store: Store) -> None:
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
    measures = measured(store).of("production")
    assert (measures.enabled_since, measures.cron_line, measures.cron_line_since) == (NOW, "0 3 * * * UTC", NOW)
    assert measures.auth_ok is False
    assert measures.tallies == {"rate_wait_seconds": {"": 3.5}, "skipped": {"locked": 3}}
    assert (measures.evidence, measures.foreign_references) == ({"cluster": NOW}, {"cluster": 7})


@pytest.mark.parametrize(
    ("names", "paused"),
    [([], (False, False)), (["production"], (True, False)), ([holds.ALL], (True, True))],
    ids=["none", "one", "all"],
)
def test_reports_paused_registries(store: Store, names: list[str], paused: tuple[bool, bool]) -> None:
    with store.write() as connection:
        add_run(connection, **ENDED, registry_key=KEY)
        for name in names:
            holds.pause_registry(connection, name, "anna", "", NOW)
    measures = measured(store)
    assert (measures.of("production").paused, measures.of("staging").paused) == paused
    with store.write() as connection:
        for name in names:
            holds.resume_registry(connection, name)
    assert not measured(store).of("production").paused
