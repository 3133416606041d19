"""Lets threads that write at the same time share one commit: an fsync for each would be all that a sweep waits for.

A writer works in a savepoint of the open transaction. When it leaves and another one waits, the transaction is handed
on; who finds nobody waiting commits for all. Nobody goes on before what it wrote is committed.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, RootTransaction

MOST = 64  # writers a commit: others, in other processes, wait meanwhile


@dataclass(slots=True)
class _Group:
    connection: Connection
    transaction: RootTransaction
    writers: int = 0
    committed: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class GroupCommit:
    """Write transactions of one process, one body at a time, committed together where they queue up."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = threading.Lock()  # held by the one whose body runs
        self._count = threading.Lock()
        self._waiting = 0
        self._group: _Group | None = None  # guarded by the turn

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection inside a transaction; returns once it is committed. Raises what the database raises."""
        group = self._enter()
        try:
            with group.connection.begin_nested():
                yield group.connection
        except BaseException:
            self._leave(group)
            raise
        self._leave(group)
        group.committed.wait()
        if group.error is not None:
            raise group.error

    def _enter(self) -> _Group:
        with self._count:
            self._waiting += 1
        self._turn.acquire()  # released in _leave, by the same thread
        with self._count:
            self._waiting -= 1
        try:
            if self._group is None:
                self._group = self._begin()
        except BaseException:
            self._turn.release()
            raise
        self._group.writers += 1
        return self._group

    def _begin(self) -> _Group:
        connection = self._engine.connect().execution_options(immediate=True)
        try:
            return _Group(connection, connection.begin())
        except BaseException:
            connection.close()
            raise

    def _leave(self, group: _Group) -> None:
        with self._count:
            hand_on = self._waiting > 0 and group.writers < MOST
        if not hand_on:
            self._group = None
            self._commit(group)
        self._turn.release()

    @staticmethod
    def _commit(group: _Group) -> None:
        try:
            group.transaction.commit()
        except BaseException as error:  # noqa: BLE001 -- every writer of the group raises it
            group.error = error
        finally:
            group.committed.set()
            group.connection.close()
