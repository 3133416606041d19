"""Queries of runs: each change of state happens once, from the expected state."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from tests.store.rows import HOUR, KEY, NOW, SECOND, add_batch, add_item, add_run, column, only
from tests.support.builders import image
from worker.store import Store, leases, runs
from worker.store.runs import Run, SourceTerms, Terms, encode_terms
from worker.store.tables import batch, heartbeat, item, registry, run, swept_run

LATER = NOW + HOUR


def get(connection: Connection, run_id: str = "run-1") -> Run:
    stored = runs.get(connection, run_id)
    assert stored is not None
    return stored


def test_a_run_s_id_has_its_time_and_is_unique() -> None:
    made = {runs.new_id(NOW) for _ in range(100)}
    assert len(made) == 100
    assert {run_id[:17] for run_id in made} == {"20260101T030000Z-"}


def test_a_record_has_the_facts_of_its_row(store: Store) -> None:
    source = SourceTerms(name="cluster", sha256="ab", max_age=HOUR, allow_empty=False)
    terms = Terms(file_sha256="cd", in_use=(source,), deadline=2 * HOUR, ignore_unreadable=("sha256:1",))
    with store.write() as connection:
        add_run(connection, terms=encode_terms(terms), warnings='[{"code": "a"}]', rule_selected='{"old": 3}')
        stored = get(connection)
        assert runs.get(connection, "run-2") is None
    assert (stored.terms, stored.warnings, stored.rule_selected) == (terms, ({"code": "a"},), {"old": 3})
    assert (stored.opened_at, stored.exceeded, stored.planned, stored.complete) == (NOW, (), 0, None)


def test_allows_one_active_run_a_registry_and_one_run_a_task_or_due_time(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, task_id="task", scheduled_for=NOW, state="pending")
    values = {"registry": "production", "trigger": "task", "mode": "delete", "registry_mode": "delete"}
    values |= {"opened_at": NOW, "policy": "p", "policy_sha256": ""}
    for clash in (
        {"registry_key": KEY, "state": "planning"},
        {"registry_key": KEY, "state": "finished", "scheduled_for": NOW},
        {"registry_key": "another", "state": "pending", "task_id": "task"},
    ):
        with pytest.raises(IntegrityError), store.write() as connection:
            runs.add(connection, {"id": "run-2"} | values | clash)
    with store.write() as connection:
        runs.add(connection, {"id": "run-2", "registry_key": KEY, "state": "blocked"} | values)
        assert [listed_run.id for listed_run in runs.unfinished(connection)] in (["run-1", "run-2"], ["run-2", "run-1"])


def test_finds_a_run_by_its_task_or_due_time_or_as_the_active_one(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, task_id="task", scheduled_for=NOW, state="finished")
        add_run(connection, "run-2", scheduled_for=LATER, state="planned")
        listed_runs = [
            runs.by_task(connection, "task"),
            runs.by_due_time(connection, KEY, NOW),
            runs.by_due_time(connection, KEY, LATER),
            runs.active(connection, KEY),
        ]
        assert [listed_run.id if listed_run else None for listed_run in listed_runs] == [
            "run-1",
            "run-1",
            "run-2",
            "run-2",
        ]
        assert runs.by_task(connection, "another") is None
        assert runs.by_due_time(connection, "another", NOW) is None
        assert runs.active(connection, "another") is None
        assert runs.last_due_time(connection, KEY) == LATER
        assert runs.last_due_time(connection, "another") is None


def test_lists_runs_newest_first_and_unfinished_runs_oldest_first(store: Store) -> None:
    with store.write() as connection:
        for number, state in enumerate(("finished", "blocked", "planned")):
            add_run(connection, f"run-{number}", state=state, opened_at=NOW + number * HOUR, registry_key=str(number))
        add_run(connection, "run-3", state="finished", opened_at=NOW, registry="staging", registry_key="3")
        assert [listed_run.id for listed_run in runs.newest(connection)] == ["run-2", "run-1", "run-3", "run-0"]
        assert [listed_run.id for listed_run in runs.newest(connection, registry="production", limit=2)] == [
            "run-2",
            "run-1",
        ]
        assert [listed_run.id for listed_run in runs.unfinished(connection)] == ["run-1", "run-2"]


def test_changes_a_run_only_from_the_expected_states(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, state="planned", message="before")
        assert not runs.change(connection, "run-1", ["pending", "planning"], state="blocked")
        assert get(connection).state == "planned"
        assert runs.change(connection, "run-1", ["planned"], state="deleting", deleting_at=NOW)
        assert not runs.finish(connection, get(connection), "planned", "succeeded", LATER)
        assert runs.finish(connection, get(connection), "deleting", "partial", LATER)
        assert not runs.finish(connection, get(connection), "deleting", "failed", LATER, "late")
        ended = get(connection)
    assert (ended.state, ended.outcome, ended.finished_at, ended.message) == ("finished", "partial", LATER, "before")


@pytest.mark.parametrize(
    ("state", "stop", "asked"),
    [
        ("planning", None, True), ("deleting", None, True), ("deleting", "deadline", False), ("planned", None, False),
        ("blocked", None, False), ("finished", None, False),
    ],
)  # fmt: skip
def test_the_first_reason_to_stop_stays(store: Store, state: str, stop: str | None, asked: bool) -> None:
    with store.write() as connection:
        add_run(connection, state=state, stop=stop, message="before")
        add_batch(connection, 0, published_at=NOW)
        add_batch(connection, 1, published_at=NOW, done=True)
        assert runs.request_stop(connection, "run-1", "aborted", "after") is asked
        stored = get(connection)
        assert (stored.stop, stored.message) == (("aborted", "after") if asked else (stop, "before"))
        assert column(connection, batch, "published_at") == [None if asked else NOW, NOW]


@pytest.mark.parametrize(
    ("facts", "claimed"),
    [
        ({"state": "pending"}, True),
        ({"state": "planning", "lease_until": NOW - SECOND, "scans": 2}, True),
        ({"state": "planning", "lease_until": NOW}, False),
        ({"state": "pending", "scans": 3}, False),
        ({"state": "planning", "stop": "aborted"}, False),
        ({"state": "planned"}, False),
    ],
    ids=["pending", "its lease ran out", "held", "begun too often", "asked to stop", "past planning"],
)
def test_claims_a_scan_that_is_free_and_was_not_started_too_often(
    store: Store, facts: dict[str, Any], claimed: bool
) -> None:
    with store.write() as connection:
        add_run(connection, **facts)
        listed_claimed = runs.claim_scan(connection, "run-1", owner="me", now=NOW, until=LATER, most=3)
        assert (listed_claimed is not None) is claimed
        if listed_claimed is None:
            assert get(connection).scans == facts.get("scans", 0)
            return
        assert (listed_claimed.state, listed_claimed.started_at, listed_claimed.lease_until) == ("planning", NOW, LATER)
        assert listed_claimed.scans == facts.get("scans", 0) + 1
        lease = runs.scan_lease(listed_claimed)
        assert leases.holds(connection, lease)
        runs.request_stop(connection, "run-1", "aborted", "")
        assert not leases.holds(connection, lease)


def test_a_newer_plan_supersedes_blocked_runs_of_the_same_registry(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, "waits", state="blocked")
        add_run(connection, "other kind", state="blocked", registry_key="another")
        add_run(connection, "renamed", state="blocked", registry="former")
        add_run(connection, "elsewhere", state="blocked", registry="staging", registry_key="elsewhere")
        add_run(connection, "deletes", state="deleting")
        add_run(connection, "newer", state="blocked")
        older = runs.supersede(connection, "production", KEY, "newer", LATER)
        assert sorted(older) == ["other kind", "renamed", "waits"]
        left = [listed_run.id for listed_run in runs.unfinished(connection)]
        gone = get(connection, "waits")
        assert sorted(left) == ["deletes", "elsewhere", "newer"]
    assert (gone.outcome, gone.finished_at, gone.message) == ("blocked", LATER, "superseded by the plan of run newer")


def test_a_run_is_swept_and_finished_once_when_every_batch_is_done(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, lease_until=LATER, owner="me")
        add_batch(connection, 0, done=True)
        add_batch(connection, 1)
        runs.mark_swept(connection, "run-1", NOW)
        assert get(connection).swept_at is None
        assert not runs.finish_swept(connection, "run-1", "succeeded", NOW, None)
        connection.execute(batch.update().values(done=True))
        runs.mark_swept(connection, "run-1", NOW)
        runs.mark_swept(connection, "run-1", LATER)
        assert (get(connection).swept_at, get(connection).lease_until) == (NOW, None)
        assert runs.finish_swept(connection, "run-1", "succeeded", NOW, "well")
        assert not runs.finish_swept(connection, "run-1", "partial", LATER, "late")
        ended = get(connection)
        assert (ended.outcome, ended.finished_at, ended.message) == ("succeeded", NOW, "well")
        assert column(connection, swept_run, "run_id") == ["run-1"]


def test_counts_consecutive_systemic_failures(store: Store) -> None:
    with store.write() as connection:
        add_run(connection)
        assert [runs.count_failure(connection, "run-1") for _ in range(3)] == [1, 2, 3]
        assert runs.count_failure(connection, "run-1", first=True) == 1
        add_item(connection, 0, image(0), refused="no")
        runs.reset_failures(connection, "run-1")
        assert get(connection).systemic_failures == 1  # the cause of the refusal is not known yet
        add_item(connection, 1, image(1), refused="no", state="skipped")
        connection.execute(run.update().values(systemic_failures=4))
        connection.execute(item.update().where(item.c.number == 0).values(state="failed"))
        runs.reset_failures(connection, "run-1")
        assert get(connection).systemic_failures == 0


def test_adds_a_warning_once_and_a_limited_number(store: Store) -> None:
    with store.write() as connection:
        add_run(connection)
        for _ in range(2):
            runs.add_warning(connection, "run-1", "clock", "is off")
        assert get(connection).warnings == ({"code": "clock", "message": "is off"},)
        for number in range(runs.MAX_WARNINGS + 5):
            runs.add_warning(connection, "run-1", "clock", str(number))
        runs.add_warning(connection, "none", "clock", "is off")
        assert len(get(connection).warnings) == runs.MAX_WARNINGS


def test_lists_a_limited_number_of_raced_pushes(store: Store) -> None:
    with store.write() as connection:
        add_run(connection)
        for number in range(runs.MAX_RACED_PUSHES + 2):
            runs.record_raced_push(connection, get(connection), "shop/api", f"sha256:{number}", ("v1", "v2"))
        raced = get(connection).raced_pushes
    assert len(raced) == runs.MAX_RACED_PUSHES
    assert raced[0] == {"repository": "shop/api", "digest": "sha256:0", "tags": ["v1", "v2"]}


def test_a_cron_line_counts_from_when_it_is_known(store: Store) -> None:
    with store.write() as connection:
        assert runs.record_registry(connection, "production", "0 3 * * * UTC", NOW) == NOW
        assert runs.record_registry(connection, "production", "0 3 * * * UTC", LATER) == NOW
        assert runs.record_registry(connection, "production", None, LATER) == LATER
        row = only(connection, registry)
        assert (row["enabled_since"], row["cron_line"], row["cron_line_since"]) == (NOW, None, LATER)
        runs.record_sign_in(connection, "production", works=False)
        runs.accept_vanished(connection, "production", LATER)
        runs.accept_vanished(connection, "elsewhere", NOW)
        row = only(connection, registry)
        assert (row["auth_ok"], row["vanished_accepted_at"]) == (False, LATER)
        runs.record_sign_in(connection, "production", works=True)
        assert only(connection, registry)["auth_ok"] is True


def test_plan_sizes_are_of_runs_that_ended_normally(store: Store) -> None:
    ended: list[tuple[str, str | None, bool]] = [
        ("finished", "succeeded", True), ("finished", "partial", True), ("finished", "failed", True),
        ("finished", "succeeded", False), ("blocked", None, True), ("finished", "succeeded", True),
    ]  # fmt: skip
    with store.write() as connection:
        for number, (state, outcome, planned) in enumerate(ended):
            facts = {"state": state, "outcome": outcome, "planned_at": NOW if planned else None}
            add_run(connection, f"run-{number}", **facts, planned=number, opened_at=NOW + timedelta(hours=number))
        add_run(connection, "other", registry="staging", state="finished", outcome="succeeded", planned_at=NOW)
        assert runs.plan_sizes(connection, "production", 10) == [5, 1, 0]
        assert runs.plan_sizes(connection, "production", 2) == [5, 1]


def test_stores_the_last_heartbeat(store: Store) -> None:
    with store.write() as connection:
        for at in (NOW, LATER):
            runs.record_heartbeat(connection, "beat", at)
        assert connection.execute(select(heartbeat)).all() == [("beat", LATER)]
