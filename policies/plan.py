"""survey -> summary -> decide -> totals: the one composition of a plan, over repositories that can be read twice.

A repository is decided as a whole. What must be known of the others is gathered first: `survey_of` sees one repository,
`sum_up` brings the surveys together, `decide` uses that, `close` adds up what was decided.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from operator import attrgetter

from msgspec import Struct

from policies.blobs import digest_rows
from policies.context import NOTHING, PlanContext
from policies.decide import Cause, Decision, Evaluation, Settled, Verdict, decisions
from policies.graph import Graph
from policies.image import Image, Unreadable
from policies.limits import Totals
from policies.push_times import cluster, contradiction, distrust, is_most, late, suspicion_of, suspicion_of_late
from policies.reclaim import PlanSummary, PlanSummaryBuilder, RepositoryTotals, repository_totals
from policies.registry_summary import RegistrySummary, Survey, sum_up, survey_of
from policies.rules import Policy
from policies.warnings import PlanWarning, keeps_nothing, undecidable

__all__ = ["make_plan", "decide", "unreadable_plan", "Plan", "RepositoryPlan", "PlannedDeletion", "Read"]
__all__ += ["Survey", "RegistrySummary", "Decision", "Verdict", "Cause", "PlanSummary"]

Read = Callable[[Collection[str] | None], Iterable[Graph]]  # the repositories of these paths; None: all, each once


class PlannedDeletion(Struct, frozen=True):
    """A decision to delete, with what must be gone before it."""

    decision: Decision
    image: Image
    owners: tuple[str, ...]  # digests, in this repository, of indexes and subjects: each is deleted first
    wave: int  # 0: needs nothing to be gone; else one more than the greatest of its owners


@dataclass(frozen=True)
class RepositoryPlan:
    """One repository, decided."""

    path: str
    decisions: tuple[Decision, ...]  # newest first, then by digest
    totals: RepositoryTotals
    graph: Graph
    unread: tuple[str, ...] = ()  # digests of untagged images whose subject decides and was not reported

    @property
    def rule_selected(self) -> Mapping[str, int]:
        """How many images each select rule selects, before keeps."""
        return self.totals.rule_selected

    @cached_property
    def deletions(self) -> tuple[PlannedDeletion, ...]:
        """What goes, in the order of the decisions."""
        owners_of = self.graph.owners
        pairs = zip(self.decisions, self.graph.images, strict=True)
        goes = {made.digest: (made, image) for made, image in pairs if made.verdict == "delete"}
        waves = {digest: 0 for digest in goes if digest not in owners_of}
        for digest in self.graph.order:
            if digest in goes:
                waves[digest] = 1 + max(waves[owner] for owner in owners_of[digest])
        return tuple(
            PlannedDeletion(made, image, owners_of.get(digest, ()), waves[digest])
            for digest, (made, image) in goes.items()
        )


@dataclass(frozen=True)
class Plan:
    """A plan, whole but for its decisions, which `make_plan` handed over repository by repository; never edited."""

    policy: Policy
    unreadable: tuple[Unreadable, ...]  # by repository, each once
    summary: PlanSummary
    surveys: tuple[Survey, ...]  # of the readable repositories
    plan_context: PlanContext  # what decided beside the inventory: push times may have turned out doubtful

    @property
    def complete(self) -> bool:
        return not self.unreadable

    @property
    def totals(self) -> Totals:
        return self.summary.totals

    @property
    def warnings(self) -> tuple[PlanWarning, ...]:
        """What a person should know of it."""
        keep_rules = self.policy.keep_rules if self.totals.images and self.complete else ()
        return (*undecidable(self.summary.undecidable), *keeps_nothing(keep_rules, self.summary.keeping))


def make_plan(
    read: Read,
    policy: Policy,
    now: datetime,
    keep: Callable[[RepositoryPlan], None],
    *,
    unreadable: Iterable[Unreadable] = (),
    keep_per_repository: int = 0,
    plan_context: PlanContext = NOTHING,
    numbered: bool = True,
) -> Plan:
    """The plan of a registry. `now` is aware.

    `keep` is given every repository when it is decided, in any order; given one again, it forgets what it was given
    before. `numbered`: whether somebody will ask which blobs a deletion frees.
    A repository that needs nothing of the others is decided at the first reading, the others at a second one.
    """
    failed = {one.repository: one for one in sorted(unreadable, key=attrgetter("repository", "reason"))}
    surveys: list[Survey] = []
    waiting: set[str] = set()
    reclaim = PlanSummaryBuilder(numbered=numbered)

    def take(decided: RepositoryPlan) -> None:
        keep(decided)
        reclaim.add(decided.totals)

    def decided(graph: Graph, summary: RegistrySummary) -> RepositoryPlan:
        return decide(graph, policy, now, summary, keep_per_repository=keep_per_repository, plan_context=plan_context)

    for graph in read(None):
        if graph.path in failed:
            take(unreadable_plan(graph, failed[graph.path]))
            continue
        surveys.append(survey_of(graph, policy, now, plan_context))
        if policy.of_registry() or graph.open_subjects:
            waiting.add(graph.path)
        else:
            take(decided(graph, RegistrySummary()))
    if (suspicion := _suspicion(surveys, read, plan_context)) is not None:
        again = partial(make_plan, read, policy, now, keep, keep_per_repository=keep_per_repository, numbered=numbered)
        return again(unreadable=failed.values(), plan_context=replace(plan_context, times=distrust(suspicion)))
    if waiting:
        summary = sum_up(surveys, policy, ordered=not plan_context.times.first_seen)
        for graph in read(waiting):
            take(decided(graph, summary))
    return Plan(policy, tuple(failed.values()), reclaim.close(), tuple(surveys), plan_context)


def _suspicion(surveys: Sequence[Survey], read: Read, plan_context: PlanContext) -> str | None:
    """Why push times that were trusted so far are not to be; None: nothing says so, or a person has answered it."""
    if not plan_context.times.questioned:
        return None
    images = sum(len(one.digests) for one in surveys)
    found = cluster([one.pushes for one in surveys], images)
    paths = {one.path for one in surveys}
    if found is not None:
        whys = (contradiction(one.path, one.images, plan_context.seen(one.path), found) for one in read(paths))
        if (why := next((why for why in whys if why is not None), None)) is not None:
            return suspicion_of(found, why)
    if not is_most(count := sum(one.late for one in surveys), images):
        return None
    path, image = next((one.path, image) for one in read(paths) for image in _late_images(one, plan_context)[:1])
    return suspicion_of_late(count, images, path, image, plan_context.seen(path))


def _late_images(graph: Graph, plan_context: PlanContext) -> list[Image]:
    images = sorted(graph.images, key=attrgetter("digest"))
    which = late(images, digest_rows([image.digest for image in images]), plan_context.seen(graph.path))
    return [image for image, is_late in zip(images, which.tolist(), strict=True) if is_late]


def decide(
    graph: Graph,
    policy: Policy,
    now: datetime,
    summary: RegistrySummary,
    *,
    keep_per_repository: int = 0,
    plan_context: PlanContext = NOTHING,
) -> RepositoryPlan:
    """A verdict for every image of one repository."""
    evaluation = Evaluation(graph, policy, now, summary, keep_per_repository, plan_context)
    made = evaluation.decisions()
    goes = evaluation.goes
    held = repository_totals(
        graph.blobs,
        goes,
        counts=Totals(
            images=len(made),
            keep=len(made) - len(goes),
            delete=len(goes),
            selected_bytes=sum([one.size or 0 for one in made if one.verdict == "delete"]),
        ),
        rule_selected=evaluation.selected,
        keeping=frozenset(evaluation.keeping),
        undecidable=len(evaluation.undecidable.difference(goes)),
    )
    return RepositoryPlan(graph.path, made, held, graph, evaluation.unread)


def unreadable_plan(graph: Graph, failed: Unreadable) -> RepositoryPlan:
    """Everything of a repository that could not be listed whole stays, and counts in no total; its blobs are in use."""
    stays: Settled = ("keep", "unreadable", None, (), f"the repository could not be listed: {failed.reason}")
    held = repository_totals(graph.blobs, (), counts=Totals(), rule_selected={}, readable=False)
    kept = decisions(graph.path, graph.images, {image.digest: stays for image in graph.images})
    return RepositoryPlan(graph.path, kept, held, graph)
