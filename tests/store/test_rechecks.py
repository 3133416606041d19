"""Queries of the recheck of one repository: its lease, its result, and the states of its items."""

from datetime import datetime

import pytest

from tests.store.rows import HOUR, NOW, PATH, SECOND, add_batch, add_item, add_repository, add_run, column, only
from tests.support.builders import digest, image
from worker.store import Store, rechecks
from worker.store.tables import batch, repository

FRESH = NOW - 10 * 60 * SECOND


@pytest.mark.parametrize(
    ("rechecked_at", "claimed"),
    [
        pytest.param(None, True, id="never listed"),
        pytest.param(FRESH, True, id="at the limit of the allowed age"),
        pytest.param(FRESH + SECOND, False, id="listed lately"),
        pytest.param(NOW, False, id="listed now"),
        pytest.param(NOW + SECOND, True, id="listed in the future: a clock was set back"),
    ],
)
def test_claims_a_recheck_only_if_the_last_listing_is_too_old(
    store: Store, rechecked_at: datetime | None, claimed: bool
) -> None:
    times = {"now": NOW, "until": NOW + HOUR, "fresh": FRESH}
    with store.write() as connection:
        add_repository(connection, rechecked_at=rechecked_at)
        lease = rechecks.claim(connection, "run-1", PATH, owner="one", **times)
        assert (lease is not None) is claimed
        assert rechecks.claim(connection, "run-1", PATH, owner="another", **times) is None
        assert rechecks.claim(connection, "run-1", "elsewhere", owner="one", **times) is None
        assert rechecks.rechecked_at(connection, "run-1", PATH) == rechecked_at
        assert rechecks.rechecked_at(connection, "run-1", "elsewhere") is None


@pytest.mark.parametrize("refusal", [None, "an image is gone"])
def test_a_recorded_recheck_lets_its_batches_be_published(store: Store, refusal: str | None) -> None:
    with store.write() as connection:
        add_run(connection)
        add_repository(connection)
        add_batch(connection, 0, published_at=NOW)
        add_batch(connection, 1, published_at=NOW)
        add_batch(connection, 2, published_at=NOW, lease_until=NOW + HOUR)
        add_batch(connection, 3, published_at=NOW, repository="elsewhere")
        add_item(connection, 0, image(0))
        add_item(connection, 1, image(1), batch=1, state="skipped")
        rechecks.record(connection, "run-1", PATH, NOW - SECOND, NOW, refusal)
        row = only(connection, repository)
        assert (row["rechecked_at"], row["refusal"]) == (NOW - SECOND, refusal)
        assert column(connection, batch, "published_at") == [None, None, NOW, NOW]
        assert column(connection, batch, "done") == [False, True, False, False]


def test_lists_digests_by_the_state_of_their_items(store: Store) -> None:
    states = ("planned", "intent", "accepted", "deleted", "gone", "skipped", "failed")
    with store.write() as connection:
        add_run(connection)
        for number, state in enumerate(states):
            add_item(connection, number, image(state, state), state=state)
        add_item(connection, 90, image("elsewhere"), state="deleted", repository="elsewhere")
        begun = rechecks.digests_in_states(connection, "run-1", PATH, ("intent", "accepted"))
        names = rechecks.names_to_delete(connection, "run-1", PATH)
        asked = [digest(name) for name in (*states, "elsewhere")]
        gone = rechecks.deleted_digests(connection, "run-1", PATH, asked)
        deleted_now = rechecks.deleted_digests(connection, "run-1", PATH, [digest("gone"), digest("planned")])
    assert begun == {digest("intent"), digest("accepted")}
    assert names == {name for state in states[:5] for name in (digest(state), state)}
    assert (gone, deleted_now) == ({digest("deleted"), digest("gone")}, {digest("gone")})


def test_lists_open_items_in_portions(store: Store) -> None:
    most = rechecks.ITEMS_PER_TRANSACTION
    with store.write() as connection:
        add_run(connection)
        add_batch(connection, 0, lease_until=NOW)
        add_batch(connection, 1, lease_until=NOW - SECOND)
        for number in range(most + 2):
            add_item(connection, number, image(number), batch=number % 2, state="intent" if number else "deleted")
        first = rechecks.open_items(connection, "run-1", PATH, NOW)
        rest = rechecks.open_items(connection, "run-1", PATH, NOW, after=first[-1].item.number)
        named = rechecks.open_items(connection, "run-1", PATH, NOW, digests=[digest(0), digest(7)])
    assert [open_item.item.number for open_item in first] == list(range(1, most + 1))
    assert [open_item.item.number for open_item in rest] == [most + 1]
    assert [open_item.item.number for open_item in named] == [7]
    assert {open_item.item.number: open_item.held for open_item in first[:3]} == {1: False, 2: True, 3: False}
