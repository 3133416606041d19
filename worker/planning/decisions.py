"""The decisions of a plan, encoded once as they are made and spooled: they are shown, printed and stored from there."""

from collections.abc import Iterator

import msgspec

from policies.plan import Decision, Deletion, RepositoryPlan
from worker.planning.spool import Spool

_encode = msgspec.json.Encoder().encode_lines
_decoder = msgspec.json.Decoder(Decision)


class Decided(msgspec.Struct, frozen=True):
    """One repository of a plan."""

    path: str
    lines: bytes  # its decisions as NDJSON
    deletions: tuple[Deletion, ...] = ()


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
