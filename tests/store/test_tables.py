"""Instants are integers, the same and in the same order on both databases."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, text

from tests.store.rows import add_run, column
from worker.store import Store
from worker.store.tables import EPOCH, Instant, heartbeat, run

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "kept"),
    [
        pytest.param(EPOCH, 0, id="1970"),
        pytest.param(EPOCH + timedelta(microseconds=1), 1, id="a microsecond"),
        pytest.param(EPOCH - timedelta(microseconds=1), -1, id="before 1970"),
        pytest.param(NOON, 1_767_268_800_000_000, id="noon"),
        pytest.param(NOON.astimezone(timezone(timedelta(hours=3))), 1_767_268_800_000_000, id="noon, said in Moscow"),
        pytest.param(datetime.max.replace(tzinfo=UTC), 253_402_300_799_999_999, id="the last"),
    ],
)
def test_stores_an_instant_as_microseconds_and_reads_it_back(store: Store, moment: datetime, kept: int) -> None:
    with store.write() as connection:
        connection.execute(insert(heartbeat).values(name="beat", at=moment))
        assert connection.execute(text("select at from heartbeat")).scalar_one() == kept
        back = connection.execute(select(heartbeat.c.at)).scalar_one()
        assert connection.execute(select(heartbeat.c.name).where(heartbeat.c.at >= moment)).scalar_one() == "beat"
    assert (back, back.utcoffset()) == (moment, timedelta(0))


def test_refuses_an_instant_without_a_time_zone() -> None:
    with pytest.raises(TypeError):
        Instant().process_bind_param(datetime(2026, 1, 1), None)  # type: ignore[arg-type]  # noqa: DTZ001 -- the case


def test_stores_none_as_null(store: Store) -> None:
    with store.write() as connection:
        add_run(connection)
        assert column(connection, run, "finished_at") == [None]
