"""One store per process, emptied before each history. It does not wait for the disk, as a real store has to."""

import atexit
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from worker.store import open_store
from worker.store.tables import metadata


class HistoryStore:
    """The store's engine, and a connection of the tests' own that reads committed rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "registry-gc.db"
        self.engine: Engine = open_store(f"sqlite:///{path}").engine
        event.listen(self.engine, "connect", _without_fsync)
        self.engine.dispose()  # connections opened before this point would wait for the disk
        self.raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.raw.row_factory = sqlite3.Row
        self.raw.execute("PRAGMA synchronous=OFF")
        self._new = {name: self._rows(name) for name in self._tables()}  # the rows of a new store

    def _tables(self) -> list[str]:
        return [table.name for table in metadata.sorted_tables]

    def _rows(self, table: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.raw.execute(f"SELECT * FROM {table}")]  # noqa: S608 -- our own table's name

    @classmethod
    @functools.cache
    def of_this_process(cls) -> "HistoryStore":
        shared = Path("/dev/shm")  # memory: histories do not test the disk
        folder = tempfile.mkdtemp(prefix="registry-gc-histories-", dir=shared if shared.is_dir() else None)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return cls(Path(folder))

    def empty(self) -> None:
        self.raw.execute("BEGIN IMMEDIATE")
        for table, rows in self._new.items():
            self.raw.execute(f"DELETE FROM {table}")  # noqa: S608 -- our own table's name
            for row in rows:
                places = ",".join("?" * len(row))
                self.raw.execute(f"INSERT INTO {table} VALUES ({places})", row)  # noqa: S608 -- as above
        self.raw.execute("COMMIT")


def _without_fsync(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")
