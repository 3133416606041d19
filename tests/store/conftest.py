"""An empty store of each test's own: SQLite, or PostgreSQL for the tests of the whole system."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import stores
from worker.store import Store


@pytest.fixture
def store(new_store: Callable[[], str | None], tmp_path: Path) -> Iterator[Store]:
    with stores.opened(new_store() or f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened
