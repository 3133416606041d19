"""The heartbeat renews a lease while its holder works, and reports its loss."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from tests.support.waiting import until
from worker.runs.leases import Heartbeat, identity
from worker.store import Store, leases, open_store
from worker.store.leases import Lease
from worker.store.tables import batch

LASTS = timedelta(seconds=0.3)
KEY: dict[str, str | int] = {"run_id": "a", "number": 1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/store.db")
    with opened.write() as connection:
        connection.execute(insert(batch).values(**KEY, repository="shop/api", wave=0))
    yield opened
    opened.dispose()


def claimed(store: Store) -> Lease:
    with store.write() as connection:
        now = store.now(connection)
        fence = leases.claim(connection, batch, KEY, owner=identity(), now=now, until=now + LASTS)
    assert fence is not None
    return Lease(batch, KEY, fence)


def test_renews_a_lease_while_its_holder_works(store: Store) -> None:
    lease = claimed(store)
    with store.read() as connection:
        begun = store.now(connection)

    def lasts_beyond_its_end() -> bool:
        with store.read() as connection:
            lease_until = connection.execute(select(batch.c.lease_until)).scalar_one()
            assert store.now(connection) < lease_until
        return bool(lease_until > begun + 3 * LASTS)

    with Heartbeat(store, lease, LASTS) as heartbeat:
        until(lasts_beyond_its_end, what="renewals")
        assert not heartbeat.lost.is_set()


def test_a_lease_that_was_taken_over_is_lost(store: Store) -> None:
    with Heartbeat(store, claimed(store), LASTS) as heartbeat:
        with store.write() as connection:
            connection.execute(update(batch).values(fence=batch.c.fence + 1))
        assert heartbeat.lost.wait(10)


def test_tries_again_when_the_store_cannot_be_written(store: Store) -> None:
    lease = claimed(store)
    with Heartbeat(store, lease, LASTS) as heartbeat:
        with store.write() as connection:
            connection.execute(text("alter table batch rename to elsewhere"))
        assert not heartbeat.lost.wait(LASTS.total_seconds() * 2)
        with store.write() as connection:
            connection.execute(text("alter table elsewhere rename to batch"))
            connection.execute(update(batch).values(fence=batch.c.fence + 1))
        assert heartbeat.lost.wait(10)
