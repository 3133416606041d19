"""Opens the store and provides transactions. SQLite: WAL, `synchronous=FULL`, every write begins IMMEDIATE.

A prefork child must open its own store: connections do not survive a fork.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from worker.config.connection_urls import ENCODE, store_flaw
from worker.store import migrate

BUSY_SECONDS = 15
# Parts of messages from libpq, psycopg and the server about a connection, and our messages. The first match counts.
CONNECTION_MESSAGES = (
    ("password authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it requires a password, and the URL has none"),
    ("no pg_hba.conf entry", "its pg_hba.conf does not admit this user from this host"),
    ("role", "it does not know the user, or refuses it"),
    ("does not exist", "it does not have the database"),
    ("remaining connection slots", "it has no connection left"),
    ("too many", "it has no connection left"),
    ("starting up", "it is starting up"),
    ("shutting down", "it is shutting down"),
    ("terminating connection", "it ended the connection"),
    ("Connection refused", "connection refused"),
    ("timeout expired", "no answer in time"),
    ("timed out", "no answer in time"),
    ("resolve", "the name of its host cannot be resolved"),
    ("translate host name", "the name of its host cannot be resolved"),
    ("No such file or directory", "its socket is not there"),
    ("No route to host", "there is no route to its host"),
    ("unreachable", "its network cannot be reached"),
    ("certificate", "TLS: the certificates do not fit"),
    ("SSL", "TLS cannot be agreed on"),
    ("closed", "the connection was lost"),
    ("option", "an option of the URL cannot be used"),
    ("invalid", "an option of the URL cannot be used"),
)
CONNECTION_STATES = ("08", "28", "3D", "53", "57")  # SQLSTATE classes of connections, not of statements


class StoreError(Exception):
    """The store cannot be opened, read or written. Without it nothing is deleted."""

    exit_code = 1


class Store:
    """The store of one process. Safe to use from several threads.

    `read()` and `write()` are transactions, without HTTP requests inside. They raise StoreError.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._one_writer = engine.dialect.name == "sqlite"
        self._turn = threading.Lock()  # threads of one process wait here instead of polling SQLite's own lock

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if not self._one_writer:
            with _translated(), self.engine.begin() as connection:
                yield connection
            return
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StoreError(f"the store: other threads have been writing for {BUSY_SECONDS} s")
        try:
            opened = self.engine.connect
            with _translated(), opened().execution_options(immediate=True) as connection, connection.begin():
                yield connection
        finally:
            self._turn.release()

    def now(self, connection: Connection) -> datetime:
        """The time for leases: the database's, if several machines share it. Aware, UTC. On SQLite it is this process's
        clock; on PostgreSQL it goes on within a transaction. Raises StoreError.
        """
        if self._one_writer:
            return datetime.now(UTC)
        answer: datetime = connection.execute(text("select clock_timestamp()")).scalar_one()
        return answer.astimezone(UTC)

    def dispose(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise  # a violated unique key is a result for the caller (another run is active), not a failure of the store
    except DBAPIError as error:
        if (message := _postgresql_message(error)) is not None:
            raise StoreError(f"the store: {message}") from None
        raise StoreError(f"the store: {_first_line(error.orig)}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the store: {_first_line(error)}") from error


def _postgresql_message(error: DBAPIError) -> str | None:
    """A message that quotes no part of the store's URL; None: another database.

    psycopg and libpq quote hosts, users, databases and options as they parsed them from the URL, and a wrong URL may
    have parts of its password there.
    """
    cause: Any = error.orig
    if not type(cause).__module__.startswith("psycopg"):  # psycopg is not installed without PostgreSQL
        return None
    state, said_by_server = cause.sqlstate or "", cause.diag.message_primary
    if error.statement is not None and said_by_server and not state.startswith(CONNECTION_STATES):
        return str(said_by_server)
    text = str(cause)
    messages = (message for part, message in CONNECTION_MESSAGES if part in text)
    return next(messages, "it cannot be reached; its own log may say why")


def _first_line(error: BaseException | None) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def open_store(url: str, *, create: bool = True) -> Store:
    """Open the store at a SQLAlchemy URL. `create`: create its schema, or upgrade it.

    Raises StoreError: absent (without `create`), unreadable, or created by a later version.
    """
    if not url.startswith("sqlite:") and (flaw := store_flaw(url)):
        raise StoreError(f"the store's URL cannot be used: {flaw}; {ENCODE}")
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(parsed.database or "")
        if not create and not path.exists():
            raise StoreError(f"the store {path} does not exist yet; the first run creates it")
        _make_private(path, create=create)
    with _translated():
        engine = _engine(url)
        try:
            migrate.bring_up_to_date(engine, create=create)
        except migrate.SchemaError as error:
            raise StoreError(str(error)) from error
    return Store(engine)


def _make_private(path: Path, *, create: bool) -> None:
    """Make the file readable only by its owner. SQLite gives -wal and -shm files the rights of the file."""
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(f"the store's folder {path.parent} cannot be created: {error.strerror}") from error
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StoreError(f"the store {path} cannot be written: {error.strerror}") from error
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with suppress(OSError):  # absent, or owned by another user, who decides
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        # No prepared statements: with PgBouncer in transaction mode the next transaction may use a connection without
        # them.
        connect: dict[str, Any] = {"connect_timeout": 5, "prepare_threshold": None}
        return create_engine(url, pool_pre_ping=True, pool_size=20, connect_args=connect)
    engine = create_engine(url, pool_size=20, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the transactions are ours, see _begin
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_SECONDS * 1000}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def insert_for(connection: Connection, table: Table) -> Any:
    """An INSERT of this database's dialect, with `on_conflict_do_update` and `on_conflict_do_nothing`."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
