"""The way of an offline plan: parts, decisions, what needed the others, totals; then it streams from its spools."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from policies.limits import Totals
from policies.plan import Decision
from policies.reclaim import add, close
from policies.registry_summary import sum_up
from policies.rules import Policy
from policies.warnings import keeps_nothing
from worker.config.files import stream
from worker.planning.offline.crew import Crew, Task
from worker.planning.offline.inventory_file import InventoryError, open_inventory, parts
from worker.planning.offline.part import SHARES, Job, Outcome, Part, Spooled, columns_of, decided_digests
from worker.planning.offline.regroup import scattered
from worker.report.plan import PlanHead

PER_PROCESS = 24 << 20  # bytes of inventory for which another process is worth its start
_LARGEST_PART, _SMALLEST_PART = 16 << 20, 1 << 18
_CHUNK = 1 << 20
_decisions = msgspec.json.Decoder(Decision)


@dataclass(frozen=True)
class OfflinePlan:
    """A plan whose decisions lie in spool files, as lines of NDJSON."""

    head: PlanHead
    rule_selected: dict[str, int]
    _spooled: tuple[Spooled, ...]

    def lines(self) -> Iterator[bytes]:
        """The decisions as NDJSON in their order, in pieces of any length."""
        with ExitStack() as stack:
            paths = {one.file for one in self._spooled}
            files = {path: stack.enter_context(Path(path).open("rb")) for path in sorted(paths)}
            for one in self._spooled:
                file = files[one.file]
                file.seek(one.start)
                left = one.length
                while left:
                    chunk = file.read(min(left, _CHUNK))
                    left -= len(chunk)
                    yield chunk

    def decisions(self) -> Iterator[Decision]:
        """The decisions in their order."""
        rest = b""
        for chunk in self.lines():
            whole, _, rest = (rest + chunk).rpartition(b"\n")
            yield from _decisions.decode_lines(whole)


@contextmanager
def plan_inventory(
    path: Path,
    policy: Policy,
    now: datetime,
    *,
    keep_per_repository: int = 0,
    processes: int | None = None,
    part_bytes: int | None = None,
) -> Iterator[OfflinePlan]:
    """Plan a saved inventory; `-` is standard input. The plan can be read until the context is left.

    Raises InventoryError, OSError, CrewError.
    """
    with tempfile.TemporaryDirectory(prefix="registry-gc-plan-") as folder, _no_collector():
        inventory = open_inventory(_regular(path, Path(folder)))
        count = processes or _processes(inventory.size)
        size = part_bytes or min(max(inventory.size // (count * 6), _SMALLEST_PART), _LARGEST_PART)
        stretches = (Part(number, start, end) for number, (start, end) in enumerate(parts(inventory, size)))
        job = Job(inventory, policy, now, keep_per_repository, _room(folder, "grouped"))
        outcomes = _decide(job, stretches, count)
        if outcomes is None:
            job = Job(inventory, policy, now, keep_per_repository, _room(folder, "regrouped"))
            outcomes = _decide(job, scattered(inventory, size), count) or []
        yield _plan(job, outcomes)


def _processes(size: int) -> int:
    return min(len(os.sched_getaffinity(0)), 8, 1 + size // PER_PROCESS)


def _room(folder: str, name: str) -> Path:
    room = Path(folder) / name
    room.mkdir()
    return room


def _regular(path: Path, folder: Path) -> Path:
    """A file that can be read at any place: what comes through a pipe is saved first."""
    if str(path) != "-" and (path.is_file() or not path.exists() or path.is_dir()):
        return path
    saved = folder / "inventory.ndjson"
    with saved.open("wb") as to:
        if str(path) == "-":
            shutil.copyfileobj(sys.stdin.buffer, to)
        else:
            to.writelines(stream(path))
    return saved


@contextmanager
def _no_collector() -> Iterator[None]:
    """Records make no circles, and looking for some costs a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _decide(job: Job, stretches: Iterable[Part], processes: int) -> list[Outcome] | None:
    """Every repository decided, or None where the file turns out not to be grouped. Raises InventoryError."""
    with Crew(job, processes) as crew:
        first: list[Task] = [(part, None, frozenset()) for part in stretches]
        outcomes = crew.decide(first)
        if (error := _first_error(outcomes)) is not None:
            raise error
        if any(outcome.mixed for outcome in outcomes) or _repeated(outcomes):
            return None
        waiting = [outcome for outcome in outcomes if outcome.waiting]
        if waiting:
            surveys = [survey for outcome in waiting for survey in outcome.surveys]
            if any(survey.open_subjects for survey in surveys):
                readable = [one for outcome in outcomes for one in outcome.spooled if one.path not in job.failed]
                surveys += decided_digests(readable)
            known = sum_up(surveys, job.policy)
            outcomes += crew.decide([(outcome.part, known, frozenset(outcome.waiting)) for outcome in waiting])
    return outcomes


def _first_error(outcomes: list[Outcome]) -> InventoryError | None:
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    return min(errors, key=lambda error: error.line, default=None)


def _repeated(outcomes: list[Outcome]) -> bool:
    paths = [path for outcome in outcomes for path in outcome.paths]
    return len(set(paths)) < len(paths)


def _plan(job: Job, outcomes: list[Outcome]) -> OfflinePlan:
    totals = Totals()
    selected: dict[str, int] = {}
    for outcome in outcomes:
        totals = add(totals, outcome.counts)
        for rule, count in outcome.rule_selected.items():
            selected[rule] = selected.get(rule, 0) + count
    for share in range(SHARES):
        totals = add(totals, close([columns_of(job.folder, share)]).totals)
    unreadable = sorted(job.inventory.unreadable, key=lambda one: (one.repository, one.reason))
    failed = {one.repository: one for one in unreadable}
    keeping = frozenset[str]().union(*(outcome.keeping for outcome in outcomes))
    whole = totals.images and not failed
    head = PlanHead(
        registry=None,
        policy=job.policy.name,
        now=job.now.astimezone(UTC),
        complete=not failed,
        unreadable=tuple(failed.values()),
        totals=totals,
        exceeded=(),
        warnings=tuple(keeps_nothing(job.policy.keep_rules if whole else (), keeping)),
    )
    spooled = sorted((one for outcome in outcomes for one in outcome.spooled), key=lambda one: one.path)
    return OfflinePlan(head, selected, tuple(spooled))
