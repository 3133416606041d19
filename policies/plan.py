"""survey -> summary -> decide -> totals: the one composition of a plan, over repositories that can be read twice.

A repository is decided as a whole. The facts of other repositories are gathered first: `survey_of` reads one
repository, `summarize` combines the surveys, `decide` uses the summary, `PlanSummaryBuilder` adds up the decisions.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from operator import attrgetter

from msgspec import Struct

from policies import push_times
from policies.blobs import digest_rows
from policies.context import EMPTY_CONTEXT, PlanContext
from policies.decide import Cause, Decision, Evaluation, ExplainedVerdict, Verdict, decisions
from policies.graph import Graph
from policies.image import Image, Unreadable
from policies.limits import Totals
from policies.reclaim import PlanSummary, PlanSummaryBuilder, RepositoryTotals, repository_totals
from policies.registry_summary import RegistrySummary, Survey, summarize, survey_of
from policies.rules import Policy
from policies.warnings import PlanWarning, keeps_nothing, undecidable

__all__ = ["make_plan", "decide", "unreadable_plan", "Plan", "RepositoryPlan", "PlannedDeletion", "Read"]
__all__ += ["Survey", "RegistrySummary", "Decision", "Verdict", "Cause", "PlanSummary"]

Read = Callable[[Collection[str] | None], Iterable[Graph]]  # the repositories of these paths; None: all, each once


class PlannedDeletion(Struct, frozen=True):
    """A decision to delete, with the images that are deleted before it."""

    decision: Decision
    image: Image
    owners: tuple[str, ...]  # digests, in this repository, of indexes and subjects: each is deleted first
    wave: int  # 0: has no owners; else one more than the greatest wave of its owners


@dataclass(frozen=True)
class RepositoryPlan:
    """The decisions on one repository."""

    path: str
    decisions: tuple[Decision, ...]  # newest first, then by digest
    totals: RepositoryTotals
    graph: Graph
    unread: tuple[str, ...] = ()  # digests of untagged images whose unreported subject decides, sorted

    @property
    def rule_selected(self) -> Mapping[str, int]:
        """How many images each select rule selects, before keeps."""
        return self.totals.rule_selected

    @cached_property
    def deletions(self) -> tuple[PlannedDeletion, ...]:
        """The deletions, in the order of the decisions."""
        owners = self.graph.owners
        pairs = zip(self.decisions, self.graph.images, strict=True)
        deleted = {decision.digest: (decision, image) for decision, image in pairs if decision.verdict == "delete"}
        waves = {digest: 0 for digest in deleted if digest not in owners}
        for digest in self.graph.order:
            if digest in deleted:
                waves[digest] = 1 + max(waves[owner] for owner in owners[digest])
        return tuple(
            PlannedDeletion(decision, image, owners.get(digest, ()), waves[digest])
            for digest, (decision, image) in deleted.items()
        )


@dataclass(frozen=True)
class Plan:
    """A plan without its decisions, which `make_plan` hands over repository by repository; never edited."""

    policy: Policy
    unreadable: tuple[Unreadable, ...]  # by repository, each once
    summary: PlanSummary
    surveys: tuple[Survey, ...]  # of the readable repositories
    plan_context: PlanContext  # of the decisions; its push times may be distrusted since

    @property
    def complete(self) -> bool:
        return not self.unreadable

    @property
    def totals(self) -> Totals:
        return self.summary.totals

    @property
    def warnings(self) -> tuple[PlanWarning, ...]:
        """The remarks that a person should read before they trust the plan. Only a complete plan with images warns of
        keep rules that match nothing: an unread repository may have a match.
        """
        keep_rules = self.policy.keep_rules if self.totals.images and self.complete else ()
        return (*undecidable(self.summary.undecidable), *keeps_nothing(keep_rules, self.summary.keeping))


def make_plan(
    read: Read,
    policy: Policy,
    now: datetime,
    save: Callable[[RepositoryPlan], None],
    *,
    unreadable: Iterable[Unreadable] = (),
    keep_per_repository: int = 0,
    plan_context: PlanContext = EMPTY_CONTEXT,
    number_blobs: bool = True,
) -> Plan:
    """The plan of a registry. `now` is aware.

    `save` receives every repository once it is decided, in any order; a repository that it receives again replaces the
    former one. `number_blobs`: whether `Plan.summary.freed_blobs` is needed.
    The first reading decides each repository that needs no facts of other repositories, a second reading the others.
    """
    failed = {failure.repository: failure for failure in sorted(unreadable, key=attrgetter("repository", "reason"))}
    surveys: list[Survey] = []
    waiting: set[str] = set()
    builder = PlanSummaryBuilder(number_blobs=number_blobs)

    def add(repository_plan: RepositoryPlan) -> None:
        save(repository_plan)
        builder.add(repository_plan.totals)

    def decided(graph: Graph, summary: RegistrySummary) -> RepositoryPlan:
        return decide(graph, policy, now, summary, keep_per_repository=keep_per_repository, plan_context=plan_context)

    for graph in read(None):
        if graph.path in failed:
            add(unreadable_plan(graph, failed[graph.path]))
            continue
        surveys.append(survey_of(graph, policy, now, plan_context))
        if policy.registry_rules() or graph.missing_subjects:
            waiting.add(graph.path)
        else:
            add(decided(graph, RegistrySummary()))
    if (suspicion := _suspicion(surveys, read, plan_context)) is not None:
        again = partial(make_plan, read, policy, now, save, unreadable=failed.values(), number_blobs=number_blobs)
        untrusted = replace(plan_context, push_times=push_times.distrust(suspicion))
        return again(keep_per_repository=keep_per_repository, plan_context=untrusted)
    if waiting:
        summary = summarize(surveys, policy, ordered=not plan_context.push_times.first_seen)
        for graph in read(waiting):
            add(decided(graph, summary))
    return Plan(policy, tuple(failed.values()), builder.build(), tuple(surveys), plan_context)


def _suspicion(surveys: Sequence[Survey], read: Read, plan_context: PlanContext) -> str | None:
    """Why the push times of the inventory are suspicious; None if they are not, or if they are not to be questioned."""
    if not plan_context.push_times.questioned:
        return None
    images = sum(len(survey.digests) for survey in surveys)
    paths = {survey.path for survey in surveys}
    if (shared := push_times.shared_time([survey.push_seconds for survey in surveys], images)) is not None:
        for graph in read(paths):
            reason = push_times.contradiction(graph.path, graph.images, plan_context.history_of(graph.path), shared)
            if reason is not None:
                return push_times.shared_time_suspicion(shared, reason)
    late = sum(survey.pushed_after_seen for survey in surveys)
    for graph in read(paths) if push_times.is_majority(late, images) else ():
        ordered, history = sorted(graph.images, key=attrgetter("digest")), plan_context.history_of(graph.path)
        rows = digest_rows([image.digest for image in ordered])
        for image, is_late in zip(ordered, push_times.pushed_after_seen(ordered, rows, history).tolist(), strict=True):
            if is_late:
                return push_times.late_push_suspicion(late, images, graph.path, image, history)
    return None


def decide(
    graph: Graph,
    policy: Policy,
    now: datetime,
    summary: RegistrySummary,
    *,
    keep_per_repository: int = 0,
    plan_context: PlanContext = EMPTY_CONTEXT,
) -> RepositoryPlan:
    """The decisions on one repository."""
    evaluation = Evaluation(graph, policy, now, summary, keep_per_repository, plan_context)
    made = evaluation.decisions()
    deleted = evaluation.deleting.keys()
    totals = repository_totals(
        graph.blobs,
        deleted,
        counts=Totals(
            images=len(made),
            keep=len(made) - len(deleted),
            delete=len(deleted),
            selected_bytes=sum([decision.size or 0 for decision in made if decision.verdict == "delete"]),
        ),
        rule_selected=evaluation.selected,
        keeping=frozenset(evaluation.keeping),
        undecidable=len(evaluation.undecidable.difference(deleted)),
    )
    return RepositoryPlan(graph.path, made, totals, graph, tuple(sorted(evaluation.unread)))


def unreadable_plan(graph: Graph, failure: Unreadable) -> RepositoryPlan:
    """Keeps every image of a repository that could not be listed whole. The images count in no total. A blob that one
    of its images names counts as needed: no deletion in another repository frees it.
    """
    reason = f"the repository could not be listed: {failure.reason}"
    verdict: ExplainedVerdict = ("keep", "unreadable", None, (), reason)
    totals = repository_totals(graph.blobs, (), counts=Totals(), rule_selected={}, readable=False)
    made = decisions(graph.path, graph.images, {image.digest: verdict for image in graph.images})
    return RepositoryPlan(graph.path, made, totals, graph)
