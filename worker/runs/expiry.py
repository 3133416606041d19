"""When a run has waited too long, or may delete nothing more: the age of its plan, its deadline, its sources."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from policies.units import duration_text
from worker.runs.terms import missing_source, registry_of, why_not_there
from worker.store import Store, runs
from worker.store.runs import Run

if TYPE_CHECKING:
    from worker.config.settings import RegistrySettings, Settings

PLAN_MAX_AGE = timedelta(hours=24)  # where neither the file nor the plan has one


def plan_is_good_until(run: Run, registry: "RegistrySettings | None") -> datetime:
    """A plan's last moment: its age counts from the scan's start, and an approval does not lengthen it.

    `registry` None: the file does not have it.
    """
    age = run.terms.plan_max_age if registry is None else registry.plan_max_age
    return (run.started_at or run.opened_at) + (PLAN_MAX_AGE if age is None else age)


def late(run: Run, registry: "RegistrySettings", now: datetime) -> tuple[str, str] | None:
    """Why a run may delete nothing more now, as a stop and its message; None: it may."""
    if (missing := missing_source(registry, run.terms)) is not None:
        return "failed", missing
    if now >= plan_is_good_until(run, registry):
        return "expired", "the plan grew older than plan_max_age; what is left stays for the next run"
    if registry.deadline is not None and run.deleting_at is not None and now >= run.deleting_at + registry.deadline:
        return "deadline", "the deadline passed; what is left stays for the next run"
    return None


def expire(store: Store, settings: "Settings", run: Run, now: datetime) -> bool:
    """Finish a run that waited too long: a pending one that nobody began, or a blocked one that nobody approved.

    A blocked one whose registry left the file is finished, too. False: it may wait on, or waits for nothing.
    """
    registry = registry_of(settings, run)
    if run.state not in ("pending", "blocked") or (registry is not None and now < plan_is_good_until(run, registry)):
        return False
    if run.state == "blocked":
        why = "nobody approved the plan within plan_max_age" if registry is not None else why_not_there(settings, run)
        outcome, message = "blocked", f"expired: {why}"
    elif registry is not None:
        age = duration_text(registry.plan_max_age)
        outcome, message = "missed", f"no worker began it within plan_max_age ({age}); see whether one is running"
    else:
        return False  # its scan says why
    with store.write() as connection:
        return runs.finish(connection, run, run.state, outcome, now, message)
