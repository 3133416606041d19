"""Decides one part of an inventory and spools the decisions: what one process does, again and again.

python -c … : main() reads pickled work from its standard input and answers on its standard output, until that closes.
"""

import gc
import pickle
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import force_setattr

from policies.blobs import keys, words
from policies.graph import Arranger, Ties
from policies.image import Image, Unreadable
from policies.limits import Totals
from policies.plan import RepositoryPlan, decide_of, unreadable_plan_of
from policies.reclaim import Columns, joined
from policies.registry_summary import Across, Survey, survey_of
from policies.rules import Policy
from worker.planning.offline.inventory_file import Inventory, InventoryError, blocks, decoded, mistake, runs
from worker.planning.offline.lines import is_digest

SHARES = 16  # the columns are added up a sixteenth of all digests at a time
_ROW = np.dtype([("words", "<u8", (4,)), ("sizes", "<i8"), ("references", "<i8"), ("flags", "u1")])


class _Digest(msgspec.Struct):
    digest: str


_digests = msgspec.json.Decoder(_Digest)


Lines = tuple[tuple[str, npt.NDArray[np.int64]], ...]  # repository, rows of offset and length


@dataclass(frozen=True, slots=True)
class Job:
    """What all parts of one plan have in common."""

    inventory: Inventory
    policy: Policy
    now: datetime
    keep_per_repository: int
    folder: Path  # for the spools; goes with the plan

    @property
    def failed(self) -> dict[str, Unreadable]:
        """The repositories that were not listed whole."""
        return {one.repository: one for one in self.inventory.unreadable}


@dataclass(frozen=True, slots=True)
class Part:
    """Some repositories of the file: a stretch of it, or where each line stands."""

    number: int
    start: int = 0  # bytes
    end: int = 0
    lines: Lines | None = None


@dataclass(frozen=True, slots=True)
class Spooled:
    """Where the decisions of one repository stand."""

    path: str
    file: str
    start: int
    length: int


@dataclass(slots=True)
class Outcome:
    """What came of a part."""

    part: Part
    paths: list[str] = field(default_factory=list)  # of all its repositories
    spooled: list[Spooled] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)  # cannot be decided before all others are known
    surveys: list[Survey] = field(default_factory=list)  # of those
    counts: Totals = field(default_factory=Totals)
    rule_selected: dict[str, int] = field(default_factory=dict)
    keeping: frozenset[str] = frozenset()
    mixed: bool = False  # a repository came twice: the file is not grouped
    error: InventoryError | None = None


class Decider:
    """One process's share of the work: parts in, decisions and columns into its own spool files."""

    def __init__(self, job: Job, name: str) -> None:
        self._job = job
        self._failed = job.failed
        self._waits = bool(job.policy.of_registry())
        self._encode = msgspec.json.Encoder().encode_lines
        self._file = job.inventory.path.open("rb")
        self._spool = (job.folder / f"decisions-{name}").open("ab")
        self._columns = [(job.folder / f"columns-{share:02d}-{name}").open("ab") for share in range(SHARES)]

    def close(self) -> None:
        for file in (self._file, self._spool, *self._columns):
            file.close()

    def take(self, part: Part, across: Across | None, only: frozenset[str] = frozenset()) -> Outcome:
        """Decide a part. `across=None`: the first time, when what needs the others is surveyed and waits; later `only`
        those that waited.
        """
        outcome = Outcome(part)
        held: list[Columns] = []
        try:
            for ties in self._repositories(part, outcome):
                if across is None:
                    decided = self._first(ties, outcome)
                else:
                    decided = self._decided(ties, across) if ties.path in only else None
                if decided is not None:
                    held.append(decided.columns)
                    self._write(decided, outcome)
        except InventoryError as error:
            outcome.error = error
        self._keep(joined(held), outcome)
        for file in (self._spool, *self._columns):
            file.flush()
        return outcome

    def _first(self, ties: Ties, outcome: Outcome) -> RepositoryPlan | None:
        if ties.path in self._failed:
            return unreadable_plan_of(ties, self._failed[ties.path])
        if not self._waits and not ties.open_subjects:
            return self._decided(ties, Across())
        outcome.waiting.append(ties.path)
        outcome.surveys.append(survey_of(ties, self._job.policy, self._job.now))
        return None

    def _decided(self, ties: Ties, across: Across) -> RepositoryPlan:
        job = self._job
        return decide_of(ties, job.policy, job.now, across, keep_per_repository=job.keep_per_repository)

    def _write(self, decided: RepositoryPlan, outcome: Outcome) -> None:
        start = self._spool.tell()
        length = self._spool.write(self._encode(decided.decisions))
        outcome.spooled.append(Spooled(decided.path, self._spool.name, start, length))

    def _keep(self, columns: Columns, outcome: Outcome) -> None:
        outcome.counts = columns.counts
        outcome.rule_selected = dict(columns.rule_selected)
        outcome.keeping = columns.keeping
        rows = np.empty(len(columns.sizes), dtype=_ROW)
        for column in ("words", "sizes", "references", "flags"):
            rows[column] = getattr(columns, column)
        shares = keys(columns.words) >> np.uint64(60)
        for share, file in enumerate(self._columns):
            rows[shares == share].tofile(file)

    def _repositories(self, part: Part, outcome: Outcome) -> Iterator[Ties]:
        seen: set[str] = set()
        for path, chunks in _repositories(self._read(part)):
            if path in seen:
                outcome.mixed = True
                return
            seen.add(path)
            outcome.paths.append(path)
            arranger = Arranger(path)
            for images in chunks:
                arranger.add(images)
                for image in images:  # counted; nothing else asks for them, and memory is short
                    force_setattr(image, "layers", ())
                    force_setattr(image, "config", None)
            ties = arranger.ties()
            if not all(map(is_digest, ties.blobs.odd)):
                self._refuse(part)
            yield ties

    def _read(self, part: Part) -> Iterator[tuple[str, list[Image]]]:
        if part.lines is None:
            yield from runs(self._job.inventory, self._file, part.start, part.end)
            return
        for path, offset, block in self._lines(part.lines):
            yield path, decoded(self._job.inventory, offset, block)

    def _lines(self, lines: Lines) -> Iterator[tuple[str, int, bytes]]:
        for path, places in lines:
            for offset, length in places.tolist():
                self._file.seek(offset)
                yield path, offset, self._file.read(length)

    def _refuse(self, part: Part) -> NoReturn:
        """Raises InventoryError: the part has a line that is wrong, and which one is looked for only now."""
        if part.lines is None:
            stretches = blocks(self._file, part.start, part.end)
        else:
            stretches = ((offset, block) for _, offset, block in self._lines(part.lines))
        mistakes = (mistake(self._job.inventory, offset, block) for offset, block in stretches)
        raise next(error for error in mistakes if error is not None)


def _repositories(read: Iterable[tuple[str, list[Image]]]) -> Iterator[tuple[str, Iterator[list[Image]]]]:
    """Neighbouring runs of one repository as one. Each must be taken before the next."""
    runs_ = iter(read)
    following = next(runs_, None)
    while following is not None:
        path = following[0]

        def chunks(path: str = path) -> Iterator[list[Image]]:
            nonlocal following
            while following is not None and following[0] == path:
                yield following[1]
                following = next(runs_, None)

        yield path, chunks()


def columns_of(folder: Path, share: int) -> Columns:
    """One share of the columns that all processes kept."""
    files = sorted(folder.glob(f"columns-{share:02d}-*"))
    rows = np.concatenate([np.fromfile(file, dtype=_ROW) for file in files])
    return Columns(rows["words"], rows["sizes"], rows["references"], rows["flags"])


def decided_digests(spooled: Iterable[Spooled]) -> Iterator[Survey]:
    """What repositories that are decided hold, as surveys that say nothing else."""
    for one in spooled:
        with Path(one.file).open("rb") as file:
            file.seek(one.start)
            images = _digests.decode_lines(file.read(one.length))
        yield Survey(one.path, words([image.digest for image in images]))


def main() -> None:
    """Answer until the other side closes. Only our own parent writes to this process."""
    gc.disable()  # records make no circles
    work, answers = sys.stdin.buffer, sys.stdout.buffer
    job, name = _received(work)
    decider = Decider(job, name)
    while True:
        try:
            part, across, only = _received(work)
        except EOFError:
            return
        send(decider.take(part, across, only), answers)


def send(message: object, to: IO[bytes]) -> None:
    pickle.dump(message, to, pickle.HIGHEST_PROTOCOL)
    to.flush()


def _received(source: BinaryIO) -> Any:
    return pickle.load(source)  # noqa: S301 - from our own parent's pipe
