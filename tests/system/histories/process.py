"""One process of ours: it carries out one task call, can be halted at any point while others work, and can be killed.

The store, the configuration file and the connections of a killed process raise `Killed` from then on. Like a SIGKILL,
that ends the process without another write, whatever its code does in `finally`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine

from tests.support.memory_registry import Instance
from worker.config.settings import ConfigError, RegistrySettings, Settings
from worker.runs.lifecycle import TaskCall
from worker.store import Store, StoreError

if TYPE_CHECKING:
    from tests.system.histories.history import History


class Killed(BaseException):
    """The process was killed."""


@dataclass(slots=True)
class Reading:
    """An image as this process last read it."""

    at: int  # History.moment
    facts: tuple[str, frozenset[str], datetime]


@dataclass(slots=True)
class Process:
    history: "History"
    task_call: TaskCall | None = None
    dead: bool = False
    listings: dict[str, dict[str, Instance]] = field(
        default_factory=dict
    )  # path -> digest -> the instance that was listed
    refused: set[str] = field(default_factory=set)  # paths that could not be listed
    unread: set[tuple[str, str]] = field(default_factory=set)  # path and digest of manifests that could not be read
    readings: dict[str, Reading] = field(default_factory=dict)  # by image id
    modes: list[tuple[int, str | None]] = field(
        default_factory=list
    )  # each reading of the file: History.moment and the mode
    settle: timedelta = timedelta()  # of the last reading of the file
    fence: int | None = None  # of the claimed batch
    began: datetime | None = None  # true time
    claimed_at: datetime | None = None  # true time
    began_listing: dict[str, datetime] = field(default_factory=dict)  # true time
    blobs_before: dict[str, int] = field(default_factory=dict)  # of the whole registry when the process started
    changes_before: int = 0
    effects_before: int = 0

    @property
    def run_id(self) -> str | None:
        return str(self.task_call.args[0]) if self.task_call is not None else None

    def point(self, name: str, *, inside: bool = False) -> None:
        """Let planned actions run here; `inside` a transaction only a kill may."""
        if self.dead:
            raise Killed
        self.history.reach_point(self, name, inside=inside)
        if self.dead:
            raise Killed

    def store(self) -> "ProcessStore":
        return ProcessStore(self, self.history.engine)

    def watch(self) -> "ProcessWatch":
        return ProcessWatch(self)


class ProcessStore(Store):
    """The real store behind the points and faults of one process."""

    def __init__(self, process: Process, engine: Engine) -> None:
        super().__init__(engine)
        self._process = process

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._process.point("read")
        self._fail("read")
        with super().read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        process = self._process
        process.point("write")
        self._fail("write")
        with process.history.lock:  # nothing happens between the commit and the check of the invariants
            with super().write() as connection:
                yield connection
                process.point("commit", inside=True)
                self._fail("commit")
            process.history.invariants.committed(process)
        process.point("written")
        self._fail("written")  # the commit is done; the process does not learn it

    def _fail(self, where: str) -> None:
        if self._process.history.store_fails(where):
            raise StoreError(f"this history: the store is away ({where})")


class ProcessWatch:
    """The configuration file behind the points of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._known: RegistrySettings | None = None

    def current(self) -> Settings:
        process = self._process
        process.point("settings")
        settings = process.history.settings()
        registry = settings.registries.get("production") if settings else None
        process.modes.append((process.history.tick(), registry.mode if registry else None))
        process.settle = registry.settle if registry else process.settle
        if settings is None:
            raise ConfigError((), Path("registry-gc.yaml"))
        self._known = registry or self._known
        return settings

    def last_known(self, key: str) -> RegistrySettings | None:
        return self._known if self._known and self._known.key == key else None
