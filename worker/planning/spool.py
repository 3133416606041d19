"""Records by name in a temporary file, to save memory: repositories, and the encoded decisions of a plan."""

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
    """Records of one type, each with a name, read in the order of names. A new record replaces one with the same name.

    The file has no name on disk, and the last reference to the spool deletes it. Safe to use from several threads.
    """

    def __init__(self, kind: type[T]) -> None:
        self._file = tempfile.TemporaryFile(prefix="registry-gc-")  # noqa: SIM115 -- lives as long as the spool
        self._lock = threading.Lock()
        self._places: dict[str, tuple[int, int]] = {}  # name -> offset, length
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def add(self, name: str, record: T) -> None:
        """Add a record, in place of an earlier one with this name. The file keeps the bytes of the earlier record: it
        only grows.
        """
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
    """The decisions of a plan on one repository."""

    path: str
    lines: bytes  # its decisions as NDJSON
    deletions: tuple[PlannedDeletion, ...] = ()


class Decisions:
    """The decisions of a plan, repository by repository, in the order of paths."""

    def __init__(self) -> None:
        self._spool = Spool(Decided)

    def add(self, plan: RepositoryPlan, *, deletions: bool = True) -> None:
        """Add a repository, in place of its earlier decisions. Without `deletions`, its deletions are not saved."""
        self._spool.add(plan.path, Decided(plan.path, _encode(plan.decisions), plan.deletions if deletions else ()))

    def __iter__(self) -> Iterator[Decided]:
        return iter(self._spool)

    def lines(self) -> Iterator[bytes]:
        """NDJSON, in blocks of whole lines."""
        return (decided.lines for decided in self._spool)

    def records(self) -> Iterator[Decision]:
        for lines in self.lines():
            yield from _decoder.decode_lines(lines)
