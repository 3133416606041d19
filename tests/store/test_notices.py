"""Notifications and `after_run`: which are due for a run, and their progress."""

from typing import Any

import pytest

from tests.store.rows import HOUR, NOW, SECOND, add_run, only
from worker.store import Store, notices
from worker.store.notices import Notice
from worker.store.tables import run

ENDED = {"state": "finished", "outcome": "failed", "finished_at": NOW}
NOTICE = Notice(run_id="run-1", registry="production", event="failed", since=NOW)


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        pytest.param(ENDED, "failed", id="finished"),
        pytest.param({"state": "blocked", "planned_at": NOW}, "blocked", id="blocked"),
        pytest.param(ENDED | {"notified": "blocked"}, "failed", id="the run ended after a notice that it is blocked"),
        pytest.param(ENDED | {"notified": "failed"}, None, id="sent already"),
        pytest.param({"state": "deleting"}, None, id="the run is deleting"),
        pytest.param({"state": "planned", "planned_at": NOW}, None, id="planned"),
    ],
)
def test_only_an_unsent_outcome_or_a_blocked_run_is_a_notice(
    store: Store, facts: dict[str, Any], word: str | None
) -> None:
    wanted = None if word is None else Notice(run_id="run-1", registry="production", event=word, since=NOW)
    with store.write() as connection:
        add_run(connection, **facts)
        assert notices.get(connection, "run-1") == wanted
        assert notices.unsent(connection) == ([] if wanted is None else [wanted])
        assert notices.get(connection, "run-2") is None


def test_records_the_progress_of_a_notice_until_it_is_sent(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, **ENDED)
        notices.record_attempt(connection, NOTICE, tries=2, after=NOW + HOUR, notified=[3, 1])
        again = Notice(
            run_id="run-1", registry="production", event="failed", since=NOW, tries=2, after=NOW + HOUR,
            notified=frozenset({1, 3}),
        )  # fmt: skip
        assert notices.get(connection, "run-1") == again
        notices.mark_notified(connection, NOTICE)
        assert notices.get(connection, "run-1") is None
        assert (only(connection, run)["notified"], only(connection, run)["notifying"]) == ("failed", None)


def test_a_new_event_of_a_run_is_a_new_notice(store: Store) -> None:
    waits = Notice(run_id="run-1", registry="production", event="blocked", since=NOW)
    with store.write() as connection:
        add_run(connection, state="blocked", planned_at=NOW)
        notices.record_attempt(connection, waits, tries=4, after=NOW + HOUR, notified=[0])
        connection.execute(run.update().values(ENDED))
        assert notices.get(connection, "run-1") == NOTICE
        notices.mark_notified(connection, waits)  # by who was telling the former word
        assert notices.get(connection, "run-1") == NOTICE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"word": "failed"}'])
def test_a_notice_with_unreadable_progress_starts_again(store: Store, text: str) -> None:
    with store.write() as connection:
        add_run(connection, **ENDED, notifying=text)
        assert notices.get(connection, "run-1") == NOTICE


def test_lists_the_least_tried_notices_first_then_the_oldest(store: Store) -> None:
    with store.write() as connection:
        for number, tries in enumerate((1, 0, 0)):
            add_run(connection, f"run-{number}", **ENDED | {"finished_at": NOW - number * HOUR})
            notice = notices.get(connection, f"run-{number}")
            assert notice is not None
            if tries:
                notices.record_attempt(connection, notice, tries=tries, after=NOW, notified=())
        assert [listed_notice.run_id for listed_notice in notices.unsent(connection)] == ["run-2", "run-1", "run-0"]


def test_after_run_of_a_run_with_deletions_is_due_until_it_is_done(store: Store) -> None:
    with store.write() as connection:
        add_run(connection, **ENDED, deleted=1)
        assert notices.due_after_runs(connection, NOW) == ["run-1"]
        assert notices.claim_after_run(connection, "run-1", now=NOW, again=NOW + HOUR) == 1
        assert notices.claim_after_run(connection, "run-1", now=NOW, again=NOW + HOUR) is None
        assert notices.due_after_runs(connection, NOW + HOUR - SECOND) == []
        assert notices.due_after_runs(connection, NOW + HOUR) == ["run-1"]
        assert notices.claim_after_run(connection, "run-1", now=NOW + HOUR, again=NOW + 2 * HOUR) == 2
        notices.finish_after_run(connection, "run-1")
        assert notices.due_after_runs(connection, NOW + 9 * HOUR) == []
        assert notices.claim_after_run(connection, "run-1", now=NOW + 9 * HOUR, again=NOW) is None


@pytest.mark.parametrize(
    ("facts", "followed"),
    [
        pytest.param({}, True, id="wanted"),
        pytest.param({"finished_at": NOW - HOUR}, True, id="as old as is wanted"),
        pytest.param({"finished_at": NOW - HOUR - SECOND}, False, id="too old"),
        pytest.param({"deleted": 0}, False, id="no deletion"),
        pytest.param({"registry": "staging"}, False, id="of a registry without after_run"),
        pytest.param({"state": "deleting", "outcome": None, "finished_at": None}, False, id="the run is deleting"),
    ],
)
def test_skips_after_run_of_unwanted_runs(store: Store, facts: dict[str, Any], followed: bool) -> None:
    with store.write() as connection:
        add_run(connection, **ENDED | {"deleted": 1} | facts)
        notices.skip_after_runs(connection, ["production"], NOW - HOUR)
        assert notices.due_after_runs(connection, NOW) == (["run-1"] if followed else [])
        dropped = only(connection, run)["after_run_done"]
    assert dropped is (not followed and facts.get("state") != "deleting")


def test_after_runs_are_due_in_the_order_of_the_runs_ends(store: Store) -> None:
    with store.write() as connection:
        for number in (1, 0, 2):
            add_run(connection, f"run-{number}", **ENDED | {"deleted": 1, "finished_at": NOW + number * SECOND})
        assert notices.due_after_runs(connection, NOW) == ["run-0", "run-1", "run-2"]
