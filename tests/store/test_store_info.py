"""A store has one id, wherever it is opened."""

from pathlib import Path

from worker.store import open_store
from worker.store.store_info import store_id


def test_a_store_has_one_id(tmp_path: Path) -> None:
    ids = set()
    for name in ("one", "one", "another"):
        store = open_store(f"sqlite:///{tmp_path / name}.db")
        with store.write() as connection:
            ids.add(store_id(connection))
        store.dispose()
    assert len(ids) == 2
