"""The composition of `policies.plan` over repositories in memory: what production feeds from a registry or a file."""

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from policies import plan as composition
from policies.context import EMPTY_CONTEXT, PlanContext
from policies.graph import Graph, build_graph
from policies.image import Image, Repository
from policies.limits import Limits, exceeded
from policies.plan import Decision, Plan, RepositoryPlan
from policies.reclaim import PlanSummary
from policies.registry_summary import RegistrySummary
from policies.rules import Policy
from worker.planning.offline import plan_inventory
from worker.report.plan import PlanHead

ALONE = RegistrySummary()


class WholePlan(PlanHead, frozen=True, kw_only=True):
    """A plan with its decisions. Its JSON is the command's."""

    decisions: tuple[Decision, ...]


def reading(repositories: Iterable[Repository]) -> Callable[[Collection[str] | None], Iterator[Graph]]:
    """Repositories as the composition reads them. Rows that come under one path twice are one repository."""
    rows: dict[str, list[Image]] = {}
    for repository in repositories:
        rows.setdefault(repository.path, []).extend(repository.images)

    def read(only: Collection[str] | None) -> Iterator[Graph]:
        whole = (Repository(path=path, images=tuple(images)) for path, images in rows.items())
        return (build_graph(repository) for repository in whole if only is None or repository.path in only)

    return read


def composed(
    repositories: Iterable[Repository], policy: Policy, now: datetime, **more: Any
) -> tuple[Plan, dict[str, RepositoryPlan]]:
    """The plan, and what it was given by repository."""
    kept: dict[str, RepositoryPlan] = {}
    plan = composition.make_plan(
        reading(repositories),
        policy,
        now,
        lambda repository_plan: kept.__setitem__(repository_plan.path, repository_plan),
        **more,
    )
    return plan, dict(sorted(kept.items()))


def make_plan(
    repositories: Iterable[Repository],
    policy: Policy,
    now: datetime,
    *,
    registry: str | None = None,
    limits: Limits | None = None,
    **more: Any,
) -> WholePlan:
    """The plan of a registry that fits in memory. `limits=None`: none are asked."""
    plan, kept = composed(repositories, policy, now, **more)
    over = exceeded(plan.totals, limits) if limits is not None else ()
    decisions = tuple(made for repository_plan in kept.values() for made in repository_plan.decisions)
    return WholePlan(**head(plan, now, registry=registry, exceeded=over), decisions=decisions)


def summary_of(repositories: Iterable[Repository], policy: Policy, now: datetime, **more: Any) -> PlanSummary:
    return composed(repositories, policy, now, **more)[0].summary


def decide(
    repository: Repository,
    policy: Policy,
    now: datetime,
    summary: RegistrySummary = ALONE,
    *,
    keep_per_repository: int = 0,
    plan_context: PlanContext = EMPTY_CONTEXT,
) -> RepositoryPlan:
    """One repository, decided beside what is known of the others."""
    return composition.decide(
        build_graph(repository),
        policy,
        now,
        summary,
        keep_per_repository=keep_per_repository,
        plan_context=plan_context,
    )


def head(plan: Plan, now: datetime, **more: Any) -> dict[str, Any]:
    """What stands in a plan's first line."""
    return {
        "registry": None,
        "policy": plan.policy.name,
        "now": now.astimezone(UTC),
        "complete": plan.complete,
        "unreadable": plan.unreadable,
        "totals": plan.totals,
        "exceeded": (),
        "warnings": plan.warnings,
        "undecidable": plan.summary.undecidable,
        **more,
    }


def offline_ndjson(path: Path, policy: Policy, now: datetime, **more: Any) -> bytes:
    """The plan of a saved inventory as the command prints it in NDJSON."""
    with plan_inventory(path, policy, now, **more) as planned:
        first = msgspec.json.encode(PlanHead(**head(planned.plan, now)))
        return first + b"\n" + b"".join(planned.decisions.lines())
