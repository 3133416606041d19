"""Decides on every image of a listed registry by the policies, and adds limits and warnings to the plan.

`scan` lists the registry and stores the plan.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from policies.context import EMPTY_CONTEXT, PlanContext
from policies.graph import Graph, build_graph
from policies.image import UnreadableImage
from policies.limits import Exceeded, exceeded
from policies.plan import Plan, RepositoryPlan, make_plan
from policies.push_times import FIRST_SEEN_TIMES, TRUSTED, PushTimeTrust, distrust, trusted_after
from policies.warnings import PlanWarning
from worker.config.settings import RegistrySettings
from worker.planning.inventory import Inventory
from worker.planning.manifest_problems import ManifestProblems
from worker.planning.scan_history import HistoryComparison, compare
from worker.planning.spool import Decisions
from worker.runs.tags_read import tags_not_read
from worker.store.scan_history import RegistryHistory

NEVER_SCANNED = RegistryHistory()


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of a listed registry, its decisions in a spool."""

    inventory: Inventory
    registry: RegistrySettings
    now: datetime
    plan: Plan
    decisions: Decisions
    exceeded: tuple[Exceeded, ...]
    compared: HistoryComparison
    warnings: tuple[PlanWarning, ...] = ()
    unreadable_images: tuple[UnreadableImage, ...] = ()
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # path -> digests whose subject is not reported

    @property
    def suspicion(self) -> str:
        """Why push times are not trusted; empty: they are, or a person has said since when they are."""
        return "" if self.registry.trust_times_after is not None else self.plan.plan_context.push_times.suspicion


def plan(
    inventory: Inventory,
    registry: RegistrySettings,
    now: datetime,
    plan_context: PlanContext = EMPTY_CONTEXT,
    before: RegistryHistory = NEVER_SCANNED,
) -> Planned:
    """Decide on every image of an inventory; `before` is the scan history. Pure except for the spool."""
    context = replace(
        plan_context,
        history=before.without_gone,
        settle=registry.settle,
        push_times=_push_times(registry, before),
        ignore_unreadable=frozenset(registry.ignore_unreadable),
    )
    decisions = Decisions()
    unread: dict[str, tuple[str, ...]] = {}
    problems = ManifestProblems(context.ignore_unreadable, inventory.unread)
    tags: dict[str, int] = {}  # path -> number of tags, of repositories with deletions

    def read(only: Collection[str] | None) -> Iterator[Graph]:
        return map(build_graph, inventory.repositories(only))

    def add(decided: RepositoryPlan) -> None:
        decisions.add(decided)
        problems.add(decided.path, decided.graph.images)
        unread[decided.path] = decided.unread
        tags[decided.path] = sum(len(image.tags) for image in decided.graph.images) if decided.deletions else 0

    n = registry.keep_per_repository
    made = make_plan(
        read, registry.policy, now, add, unreadable=inventory.unreadable, keep_per_repository=n, plan_context=context
    )
    compared = compare(before, made.surveys, inventory.unreadable, registry.asks_for)
    return Planned(
        inventory,
        registry,
        now,
        made,
        decisions,
        exceeded(made.totals, registry.limits) + compared.exceeded,
        compared,
        warnings=(*made.warnings, *problems.warnings(), *tags_not_read(tags, registry)),
        unreadable_images=problems.unreadable,
        unread={path: digests for path, digests in unread.items() if digests},
    )


def _push_times(registry: RegistrySettings, before: RegistryHistory) -> PushTimeTrust:
    """The trust in push times before this inventory. A suspicion stays until a person answers it.

    Times of first listings are the store's own: a whole registry seen first in one scan is not suspicious.
    """
    trusted = registry.trust_times_after
    if not registry.reports_push_time:
        own = FIRST_SEEN_TIMES if trusted is None else trusted_after(trusted, first_seen=True)
        return replace(own, returned=frozenset(before.last_scan.returned if before.last_scan else ()))
    if trusted is not None:
        return trusted_after(trusted)
    suspicion = before.last_scan.suspicion if before.last_scan else ""
    return distrust(suspicion) if suspicion else TRUSTED
