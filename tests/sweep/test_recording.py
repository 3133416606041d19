"""Outcomes of a batch's images: collected, recorded once in one transaction, and logged with their facts."""

import logging
from typing import Any

import pytest

from tests.store import rows
from tests.store.rows import HOUR
from tests.support.builders import digest, image
from worker.registries.interface import Deletion
from worker.store import Store, leases, runs, sweeping
from worker.store.sweeping import LeaseLostError, Outcome
from worker.store.tables import batch, item, run
from worker.sweep.recording import Attempt, OutcomeRecorder, log_settled

DELETED, LOCKED, FAILED = (
    Outcome("deleted"),
    Outcome("skipped", "locked", "by a rule"),
    Outcome("failed", "other", "no"),
)


@pytest.fixture
def recorder(store: Store) -> OutcomeRecorder:
    """The recorder of a claimed batch with three intended items."""
    with store.write() as connection:
        rows.add_run(connection, systemic_failures=2)
        rows.add_batch(connection)
        for number in range(3):
            rows.add_item(connection, number, image(number, "pr"), state="intent", attempts=1)
        now = store.now(connection)
        claim = sweeping.claim(connection, "run-1", 0, owner="me", now=now, until=now + HOUR)
        current = runs.get(connection, "run-1")
    assert claim is not None
    assert current is not None
    return OutcomeRecorder(store, current, claim, HOUR)


def attempts(recorder: OutcomeRecorder) -> list[Attempt]:
    with recorder.store.read() as connection:
        return [Attempt(rows.get_item(connection, number)) for number in range(3)]


def states(recorder: OutcomeRecorder) -> list[str]:
    with recorder.store.read() as connection:
        return rows.column(connection, item, "state")


def lose(recorder: OutcomeRecorder) -> None:
    """Another worker takes the batch over."""
    with recorder.store.write() as connection:
        connection.execute(batch.update().values(fence=batch.c.fence + 1))


def test_records_accepted_unsent_and_deleted_images_in_one_transaction(
    recorder: OutcomeRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    done, accepted, unsent = attempts(recorder)
    done.deletion, accepted.deletion = Deletion("op1", done=True), Deletion("op2", done=False)
    done.unsent = accepted.unsent = False
    recorder.add(done.item, DELETED)
    unsent.item = as_claimed(unsent, state="planned", attempts=0)
    recorder.record([done, accepted, unsent])
    assert states(recorder) == ["deleted", "accepted", "planned"]
    assert (accepted.is_unfinished, done.is_unfinished, unsent.is_unfinished) == (True, False, False)
    with recorder.store.read() as connection:
        row = rows.only(connection, run)
        assert (row["deleted"], row["systemic_failures"]) == (1, 0)
    (record,) = [record for record in caplog.records if record.getMessage().startswith("image_")]
    assert (record.getMessage(), record.__dict__["operation"]) == ("image_deleted", "op1")


def as_claimed(attempt: Attempt, **facts: Any) -> sweeping.Item:
    """An item as it was when its batch was claimed."""
    values = {name: getattr(attempt.item, name) for name in attempt.item.__dataclass_fields__}
    return sweeping.Item(**values | facts)


def test_records_each_outcome_once(recorder: OutcomeRecorder) -> None:
    recorder.record_all([attempt.item for attempt in attempts(recorder)], LOCKED)
    recorder.record()
    recorder.record_all([attempts(recorder)[0].item], FAILED)
    assert states(recorder) == ["skipped"] * 3
    with recorder.store.read() as connection:
        row = rows.only(connection, run)
        assert (row["skipped"], row["failed"]) == (3, 0)


def test_without_the_lease_only_accepted_and_done_deletions_are_recorded(recorder: OutcomeRecorder) -> None:
    done, accepted, skipped = attempts(recorder)
    done.unsent = accepted.unsent = False
    done.deletion, accepted.deletion = Deletion("", done=True), Deletion("op2", done=False)
    recorder.add(done.item, DELETED)
    recorder.add(skipped.item, LOCKED)
    lose(recorder)
    with pytest.raises(LeaseLostError):
        recorder.record([done, accepted, skipped])
    assert states(recorder) == ["deleted", "accepted", "intent"]


def test_recording_renews_the_lease(recorder: OutcomeRecorder) -> None:
    with recorder.store.write() as connection:
        connection.execute(batch.update().values(lease_until=recorder.store.now(connection) + HOUR / 60))
        before = rows.only(connection, batch)["lease_until"]
    recorder.record()  # nothing to record: nothing is asked of the store
    with recorder.store.read() as connection:
        assert rows.only(connection, batch)["lease_until"] == before
    recorder.record_all([attempts(recorder)[0].item], LOCKED)
    with recorder.store.read() as connection:
        assert rows.only(connection, batch)["lease_until"] > before
        assert leases.holds(connection, recorder.claim.lease, lock=False)


@pytest.mark.parametrize(
    ("outcomes", "healthy"),
    [([], False), ([FAILED], False), ([LOCKED], True), ([DELETED, FAILED], True)],
    ids=["nothing yet", "a failure", "a refusal that is an answer", "an answer before the failure"],
)
def test_knows_whether_the_registry_answered_since_the_last_failure(
    recorder: OutcomeRecorder, outcomes: list[Outcome], healthy: bool
) -> None:
    for attempt, outcome in zip(attempts(recorder), outcomes, strict=False):
        recorder.add(attempt.item, outcome)
    assert recorder.end_healthy_period() is healthy
    assert recorder.end_healthy_period() is False


def test_an_attempt_is_reset_in_another_chunk(recorder: OutcomeRecorder) -> None:
    attempt = attempts(recorder)[0]
    attempt.must_reread, attempt.deletable, attempt.idempotency_key, attempt.unsent = True, True, "key", False
    attempt.reset()
    assert (attempt.must_reread, attempt.deletable, attempt.idempotency_key, attempt.unsent, attempt.deletion) == (
        False,
        False,
        "",
        True,
        None,
    )
    attempt.item = as_claimed(attempt, state="accepted", operation_id="op1")
    attempt.reset()
    assert attempt.deletion == Deletion("op1", done=False, target=("shop/api", attempt.item.image))
    assert attempt.is_unfinished


@pytest.mark.parametrize(
    ("outcome", "level"),
    [(DELETED, "INFO"), (LOCKED, "INFO"), (FAILED, "WARNING")],
    ids=["deleted", "skipped", "failed"],
)
def test_logs_an_outcome_as_one_event_with_its_facts(
    recorder: OutcomeRecorder, outcome: Outcome, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log_settled("production", [(attempts(recorder)[1].item, outcome)], {1: "op7"})
    (record,) = caplog.records
    facts = record.__dict__
    assert (record.getMessage(), record.levelname) == (f"image_{outcome.state}", level)
    assert (facts["run"], facts["registry"], facts["repository"]) == ("run-1", "production", "shop/api")
    assert (facts["digest"], facts["tags"], facts["operation"]) == (digest(1), ("pr",), "op7")
    assert (facts["cause"], facts["reason"], facts["bytes"]) == (outcome.cause, outcome.message, 100)
