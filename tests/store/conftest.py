"""Stores on each database: a new one, and one for all tests of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import stores
from tests.support.servers import PostgresServer
from worker.store import Store, open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store is to be that is not there yet, on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/er/store.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database(f"store_{abs(hash(request.node.nodeid))}")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def module_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all tests of a module, on each database; each test empties the tables that it uses."""
    folder = tmp_path_factory.mktemp("store")
    in_postgres = request.param == "postgresql"
    store = open_store(
        stores.database(request.getfixturevalue("postgres")) if in_postgres else f"sqlite:///{folder}/store.db"
    )
    yield store
    store.dispose()
