"""Empty stores as copies of one that was made up to date once: the migrations take longer than most tests do."""

import atexit
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from tests.support.servers import PostgresServer
from worker.store import Store, open_store

_numbers = itertools.count()
_models: dict[int, str] = {}  # by port: the database that others are copies of
_compiled: dict[str, dict[Any, Any]] = {}  # by dialect: the compiled queries of SQLAlchemy


def opened(url: str) -> Store:
    """A store, empty and of this version where it is a file that is not there yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        shutil.copy(_model(), parsed.database or "")
    store = open_store(url)
    store.engine.update_execution_options(compiled_cache=_compiled.setdefault(store.engine.dialect.name, {}))
    return store


def database(server: PostgresServer) -> str:
    """The URL of a new, empty store in a PostgreSQL."""
    if server.port not in _models:
        name = f"model{next(_numbers)}"
        open_store(server.create_database(name)).dispose()
        _models[server.port] = name
    return server.create_database(f"store{next(_numbers)}", model=_models[server.port])


_file: list[Path] = []


def _model() -> Path:
    if not _file:
        folder = tempfile.TemporaryDirectory(prefix="registry-gc-model-")
        atexit.register(folder.cleanup)
        path = Path(folder.name) / "model.db"
        open_store(f"sqlite:///{path}").dispose()
        _file.append(path)
    return _file[0]
