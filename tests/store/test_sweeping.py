"""Queries of a sweep: leases and waves of batches, intents, and outcomes, of which the first counts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.store import rows
from tests.store.rows import NOW, SECOND
from tests.support.builders import image
from tests.support.harness import MakeHarness
from tests.support.simulator.client import Simulator
from worker.runs import lifecycle
from worker.store import Store, sweeping
from worker.store.sweeping import Outcome
from worker.store.tables import audit, batch, run, tally

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def test_claims_batches_by_wave_and_fences_lost_leases(simulator: Simulator, make_harness: MakeHarness) -> None:
    child = simulator.push("shop/api", age=30 * DAY)
    simulator.push_index("shop/api", [child["digest"]], tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, _ = harness.plan_and_recheck()

    def claim(number: int) -> sweeping.Claim | None:
        with harness.store.write() as connection:
            now = harness.store.now(connection)
            return sweeping.claim(connection, run_id, number, owner="x", now=now, until=now + HOUR)

    assert claim(1) is None  # the second wave, before the first is done
    held = claim(0)
    assert held is not None
    assert claim(0) is None
    with harness.store.write() as connection:
        connection.execute(update(batch).values(fence=batch.c.fence + 1))
        sweeping.release(connection, held, None)
        with pytest.raises(sweeping.LeaseLostError):
            sweeping.renew(connection, held, datetime.now(UTC), datetime.now(UTC) + HOUR)
    assert claim(0) is None  # a lost lease is not given back


def test_publishes_a_limited_number_of_batches_at_once(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(sweeping.MAX_PUBLISHED + 5):
        simulator.push(f"shop/api{number}", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, task_calls = harness.plan()

    assert len(task_calls) == sweeping.MAX_PUBLISHED
    assert lifecycle.next_task_calls(harness.store, run_id, datetime.now(UTC)) == ()
    harness.carry_out(task_calls)
    assert harness.run(run_id).deleted == sweeping.MAX_PUBLISHED + 5


def test_audit_bytes_add_up_to_the_run_s(simulator: Simulator, make_harness: MakeHarness) -> None:
    for number in range(4):
        simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=["base:9000", number + 1])
    harness = make_harness()
    finished = harness.sweep()
    with harness.store.read() as connection:
        rows, freed = connection.execute(select(func.count(), func.sum(audit.c.reclaimed_bytes))).one()
    assert (rows, freed) == (4, finished.reclaimed_bytes)
    assert finished.reclaimed_bytes == simulator.state()["lost_bytes"]


def test_only_the_first_outcome_of_an_item_is_recorded(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    finished = harness.sweep()
    with harness.store.write() as connection:
        row = connection.execute(select(*sweeping.ITEM_COLUMNS)).one()
        now = datetime.now(UTC)
        late = sweeping.item_of(row), sweeping.Outcome("failed", "other", "late")
        assert sweeping.record_outcomes(connection, finished.id, [late], now) == []
    after = harness.run(finished.id)
    assert (after.deleted, after.failed, after.reclaimed_bytes) == (1, 0, finished.reclaimed_bytes)


def test_withdrawing_an_intent_restores_the_claimed_item(simulator: Simulator, make_harness: MakeHarness) -> None:
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    harness = make_harness()
    run_id, _ = harness.plan_and_recheck()
    now = datetime.now(UTC)
    with harness.store.write() as connection:
        (planned,) = sweeping.unfinished_items(connection, run_id, 0)
        sweeping.record_intents(connection, [(planned, "a key")], now)
        (begun,) = sweeping.unfinished_items(connection, run_id, 0)
        assert (begun.state, begun.idempotency_key, begun.attempts, begun.intent_at) == ("intent", "a key", 1, now)
        sweeping.record_intents(connection, [(begun, "a key")], now + HOUR)
        sweeping.withdraw_intents(connection, [begun])
        assert sweeping.unfinished_items(connection, run_id, 0) == [begun]  # still an intent, so its outcome is unknown
        sweeping.withdraw_intents(connection, [planned])
        assert sweeping.unfinished_items(connection, run_id, 0) == [planned]


def test_a_repository_without_a_recheck_does_not_delay_others(simulator: Simulator, make_harness: MakeHarness) -> None:
    harness = make_harness()
    now = datetime.now(UTC)
    first = [sweeping.ReadyBatch(number, "shop/api", None) for number in range(50)]
    others = [
        sweeping.ReadyBatch(50, "shop/web", None),
        *(sweeping.ReadyBatch(51 + offset, "shop/cart", now) for offset in range(40)),
    ]
    chosen = sweeping.choose_fairly([*first, *others], sweeping.MAX_PUBLISHED, now - HOUR)
    assert [ready_batch.batch for ready_batch in chosen] == [0, 50, *range(51, 51 + sweeping.MAX_PUBLISHED - 2)]
    assert harness.store is not None


@pytest.mark.parametrize(
    ("outcome", "healthy"),
    [
        (Outcome("deleted"), True), (Outcome("gone"), True), (Outcome("skipped", "changed"), True),
        (Outcome("skipped", "locked"), True), (Outcome("skipped", "used_by_image_lists"), True),
        (Outcome("skipped", "held"), False), (Outcome("failed", "other"), False),
    ],
)  # fmt: skip
def test_knows_the_outcomes_that_show_a_working_registry(outcome: Outcome, healthy: bool) -> None:
    assert outcome.shows_health is healthy


def ready_batches(store: Store) -> list[int]:
    """Batches of run-1 that are published now; a batch published in the last hour is not published again."""
    with store.write() as connection:
        taken = sweeping.mark_published(connection, "run-1", NOW, NOW - HOUR, NOW - HOUR)
    return [ready_batch.batch for ready_batch in taken]


@pytest.mark.parametrize(
    ("batches", "published"),
    [
        pytest.param([{}, {"done": True}, {}], [0, 2], id="a done batch is not published"),
        pytest.param(
            [{"lease_until": NOW}, {"lease_until": NOW - SECOND}], [1], id="a batch with a holder is not published"
        ),
        pytest.param(
            [{"published_at": NOW - HOUR}, {"published_at": NOW - HOUR + SECOND}],
            [0],
            id="a recently published batch is not published",
        ),
        pytest.param(
            [{}, {"wave": 1}, {"wave": 1, "repository": "elsewhere"}],
            [0, 2],
            id="a batch of a later wave is not published",
        ),
        pytest.param([{"done": True}, {"wave": 1}], [1], id="a wave whose turn has come"),
        pytest.param([{"published_at": NOW - 2 * HOUR}, {}], [1, 0], id="batches that were never published come first"),
    ],
)
def test_publishes_batches_in_their_turn(store: Store, batches: list[dict[str, Any]], published: list[int]) -> None:
    with store.write() as connection:
        rows.add_run(connection)
        for path in ("shop/api", "elsewhere"):
            rows.add_repository(connection, path, rechecked_at=NOW)
        for number, facts in enumerate(batches):
            rows.add_batch(connection, number, **facts)
    assert ready_batches(store) == published
    assert ready_batches(store) == []  # they are out now


@pytest.mark.parametrize(
    ("run_facts", "facts", "takeovers"),
    [
        pytest.param({}, {}, 0, id="free"),
        pytest.param({}, {"lease_until": NOW - SECOND, "takeovers": 2}, 3, id="its lease ran out"),
        pytest.param({}, {"lease_until": NOW}, None, id="held"),
        pytest.param({}, {"done": True}, None, id="done"),
        pytest.param({}, {"wave": 1}, None, id="its turn has not come"),
        pytest.param({"state": "blocked"}, {}, None, id="its run does not delete"),
    ],
)
def test_claims_a_batch_that_is_free_and_in_its_turn(
    store: Store, run_facts: dict[str, Any], facts: dict[str, Any], takeovers: int | None
) -> None:
    with store.write() as connection:
        rows.add_run(connection, **run_facts)
        rows.add_batch(connection, 0)
        rows.add_batch(connection, 1, **facts)
        held = sweeping.claim(connection, "run-1", 1, owner="me", now=NOW, until=NOW + HOUR)
        assert (held.takeovers if held else None) == takeovers
        assert sweeping.count_held_batches(connection, "run-1", NOW) == int(
            held is not None or facts.get("lease_until") == NOW
        )


@pytest.mark.parametrize(
    ("states", "done"),
    [(["deleted", "skipped"], True), (["deleted", "planned"], False), (["intent"], False), (["accepted"], False)],
)
def test_a_released_batch_is_done_if_no_item_is_unfinished(store: Store, states: list[str], done: bool) -> None:
    with store.write() as connection:
        rows.add_run(connection)
        rows.add_batch(connection)
        for number, state in enumerate(states):
            rows.add_item(connection, number, image(number), state=state)
        held = sweeping.claim(connection, "run-1", 0, owner="me", now=NOW, until=NOW + HOUR)
        assert held is not None
        sweeping.release(connection, held, NOW)
        row = rows.only(connection, batch)
        assert (row["done"], row["owner"], row["lease_until"], row["published_at"]) == (done, None, None, NOW)
        assert sweeping.has_open_batches(connection, "run-1") is not done
        sweeping.mark_unpublished(connection, "run-1", NOW)
        assert rows.only(connection, batch)["published_at"] == (NOW if done else None)


def test_records_an_accepted_deletion_only_after_its_intent(store: Store) -> None:
    with store.write() as connection:
        intended, planned = (
            rows.add_item(connection, number, image(number), state=state)
            for number, state in enumerate(("intent", "planned"))
        )
        sweeping.record_accepted(connection, [(intended, "op1"), (planned, "op2")], NOW)
        sweeping.record_accepted(connection, [], NOW)
        stored_items = [rows.get_item(connection, number) for number in (0, 1)]
    assert [(stored.state, stored.operation_id) for stored in stored_items] == [("accepted", "op1"), ("planned", None)]


def test_reports_a_stop_reason_to_the_holder_of_the_batch(store: Store) -> None:
    with store.write() as connection:
        items = [rows.add_item(connection, number, image(number)) for number in range(3)]
        rows.add_item(connection, 3, image(3), state="deleted")
        sweeping.record_stop_reason(connection, items[1], "something needs it")
        assert sweeping.items_in_states(connection, "run-1", [0, 1, 3]) == {0: None, 1: "something needs it"}
        assert sweeping.items_in_states(connection, "run-1", [0, 1], ["intent"]) == {}


def test_counts_audits_and_tallies_outcomes_once(store: Store) -> None:
    outcomes = [
        Outcome("deleted"), Outcome("gone"), Outcome("skipped", "locked", "by a rule"), Outcome("failed", None, "no"),
        Outcome("skipped", "locked"),
    ]  # fmt: skip
    with store.write() as connection:
        rows.add_run(connection, systemic_failures=4)
        items = [rows.add_item(connection, number, image(number), state="intent") for number in range(len(outcomes))]
        pairs = list(zip(items, outcomes, strict=True))
        late = (items[0], Outcome("failed", "other"))
        assert len(sweeping.record_outcomes(connection, "run-1", [*pairs, late], NOW)) == len(outcomes)
        assert sweeping.record_outcomes(connection, "run-1", pairs, NOW) == []
        assert sweeping.record_outcomes(connection, "run-1", [], NOW) == []
        row = rows.only(connection, run)
        assert [row[name] for name in ("deleted", "gone", "skipped", "failed", "systemic_failures")] == [1, 1, 2, 1, 0]
        assert rows.column(connection, audit, "outcome") == ["deleted", "gone"]
        tallied = connection.execute(select(tally.c.name, tally.c.label, tally.c.value).order_by(tally.c.name)).all()
    assert tallied == [("failed", "other", 1), ("skipped", "locked", 2)]


@pytest.mark.parametrize(
    ("outcome", "answers", "left"),
    [
        (Outcome("deleted"), None, 0), (Outcome("failed", "other"), None, 4), (Outcome("deleted"), False, 4),
        (Outcome("failed", "other"), True, 0),
    ],
    ids=["it answers", "a failure", "but has failed since", "but has answered otherwise"],
)  # fmt: skip
def test_a_series_of_failures_ends_when_the_registry_works(
    store: Store, outcome: Outcome, answers: bool | None, left: int
) -> None:
    with store.write() as connection:
        rows.add_run(connection, systemic_failures=4)
        added_item = rows.add_item(connection, 0, image(0), state="intent")
        sweeping.record_outcomes(connection, "run-1", [(added_item, outcome)], NOW, answers=answers)
        assert rows.only(connection, run)["systemic_failures"] == left


@pytest.mark.parametrize(
    ("more", "done"),
    [
        pytest.param({}, [True, False, False, False, True], id="without unfinished items"),
        pytest.param(
            {"states": ("intent", "accepted")}, [True, True, False, False, True], id="with known outcomes only"
        ),
        pytest.param({"path": "elsewhere"}, [False, False, False, False, True], id="of one repository"),
    ],
)
def test_finishes_free_batches_without_unfinished_items(store: Store, more: dict[str, Any], done: list[bool]) -> None:
    states: list[tuple[str, dict[str, Any]]] = [
        ("failed", {"lease_until": NOW - SECOND}), ("planned", {}), ("skipped", {"lease_until": NOW}), ("intent", {}),
        ("deleted", {"repository": "elsewhere"}),
    ]  # fmt: skip
    with store.write() as connection:
        rows.add_run(connection)
        for number, (state, facts) in enumerate(states):
            rows.add_batch(connection, number, **facts)
            rows.add_item(connection, number, image(number), batch=number, state=state)
        sweeping.finish_batches(connection, "run-1", NOW, **more)
        assert rows.column(connection, batch, "done") == done
