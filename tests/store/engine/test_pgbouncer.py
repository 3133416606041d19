"""The store behind PgBouncer in transaction mode: each transaction may be on another connection of the database."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.support.harness import Harness
from tests.support.oci.server import program
from tests.support.servers import PostgresServer, end, free_port
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.store import StoreError, open_store
from worker.store.tables import run

CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={port} user=tests
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
"""


@pytest.fixture
def pooled(postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """The URL of a new database, through a PgBouncer of the test's own."""
    own = free_port()
    name = f"pooled_{own}"
    postgres.create_database(name)
    path = tmp_path / "pgbouncer.ini"
    path.write_text(CONFIGURATION.format(port=postgres.port, own=own))
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None  # it refuses to run as root
    with path.open("rb") as content, (tmp_path / "log").open("wb") as log:
        # Through standard input: the user of the database cannot look into our folder.
        process = subprocess.Popen(
            [program("pgbouncer"), "/dev/stdin"],
            stdin=content,
            stdout=log,
            stderr=log,
            user=user.pw_uid if user else None,
            cwd="/",
        )
    url = f"postgresql+psycopg://tests@127.0.0.1:{own}/{name}"
    try:
        until(lambda: process.poll() is None and answers(url), timeout=20, what="PgBouncer")
        yield url
    finally:
        end(process, timeout=10)


def answers(url: str) -> bool:
    try:
        open_store(url).dispose()
    except StoreError:
        return False
    return True


def test_prepares_no_statements_on_shared_connections(pooled: str) -> None:
    store = open_store(pooled)

    def ask(_number: int) -> int:
        with store.read() as connection:
            return len(connection.execute(select(run.c.id)).all())

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(ask, range(300))) == 0
    store.dispose()


def test_runs_work_behind_pgbouncer(pooled: str, simulator: Simulator, tmp_path: Path) -> None:
    for path in ("shop/api", "shop/web", "ml/train"):
        for number in range(3):
            simulator.push(path, tags=[f"pr-{number}"], age=timedelta(days=30))
        simulator.push(path, tags=["v1"], age=timedelta(days=30))
    harness = Harness(simulator, tmp_path, store=pooled)
    assert (first := harness.sweep()).outcome == "succeeded"
    assert first.deleted == 9
    assert harness.sweep().outcome == "succeeded"
    harness.store.dispose()
