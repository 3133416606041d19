"""Runs and their deletions as tables and JSON."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from policies.limits import exceeded_text
from policies.units import bytes_text
from worker.config import kinds
from worker.config.settings import kind_in
from worker.report.plan import deletion_cells
from worker.runs.outcome import present, run_json
from worker.text import counted, escaped, instant, table, took

if TYPE_CHECKING:  # the store brings SQLAlchemy along
    from worker.store.plans import PlannedItem
    from worker.store.runs import Run

_encoder = msgspec.json.Encoder()

SHOWN_KEYS = (
    "exceeded", "unreadable", "unreadable_images", "undecidable", "warnings", "emptied_repositories", "differences",
    "raced",
)  # fmt: skip


OUTCOME_KEYS = ("state", "outcome_cause", "message", "operation_id", "attempts", "at")


def shown_json(run: "Run") -> dict[str, Any]:
    """What `show` says of a run beside its items: the contract's keys, and SHOWN_KEYS where there is something."""
    bound = {} if _is_exact(run) else {"reclaimable_is_upper_bound": True}
    return run_json(run) | bound | present(run, SHOWN_KEYS)


def _is_exact(run: "Run") -> bool:
    """Whether the run's bytes are exact: what its registry does not list may need some of them."""
    return kinds.of(kind_in(run.registry_key)).lists_untagged


def _bytes(run: "Run", size: int) -> str:
    return bytes_text(size) if _is_exact(run) else f"at most {bytes_text(size)}"


def item_json(item: "PlannedItem") -> dict[str, Any]:
    """A decision, then what became of it."""
    decision: dict[str, Any] = msgspec.to_builtins(item.decision)
    return decision | {key: getattr(item, key) for key in OUTCOME_KEYS}


def runs_json(runs: Iterable["Run"]) -> Iterator[bytes]:
    yield _encoder.encode({"runs": [run_json(run) for run in runs]}) + b"\n"


def runs_ndjson(runs: Iterable["Run"]) -> Iterator[bytes]:
    for run in runs:
        yield _encoder.encode(run_json(run)) + b"\n"


def show_json(run: "Run", items: Iterable["PlannedItem"]) -> Iterator[bytes]:
    """One RUN with what a verification found different, and `items`, in pieces."""
    yield _encoder.encode(shown_json(run)).removesuffix(b"}") + b',"items":['
    for number, item in enumerate(items):
        yield (b",\n" if number else b"\n") + _encoder.encode(item_json(item))
    yield b"]}\n"


def show_ndjson(run: "Run", items: Iterable["PlannedItem"]) -> Iterator[bytes]:
    yield _encoder.encode(shown_json(run)) + b"\n"
    for item in items:
        yield _encoder.encode(item_json(item)) + b"\n"


def runs_table(runs: Iterable["Run"], width: int | None = None) -> Iterator[str]:
    heading = (
        "RUN",
        "REGISTRY",
        "TRIGGER",
        "MODE",
        "OUTCOME",
        "STARTED",
        "TOOK",
        "PLANNED",
        "DELETED",
        "RECLAIMED",
        "MESSAGE",
    )
    rows = [
        (
            run.id,
            run.registry,
            run.trigger,
            run.mode,
            run.outcome or run.state,
            instant(run.started_at),
            took(run.started_at, run.finished_at),
            f"{run.planned:,}",
            f"{run.deleted:,}",
            bytes_text(run.reclaimed_bytes),
            run.message or "",
        )
        for run in runs
    ]
    if not rows:
        yield "No runs yet."
        return
    yield from table(heading, rows, right=frozenset({6, 7, 8, 9}), width=width)


def show_table(run: "Run", items: Iterable["PlannedItem"], width: int | None = None) -> Iterator[str]:
    """A run as a person asks about it: what it is, what it did, then every planned deletion."""
    yield from (f"{name:<12}{escaped(value)}" for name, value in _facts(run) if value)
    yield ""
    rows = [(*deletion_cells(one.decision), one.decision.rule or "", _state(one), _why(one)) for one in items]
    if not rows:
        yield "The plan deletes nothing." if run.plan_sha256 else "There is no plan (yet)."
        return
    heading = ("REPOSITORY", "DIGEST", "TAGS", "PUSHED", "SIZE", "RULE", "STATE", "WHY")
    yield from table(heading, rows, right=frozenset({4}), width=width)


def _state(item: "PlannedItem") -> str:
    return f"{item.state}: {item.outcome_cause}" if item.outcome_cause else item.state


def _why(item: "PlannedItem") -> str:
    """Why an image goes; first, where something was said of it, why it failed, was skipped, or what came beside it."""
    return f"{item.message}; planned: {item.decision.reason}" if item.message else item.decision.reason


def _facts(run: "Run") -> Iterator[tuple[str, str]]:
    yield "run", run.id
    yield "registry", run.registry
    yield "trigger", run.trigger + (f", due {instant(run.scheduled_for)}" if run.scheduled_for else "")
    yield "opened by", run.opened_by or ""
    yield "approved by", run.approved_by or ""
    yield "aborted by", run.aborted_by or ""
    yield "mode", run.mode
    yield "state", run.state + (f", {run.outcome}" if run.outcome else "")
    yield "message", run.message or ""
    yield "over limits", exceeded_text(run.exceeded)
    yield "doubt", f"push times are not believed: {run.doubt}" if run.doubt else ""
    yield "unreadable", "; ".join(f"{one['repository']}: {one['reason']}" for one in run.unreadable)
    yield from _listed(
        "unreadable", [f"{one['repository']}@{one['digest']}: {one['reason']}" for one in run.unreadable_images]
    )
    yield "undecidable", f"{counted(run.undecidable, 'image')} kept: no order was reported" if run.undecidable else ""
    yield from _listed("warnings", [one["message"] for one in run.warnings])
    yield "started", instant(run.started_at)
    yield "finished", instant(run.finished_at)
    yield "policy", f"{run.policy}, sha256 {run.policy_sha256[:12]}"
    yield "plan", f"sha256 {run.plan_sha256[:12]}" if run.plan_sha256 else ""
    yield "images", f"{run.images:,}, {bytes_text(run.registry_bytes)}"
    yield "planned", f"{counted(run.planned, 'image')}, {_bytes(run, run.reclaimable_bytes)} reclaimable"
    yield "done", outcome_text(run)
    yield from _listed("emptied", run.emptied_repositories)
    yield from _listed("raced", [_raced(one) for one in run.raced])
    yield from _listed("differences", [_difference(one) for one in run.differences])


def _listed(name: str, rows: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A fact of several rows: its name stands beside the first."""
    return (("" if number else name, row) for number, row in enumerate(rows))


def _raced(raced: dict[str, Any]) -> str:
    return f"pushed again: {', '.join(raced['tags'])}, while {raced['repository']}@{raced['digest']} was deleted"


def _difference(difference: dict[str, Any]) -> str:
    where = "@".join(part for part in (difference["repository"], difference["digest"]) if part)
    return f"{where}: {difference['difference']}" if where else str(difference["difference"])


def outcome_text(run: "Run") -> str:
    """`12 deleted, 1 skipped; 3.1 GiB reclaimed`; empty where nothing was done."""
    counts = [(run.deleted, "deleted"), (run.gone, "gone"), (run.skipped, "skipped"), (run.failed, "failed")]
    done = ", ".join(f"{number:,} {word}" for number, word in counts if number)
    return f"{done}; {_bytes(run, run.reclaimed_bytes)} reclaimed" if done else ""


def run_ndjson(run: "Run") -> Iterator[bytes]:
    """One RUN, without items."""
    yield _encoder.encode(run_json(run)) + b"\n"


def opened_text(run: "Run") -> Iterator[str]:
    yield f"run {run.id} of {run.registry} is open, mode {run.mode}; `registry-gc show {run.id}` tells how it goes"


def said_text(run: "Run", done: str) -> Iterator[str]:
    """What a person's word did: `run … of production: approved, now deleting`."""
    yield f"run {run.id} of {run.registry}: {done}, now {run.outcome or run.state}"


def ended_text(run: "Run") -> Iterator[str]:
    """How a run ended, in a few lines."""
    yield f"run {run.id} of {run.registry}: {run.outcome or run.state}" + (
        f": {escaped(run.message)}" if run.message else ""
    )
    planned = f"{counted(run.planned, 'image')} planned, {_bytes(run, run.reclaimable_bytes)} reclaimable"
    if run.plan_sha256:
        yield f"{planned}; {outcome_text(run) or 'nothing was deleted'}"
