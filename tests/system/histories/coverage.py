"""What histories came by, and what they did not: printed after a drill."""

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

# What there is to come by, by the word that its counts begin with.
THERE_IS: Mapping[str, tuple[str, ...]] = {
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
IN_WORDS = {
    "run": "runs by outcome",
    "stop": "runs that were stopped, by why",
    "item": "images by what became of them",
    "checkpoint": "checkpoints",
    "fault": "faults by call and kind",
    "operation": "operations by fate",
    "killed at": "deaths of our process, by place",
    "seen": "rare things seen",
}


def report(stats: Mapping[str, int]) -> Iterable[str]:
    """Lines for a person."""
    faults = sum(count for name, count in stats.items() if name.startswith("fault: "))
    halts = sum(count for name, count in stats.items() if name.startswith("in between: "))
    yield f"{stats['histories']:,} histories, {stats['steps']:,} steps, of them {halts:,} in the midst of a process"
    yield f"{faults:,} faults, {stats['processes killed']:,} deaths of our own process"
    yield f"{stats['bytes: compared with the world']:,} times the bytes were compared with the whole world"
    for kind, words in IN_WORDS.items():
        found = _of(stats, kind)
        yield ""
        yield f"{words}:"
        yield from _columns(found)
        if missing := [name for name in THERE_IS[kind] if not any(_covers(one, name) for one in found)]:
            yield f"  NOT covered: {', '.join(missing)}"


def _of(stats: Mapping[str, int], kind: str) -> Counter[str]:
    return Counter({name.removeprefix(f"{kind}: "): n for name, n in stats.items() if name.startswith(f"{kind}: ")})


def _covers(found: str, name: str) -> bool:
    return found == name or found.startswith(f"{name}, ")  # "delete unavailable, lost" is a "delete unavailable"


def _columns(found: Counter[str]) -> Iterable[str]:
    for name, count in sorted(found.items()):
        yield f"  {count:>9,}  {name}"
