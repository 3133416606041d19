"""Deletions that were refused as not permitted are deferred until the cause of the refusal is known."""

from typing import Any

import pytest

from tests.store.rows import HOUR, NOW, PATH, add_batch, add_item, add_run, get_item
from tests.support.builders import image
from worker.store import Store, refusals, runs
from worker.store.tables import batch


@pytest.mark.parametrize("hint", [True, False])
def test_a_deferred_item_is_planned_again(store: Store, hint: bool) -> None:
    with store.write() as connection:
        intended = add_item(connection, 0, image(0), state="intent", idempotency_key="key", operation_id="op1")
        done = add_item(connection, 1, image(1), state="deleted", idempotency_key="key")
        for refused in (intended, done):
            refusals.defer(connection, refused, "denied", hint=hint)
        stored_item = get_item(connection, 0)
        assert (stored_item.state, stored_item.idempotency_key, stored_item.operation_id) == ("planned", None, None)
        assert (stored_item.refused, stored_item.refused_hint) == ("denied", hint)
        assert get_item(connection, 1) == done
        assert refusals.deferred_items(connection, "run-1") == [stored_item]
        assert refusals.deferred_items(connection, "run-2") == []


def test_counts_deletions_and_refusals_by_repository(store: Store) -> None:
    rows: list[tuple[str, str, str | None]] = [
        ("a", "planned", "denied"), ("a", "planned", "denied"), ("a", "failed", "denied"), ("a", "skipped", "denied"),
        ("b", "planned", "denied"), ("b", "planned", None), ("c", "deleted", None), ("d", "intent", None),
        ("e", "accepted", None), ("f", "skipped", None),
    ]  # fmt: skip
    with store.write() as connection:
        add_run(connection)
        for number, (path, state, refused) in enumerate(rows):
            add_batch(connection, number, repository=path)
            add_item(connection, number, image(number), batch=number, repository=path, state=state, refused=refused)
        assert refusals.repositories_to_try(connection, "run-1") == {"b", "d", "e"}
        assert refusals.repositories_with_deletions(connection, "run-1") == {"c"}
        assert refusals.refusals_by_repository(connection, "run-1") == {"a": 3, "b": 1}
        assert [refusals.has_failed_refusal(connection, "run-1", path) for path in "abf"] == [True, False, False]


def test_an_item_of_a_later_wave_gives_no_repository_to_try(store: Store) -> None:
    with store.write() as connection:
        add_run(connection)
        add_batch(connection, 0)
        add_batch(connection, 1, wave=1)
        add_item(connection, 0, image(0), refused="denied")
        add_item(connection, 1, image(1), batch=1)
        assert refusals.repositories_to_try(connection, "run-1") == frozenset()
        connection.execute(batch.update().where(batch.c.number == 0).values(done=True))
        assert refusals.repositories_to_try(connection, "run-1") == {PATH}


@pytest.mark.parametrize(
    ("earlier", "skipped", "locked"),
    [
        pytest.param({}, {}, True, id="by the run before"),
        pytest.param({}, {"outcome_cause": "changed"}, False, id="for another cause"),
        pytest.param({}, {"repository": "elsewhere"}, False, id="in another repository"),
        pytest.param({"mode": "dry-run"}, {}, False, id="a dry run does not count"),
        pytest.param({"state": "blocked"}, {}, False, id="a waiting run does not count"),
        pytest.param({"registry_key": "another"}, {}, False, id="another registry"),
        pytest.param({"planned": 0}, {}, False, id="a run that planned nothing"),
        pytest.param({"opened_at": NOW - 3 * HOUR}, {}, False, id="not the last run"),
    ],
)
def test_knows_whether_the_last_run_found_an_image_locked(
    store: Store, earlier: dict[str, Any], skipped: dict[str, Any], locked: bool
) -> None:
    ended = {"state": "finished", "planned": 1, "opened_at": NOW - HOUR}
    with store.write() as connection:
        add_run(connection, "between", **ended | {"opened_at": NOW - 2 * HOUR})
        add_run(connection, "before", **ended | earlier)
        state = {"state": "skipped", "outcome_cause": "locked"}
        add_item(connection, 0, image(0), run_id="before", **state | skipped)
        add_run(connection)
        mine = add_item(connection, 0, image(0))
        current = runs.get(connection, "run-1")
        assert current is not None
        assert refusals.was_locked(connection, current, mine) is locked
