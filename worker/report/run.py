"""Runs and their deletions as tables and JSON."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from policies.limits import exceeded_text
from policies.units import bytes_text
from worker.config import kinds
from worker.config.settings import kind_in
from worker.report.plan import IMAGE_COLUMNS
from worker.report.report import Column, Report
from worker.runs.outcome import difference_text, present, run_json
from worker.text import counted, escaped, instant, took

if TYPE_CHECKING:  # the store imports SQLAlchemy
    from worker.store.plans import PlannedItem
    from worker.store.runs import Run

SHOWN_KEYS = (
    *("exceeded", "unreadable", "unreadable_images", "undecidable", "warnings", "emptied_repositories", "differences"),
)
OUTCOME_KEYS = ("state", "outcome_cause", "message", "operation_id", "attempts", "at")


def shown_json(run: "Run") -> dict[str, Any]:
    """The JSON of `show` without its items: the keys of every run, and those of SHOWN_KEYS that are not empty."""
    bound = {} if _is_exact(run) else {"reclaimable_is_upper_bound": True}
    raced = {"raced": run.raced_pushes} if run.raced_pushes else {}
    return run_json(run) | bound | present(run, SHOWN_KEYS) | raced


def _is_exact(run: "Run") -> bool:
    """Whether the run's bytes are exact. Images that a registry does not list may share some of them."""
    return kinds.kind_of(kind_in(run.registry_key)).lists_untagged


def _bytes(run: "Run", size: int) -> str:
    return bytes_text(size) if _is_exact(run) else f"at most {bytes_text(size)}"


def item_json(item: "PlannedItem") -> dict[str, Any]:
    """A decision, then its outcome."""
    decision: dict[str, Any] = msgspec.to_builtins(item.decision)
    return decision | {key: getattr(item, key) for key in OUTCOME_KEYS}


def runs_report(runs: Sequence["Run"]) -> Report:
    """One run per row."""
    columns = (
        Column("RUN", lambda run: run.id),
        Column("REGISTRY", lambda run: run.registry),
        Column("TRIGGER", lambda run: run.trigger),
        Column("MODE", lambda run: run.mode),
        Column("OUTCOME", lambda run: run.outcome or run.state),
        Column("STARTED", lambda run: instant(run.started_at)),
        Column("TOOK", lambda run: took(run.started_at, run.finished_at), right=True),
        Column("PLANNED", lambda run: f"{run.planned:,}", right=True),
        Column("DELETED", lambda run: f"{run.deleted:,}", right=True),
        Column("RECLAIMED", lambda run: bytes_text(run.reclaimed_bytes), right=True),
        Column("MESSAGE", lambda run: run.message or ""),
    )
    return Report(key="runs", rows=runs, row=run_json, columns=columns, nothing="No runs yet.")


def run_report(run: "Run", *lines: str) -> Report:
    """One run without its items; `lines` are its table."""
    return Report(head=run_json(run), above=map(escaped, lines))


def show_report(run: "Run", items: Iterable["PlannedItem"]) -> Report:
    """A run: its facts and totals, then one planned deletion per row."""
    columns = (
        *(column.of(lambda item: item.decision) for column in IMAGE_COLUMNS),
        Column("RULE", lambda item: item.decision.rule or ""),
        Column("STATE", lambda item: f"{item.state}: {item.outcome_cause}" if item.outcome_cause else item.state),
        Column(
            "REASON",
            lambda item: f"{item.message}; planned: {item.decision.reason}" if item.message else item.decision.reason,
        ),
    )
    return Report(
        head=shown_json(run),
        key="items",
        rows=items,
        row=item_json,
        above=(*(f"{name:<12}{escaped(value)}" for name, value in _facts(run) if value), ""),
        columns=columns,
        nothing="The plan deletes nothing." if run.plan_sha256 else "There is no plan (yet).",
    )


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
    yield "push times", f"not trusted: {run.suspicion}" if run.suspicion else ""
    yield "unreadable", "; ".join(f"{row['repository']}: {row['reason']}" for row in run.unreadable)
    yield from _listed(
        "unreadable", [f"{row['repository']}@{row['digest']}: {row['reason']}" for row in run.unreadable_images]
    )
    yield "undecidable", f"{counted(run.undecidable, 'image')} kept: their order is unknown" if run.undecidable else ""
    yield from _listed("warnings", [warning["message"] for warning in run.warnings])
    yield "started", instant(run.started_at)
    yield "finished", instant(run.finished_at)
    yield "policy", f"{run.policy}, sha256 {run.policy_sha256[:12]}"
    yield "plan", f"sha256 {run.plan_sha256[:12]}" if run.plan_sha256 else ""
    yield "images", f"{run.images:,}, {bytes_text(run.registry_bytes)}"
    yield "planned", f"{counted(run.planned, 'image')}, {_bytes(run, run.reclaimable_bytes)} reclaimable"
    yield "done", outcome_text(run)
    yield from _listed("emptied", run.emptied_repositories)
    raced = "{} pushed again while {repository}@{digest} was deleted"
    yield from _listed("raced", [raced.format(", ".join(row["tags"]), **row) for row in run.raced_pushes])
    yield from _listed("differences", map(difference_text, run.differences))


def _listed(name: str, rows: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A fact of several rows; only the first has its name."""
    return (("" if number else name, row) for number, row in enumerate(rows))


def outcome_text(run: "Run") -> str:
    """`12 deleted, 1 skipped; 3.1 GiB reclaimed`; empty if there are no outcomes."""
    counts = [(run.deleted, "deleted"), (run.gone, "gone"), (run.skipped, "skipped"), (run.failed, "failed")]
    done = ", ".join(f"{number:,} {word}" for number, word in counts if number)
    return f"{done}; {_bytes(run, run.reclaimed_bytes)} reclaimed" if done else ""


def ended_report(run: "Run") -> Report:
    """The outcome of a run in one or two lines."""
    lines = [
        f"run {run.id} of {run.registry}: {run.outcome or run.state}" + (f": {run.message}" if run.message else "")
    ]
    if run.plan_sha256:
        planned = f"{counted(run.planned, 'image')} planned, {_bytes(run, run.reclaimable_bytes)} reclaimable"
        lines.append(f"{planned}; {outcome_text(run) or 'nothing was deleted'}")
    return run_report(run, *lines)
