"""Leases: one holder at a time, a rising fence, and no changes by a former holder."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Table, delete, insert, select

from worker.store import Store, leases
from worker.store.leases import Lease
from worker.store.tables import batch, repository, run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUN = {
    "registry": "r", "registry_key": "r", "trigger": "command", "mode": "delete", "registry_mode": "delete",
    "state": "deleting", "opened_at": NOW, "policy": "p", "policy_sha256": "",
}  # fmt: skip
ROWS: list[tuple[Table, dict[str, str | int], dict[str, object]]] = [
    (run, {"id": "a"}, RUN),
    (batch, {"run_id": "a", "number": 1}, {"repository": "shop/api", "wave": 0}),
    (repository, {"run_id": "a", "path": "shop/api"}, {"inventory": "", "decisions": b""}),
]


@pytest.fixture
def store(module_store: Store) -> Store:
    return module_store


@pytest.fixture(params=ROWS, ids=lambda row: row[0].name)
def row(request: pytest.FixtureRequest, store: Store) -> tuple[Table, dict[str, str | int]]:
    """A row that has no holder."""
    table, key, values = request.param
    with store.write() as connection:
        connection.execute(delete(table))
        connection.execute(insert(table).values(key | values))
    return table, key


def claim(store: Store, row: tuple[Table, dict[str, str | int]], now: datetime, owner: str = "me") -> int | None:
    with store.write() as connection:
        return leases.claim(connection, *row, owner=owner, now=now, until=now + HOUR)


def renew(store: Store, lease: Lease, now: datetime) -> bool:
    with store.write() as connection:
        return leases.renew(connection, lease, now, now + HOUR)


def test_a_row_has_one_holder_until_its_lease_expires(store: Store, row: tuple[Table, dict[str, str | int]]) -> None:
    assert [claim(store, row, NOW), claim(store, row, NOW), claim(store, row, NOW + HOUR)] == [1, None, None]
    assert claim(store, row, NOW + HOUR + timedelta(seconds=1)) == 2


def test_a_lost_lease_changes_nothing(store: Store, row: tuple[Table, dict[str, str | int]]) -> None:
    table, _ = row
    first = Lease(*row, claim(store, row, NOW) or 0)
    second = Lease(*row, claim(store, row, NOW + 2 * HOUR, "another") or 0)
    with store.write() as connection:
        assert [leases.holds(connection, lease) for lease in (first, second)] == [False, True]
        assert not leases.release(connection, first)
    assert not renew(store, first, NOW + 2 * HOUR)
    with store.read() as connection:
        assert connection.execute(select(table.c.owner, table.c.lease_until)).one() == ("another", NOW + 3 * HOUR)


def test_a_renewed_lease_lasts_longer(store: Store, row: tuple[Table, dict[str, str | int]]) -> None:
    lease = Lease(*row, claim(store, row, NOW) or 0)
    assert renew(store, lease, NOW + HOUR / 2)
    assert claim(store, row, NOW + 1.4 * HOUR) is None


@pytest.mark.parametrize("strict", [False, True])
def test_renews_an_expired_lease_unless_it_is_strict(
    store: Store, row: tuple[Table, dict[str, str | int]], strict: bool
) -> None:
    lease = Lease(*row, claim(store, row, NOW) or 0, strict=strict)
    assert renew(store, lease, NOW + 2 * HOUR) is not strict


def test_a_released_row_is_free_at_once(store: Store, row: tuple[Table, dict[str, str | int]]) -> None:
    lease = Lease(*row, claim(store, row, NOW) or 0)
    with store.write() as connection:
        assert leases.release(connection, lease)
    assert claim(store, row, NOW) == 2


def test_a_lease_is_lost_when_its_condition_fails(store: Store) -> None:
    table, key, values = ROWS[0]
    with store.write() as connection:
        connection.execute(delete(table))
        connection.execute(insert(table).values(key | values))
    fence = claim(store, (table, key), NOW) or 0
    while_deleting, while_planning = (
        Lease(table, key, fence, (run.c.state == state,)) for state in ("deleting", "planning")
    )
    assert renew(store, while_deleting, NOW)
    assert not renew(store, while_planning, NOW)
    with store.write() as connection:
        assert leases.claim(connection, table, key, run.c.state == "planning", owner="x", now=NOW, until=NOW) is None


def test_one_of_many_concurrent_claims_succeeds(store: Store, row: tuple[Table, dict[str, str | int]]) -> None:
    start, fences = threading.Barrier(6), []

    def claiming() -> None:
        start.wait(10)
        fences.append(claim(store, row, NOW))

    threads = [threading.Thread(target=claiming) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(fences, key=str) == [1, *[None] * 5]
