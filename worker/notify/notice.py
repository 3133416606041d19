"""A message about one run as plain text: a title, a table of about ten lines, and the command to type next."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from policies.units import bytes_text
from worker.text import counted, escaped, shortened, took

if TYPE_CHECKING:  # the store imports SQLAlchemy
    from worker.store.runs import Run

NAME = 100  # characters of a name
WHY = 800  # characters of a registry's message
LONGEST = 1900  # characters of the body: the smallest limit of a service is 2,000


def notice_title(run: "Run") -> str:
    """One line: `registry-gc: production: blocked`."""
    return f"registry-gc: {_shown(run.registry, NAME)}: {run.outcome or run.state}"


def notice_body(run: "Run") -> str:
    """The outcome, the numbers and the next command, in at most LONGEST characters."""
    table = [f"{name:<10} {value}" for name, value in _facts(run) if value]
    return "\n".join([*table, "", *_next(run)])[:LONGEST]


def _shown(text: str, most: int) -> str:
    """Foreign text on one line, escaped and shortened."""
    return shortened(escaped(" ".join(text.split())), most)


def _facts(run: "Run") -> Iterator[tuple[str, str]]:
    yield "registry", _shown(run.registry, NAME)
    yield "run", f"{run.id}, {run.trigger}, {run.mode}"
    yield "outcome", run.outcome or run.state
    yield "why", _shown("; ".join(_reasons(run)), WHY)
    if run.plan_sha256 is not None:
        yield "images", f"{run.images:,}; {bytes_text(run.registry_bytes)}"
        yield "planned", f"{run.planned:,}; {bytes_text(run.reclaimable_bytes)} reclaimable"
        yield "deleted", f"{run.deleted:,}; {bytes_text(run.reclaimed_bytes)} reclaimed"
        yield "gone", f"{run.gone:,}"
        yield "skipped", f"{run.skipped:,}"
        yield "failed", f"{run.failed:,}"
    yield "audit", run.audit_sha256
    yield "took", took(run.started_at, run.finished_at or run.planned_at)


def _reasons(run: "Run") -> Iterator[str]:
    if run.message:
        yield run.message
    if run.unreadable:
        yield f"{counted(len(run.unreadable), 'repository', 'repositories')} could not be read"
    if run.raced_pushes:
        yield f"{counted(len(run.raced_pushes), 'image')} had a tag that was pushed again during the deletion"
    if run.differences:
        yield f"{counted(len(run.differences), 'difference')} found after the sweep"


def _next(run: "Run") -> Iterator[str]:
    """The command to type next."""
    show = f"registry-gc show {run.id}"
    if run.state == "blocked":
        yield f"Read the plan: {show}"
        yield f"Then approve or abort it: registry-gc approve {run.id}, or registry-gc abort {run.id}"
    elif run.outcome == "failed":
        yield "Check configuration, network and permissions: registry-gc check --online"
    elif run.outcome == "blocked":
        yield f"Read what it would have deleted: {show}"
        yield f"Start a new run: registry-gc sweep {shlex.quote(_shown(run.registry, NAME))}"
    else:
        yield f"Read the result: {show}"
