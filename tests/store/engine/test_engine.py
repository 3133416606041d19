"""The store's transactions, its file, and its errors when it cannot be opened, read or written."""

import os
import re
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text, update

from tests.support.servers import PostgresServer
from worker.store import Store, StoreError, open_store
from worker.store.tables import heartbeat
from worker.store.tables import run as run_table

OpenStore = Callable[[], Store]


def test_reading_creates_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist yet"):
        open_store(f"sqlite:///{tmp_path}/none.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_sqlite_keeps_every_commit(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    with store.read() as connection:
        settings = {
            name: connection.execute(text(f"pragma {name}")).scalar() for name in ("journal_mode", "synchronous")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2}


def test_refuses_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("this is not a database, and nobody may write over it" * 100)
    with pytest.raises(StoreError, match="the store"):
        open_store(f"sqlite:///{path}")
    assert path.read_text().startswith("this is not")


def test_concurrent_writers_each_see_their_own_commit(url: str) -> None:
    store = open_store(url)
    with store.write() as connection:
        connection.execute(text("create table tally_of_threads (n integer)"))
        connection.execute(text("insert into tally_of_threads values (0)"))

    def add() -> None:
        for _ in range(20):
            with store.write() as connection:
                connection.execute(text("update tally_of_threads set n = n + 1"))

    threads = [threading.Thread(target=add) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert connection.execute(text("select n from tally_of_threads")).scalar() == 240
    store.dispose()


def test_a_failed_writer_does_not_undo_another_writer(url: str) -> None:
    store = open_store(url)
    begun, go_on = threading.Event(), threading.Event()
    outcomes: list[str] = []

    def failing() -> None:
        try:
            with store.write() as connection:
                connection.execute(insert(heartbeat).values(name="bad", at=None))
        except Exception as error:  # noqa: BLE001 -- whatever the database calls it
            outcomes.append(type(error).__name__)

    def slow() -> None:
        with store.write() as connection:
            connection.execute(text("insert into heartbeat (name, at) values ('good', 1)"))
            begun.set()
            go_on.wait(10)
        outcomes.append("good")

    first = threading.Thread(target=slow)
    first.start()
    begun.wait(10)
    second = threading.Thread(target=failing)
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert sorted(outcomes) == ["IntegrityError", "good"]
    with store.read() as connection:
        assert connection.execute(select(heartbeat.c.name)).scalars().all() == ["good"]
    store.dispose()


def test_an_unwritable_store_is_an_error(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    with store.write() as connection:
        connection.execute(text("drop table run"))
    with pytest.raises(StoreError, match="no such table: run"), store.write() as connection:
        connection.execute(update(run_table).values(message="x"))
    with pytest.raises(StoreError), store.read() as connection:
        connection.execute(select(func.count()).select_from(run_table))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("there", [pytest.param(False, id="new"), pytest.param(True, id="readable by all before")])
def test_only_the_owner_can_read_the_file(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "store.db"
    if there:
        open_store(f"sqlite:///{path}").dispose()
        path.chmod(0o664)
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        store = open_store(f"sqlite:///{path}")
        with store.write() as connection:
            connection.execute(insert(heartbeat).values(name="beat", at=datetime.now(UTC)))
            assert {file.name: mode_of(file) for file in tmp_path.glob("store.db*")} == {
                "store.db": 0o600,
                "store.db-wal": 0o600,
                "store.db-shm": 0o600,
            }
        store.dispose()
    finally:
        os.umask(before)
    assert mode_of(tmp_path) == 0o755, "the folder stays as it is"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("postgresql+psycopg://nobody-here@127.0.0.1:{port}/postgres", "the user", id="no such role"),
        pytest.param("postgresql+psycopg://tests@127.0.0.1:{port}/nothing-here", "the database", id="no such database"),
        pytest.param("postgresql+psycopg://tests@127.0.0.1:1/postgres", "connection refused", id="no server listens"),
        pytest.param("postgresql+psycopg://tests@here.invalid/postgres", "cannot be resolved", id="no such host"),
        pytest.param(
            "postgresql+psycopg://tests@127.0.0.1:{port}/postgres?sslmode=here", "an option", id="no such mode"
        ),
    ],
)
def test_explains_an_unavailable_postgresql_without_its_url(postgres: PostgresServer, url: str, said: str) -> None:
    with pytest.raises(StoreError) as failure:
        open_store(url.format(port=postgres.port))
    assert said in str(failure.value)
    assert not {"here", "127.0.0.1", "tests", str(postgres.port)} & set(re.split(r"[^a-z0-9.]+", str(failure.value)))
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__, "the driver's own text is in no traceback either"
