"""The report of a drill: the actions and outcomes that histories covered, and the missing ones."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import get_args

from tests.support.memory_faults import FATES, POSSIBLE
from worker.registries.errors import FailureCause
from worker.runs.checkpoints import Checkpoint

SKIPPED = (
    *("changed", "still_needed", "held", "in_use", "used_by_image_lists", "paused", "mode", "repository_changed"),
)
STOPS = ("aborted", "expired", "deadline", "hopeless", "failed")
OUTCOMES = ("succeeded", "partial", "blocked", "failed", "aborted", "missed")
SEEN = ("a batch was taken over", "an item was stopped")

# The cases that a drill can cover, by the prefix of their counts.
COVERABLE: Mapping[str, tuple[str, ...]] = {
    "run": OUTCOMES,
    "stop": STOPS,
    "item": (
        *("planned", "deleted", "gone"),
        *(f"skipped {cause}" for cause in SKIPPED),
        *(f"failed {cause}" for cause in get_args(FailureCause)),
    ),
    "checkpoint": get_args(Checkpoint),
    "fault": tuple(f"{call} {error}" for call, errors in POSSIBLE.items() for error in errors),
    "operation": FATES,
    "killed at": tuple(f"checkpoint {name}" for name in get_args(Checkpoint)),
    "seen": SEEN,
}
TITLES = {
    "run": "runs by outcome",
    "stop": "stopped runs by cause",
    "item": "planned images by state and cause",
    "checkpoint": "checkpoints",
    "fault": "faults by call and kind",
    "operation": "operations by fate",
    "killed at": "kills of our process by point",
    "seen": "rare events",
}


def report(stats: Mapping[str, int]) -> Iterable[str]:
    """The report as lines of text."""
    faults = sum(count for name, count in stats.items() if name.startswith("fault: "))
    halts = sum(count for name, count in stats.items() if name.startswith("in between: "))
    yield f"{stats['histories']:,} histories, {stats['steps']:,} steps, {halts:,} of them while a process was halted"
    yield f"{faults:,} faults, {stats['processes killed']:,} kills of a process of ours"
    yield f"{stats['bytes: compared with the registry']:,} comparisons of reclaimed bytes with the whole registry"
    for kind, title in TITLES.items():
        counts = _of(stats, kind)
        yield ""
        yield f"{title}:"
        yield from _columns(counts)
        if missing := [name for name in COVERABLE[kind] if not any(_covers(covered, name) for covered in counts)]:
            yield f"  NOT covered: {', '.join(missing)}"


def _of(stats: Mapping[str, int], kind: str) -> Counter[str]:
    return Counter({name.removeprefix(f"{kind}: "): n for name, n in stats.items() if name.startswith(f"{kind}: ")})


def _covers(covered: str, name: str) -> bool:
    return covered == name or covered.startswith(f"{name}, ")  # "delete unavailable, lost" is a "delete unavailable"


def _columns(counts: Counter[str]) -> Iterable[str]:
    for name, count in sorted(counts.items()):
        yield f"  {count:>9,}  {name}"
