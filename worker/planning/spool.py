"""Records by name in a temporary file, as what is read one at a time need not be held in memory whole: repositories,
and the decisions of a plan, encoded once as they are made, from where they are shown, printed and stored."""

import tempfile
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from policies.plan import Decision, PlannedDeletion, RepositoryPlan

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode_lines
_decoder = msgspec.json.Decoder(Decision)


class Spool(Generic[T]):
    """Keeps records of one type, each under a name, and gives them back in order of their names, as often as asked.

    A record that is added under a name again takes the place of the one before.

    The file has no name on disk and goes with the last reference. Safe to add to from several threads.
    """

    def __init__(self, kind: type[T]) -> None:
        self._file = tempfile.TemporaryFile(prefix="registry-gc-")  # noqa: SIM115 -- lives as long as the spool
        self._lock = threading.Lock()
        self._places: dict[str, tuple[int, int]] = {}  # name -> offset, length
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def add(self, name: str, record: T) -> None:
        packed = self._encoder.encode(record)
        with self._lock:
            self._places[name] = (self._file.seek(0, 2), len(packed))
            self._file.write(packed)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        for name in sorted(self._places):
            yield self[name]

    def __getitem__(self, name: str) -> T:
        offset, length = self._places[name]
        with self._lock:
            self._file.seek(offset)
            packed = self._file.read(length)
        return self._decoder.decode(packed)


class Decided(msgspec.Struct, frozen=True):
    """One repository of a plan."""

    path: str
    lines: bytes  # its decisions as NDJSON
    deletions: tuple[PlannedDeletion, ...] = ()


class Decisions:
    """Those of a plan, repository by repository in order of their paths."""

    def __init__(self) -> None:
        self._spool = Spool(Decided)

    def add(self, plan: RepositoryPlan, *, deletions: bool = True) -> None:
        """Take a repository in, in place of what was said of it before. `deletions`: whether somebody will ask."""
        self._spool.add(plan.path, Decided(plan.path, _encode(plan.decisions), plan.deletions if deletions else ()))

    def __iter__(self) -> Iterator[Decided]:
        return iter(self._spool)

    def lines(self) -> Iterator[bytes]:
        """As NDJSON, in pieces of whole lines."""
        return (one.lines for one in self._spool)

    def records(self) -> Iterator[Decision]:
        for lines in self.lines():
            yield from _decoder.decode_lines(lines)
