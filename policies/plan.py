"""survey(repository) -> columns; decide(repository, …) -> decisions; close(…) -> totals; make_plan composes them.

A repository is decided as a whole and apart from the others. What one must know of the others is gathered before:
`survey` sees one repository, `across` sums up the surveys, `decide` uses that; `close` adds up what was decided.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter

from msgspec import Struct

from policies.blobs import words
from policies.context import NOTHING, Standing
from policies.decide import Cause, Decision, Jury, Verdict, decision
from policies.graph import Ties, arrange, merged
from policies.image import Image, Repository, Unreadable, UnreadableImage
from policies.limits import Exceeded, Limits, Totals, exceeded
from policies.push_times import cluster, contradiction, doubt_of, doubt_of_late, doubted, is_most, late
from policies.reclaim import Closing, Columns, close, columns
from policies.registry_summary import Across, Survey, sum_up, survey_of
from policies.rules import Policy
from policies.warnings import PlanWarning, keeps_nothing, undecidable

__all__ = [
    "make_plan",
    "survey",
    "survey_all",
    "across",
    "decide",
    "decide_of",
    "unreadable_plan",
    "unreadable_plan_of",
    "close",
]
__all__ += ["Survey", "Across", "RepositoryPlan", "Decision", "Deletion", "Verdict", "Cause", "Standing"]
__all__ += ["Columns", "Closing", "Totals", "Plan"]


@dataclass(frozen=True)
class Deletion:
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
    columns: Columns
    ties: Ties
    unread: tuple[str, ...] = ()  # digests of untagged images whose subject decides and was not reported

    @property
    def rule_selected(self) -> Mapping[str, int]:
        """How many images each select rule selects, before keeps."""
        return self.columns.rule_selected

    @cached_property
    def deletions(self) -> tuple[Deletion, ...]:
        """What goes, in the order of the decisions."""
        owners_of = self.ties.owners
        pairs = zip(self.decisions, self.ties.images, strict=True)
        goes = {made.digest: (made, image) for made, image in pairs if made.verdict == "delete"}
        waves = {digest: 0 for digest in goes if digest not in owners_of}
        for digest in self.ties.order:
            if digest in goes:
                waves[digest] = 1 + max(waves[owner] for owner in owners_of[digest])
        return tuple(
            Deletion(made, image, owners_of.get(digest, ()), waves[digest]) for digest, (made, image) in goes.items()
        )


class Plan(Struct, frozen=True, kw_only=True):
    """A verdict for every image of an inventory; never edited. Its JSON is the command's."""

    registry: str | None
    policy: str
    now: datetime
    complete: bool
    unreadable: tuple[Unreadable, ...]
    totals: Totals
    exceeded: tuple[Exceeded, ...]
    warnings: tuple[PlanWarning, ...] = ()
    undecidable: int = 0  # images kept because nobody reported an order between them and others
    unreadable_images: tuple[UnreadableImage, ...] = ()
    decisions: tuple[Decision, ...]


def make_plan(
    repositories: Iterable[Repository],
    policy: Policy,
    now: datetime,
    *,
    registry: str | None = None,
    unreadable: Iterable[Unreadable] = (),
    limits: Limits | None = None,
    keep_per_repository: int = 0,
    standing: Standing = NOTHING,
) -> Plan:
    """The plan of a registry that fits in memory. `now` is aware; `limits=None`: none are asked."""
    failed = {one.repository: one for one in sorted(unreadable, key=lambda one: (one.repository, one.reason))}
    rows: dict[str, list[Image]] = {}
    for repository in repositories:
        rows.setdefault(repository.path, []).extend(repository.images)
    whole = [Repository(path=path, images=tuple(images)) for path, images in sorted(rows.items())]
    surveys, standing = survey_all(lambda: (one for one in whole if one.path not in failed), policy, now, standing)
    known = across(surveys, policy, standing)
    plans = [
        unreadable_plan(one, failed[one.path])
        if one.path in failed
        else decide(one, policy, now, known, keep_per_repository=keep_per_repository, standing=standing)
        for one in whole
    ]
    closing = close(plan.columns for plan in plans)
    totals = closing.totals
    kept_by = policy.keep_rules if totals.images and not failed else ()
    return Plan(
        registry=registry,
        policy=policy.name,
        now=now.astimezone(UTC),
        complete=not failed,
        unreadable=tuple(failed.values()),
        totals=totals,
        exceeded=exceeded(totals, limits) if limits is not None else (),
        warnings=(*undecidable(closing.undecidable), *keeps_nothing(kept_by, closing.keeping)),
        undecidable=closing.undecidable,
        decisions=tuple(made for plan in plans for made in plan.decisions),
    )


def survey(repository: Repository, policy: Policy, now: datetime, standing: Standing = NOTHING) -> Survey:
    """What the other repositories must know of this one."""
    seen = standing.seen(repository.path)
    return survey_of(arrange(repository), policy, now, seen, standing.times, standing.ignore_unreadable)


def survey_all(
    repositories: Callable[[], Iterable[Repository]], policy: Policy, now: datetime, standing: Standing = NOTHING
) -> tuple[list[Survey], Standing]:
    """The surveys of all readable repositories, and what stands for the decisions: push times may turn out doubtful.

    `repositories` gives them all each time it is called; it is called once where nothing is suspicious.
    """
    surveys = [survey(one, policy, now, standing) for one in repositories()]
    if standing.times.first_seen or not standing.times.all_believed:
        return surveys, standing
    why = _doubt(surveys, repositories, standing)
    if why is None:
        return surveys, standing
    standing = replace(standing, times=doubted(why))
    return [survey(one, policy, now, standing) for one in repositories()], standing


def _doubt(
    surveys: Sequence[Survey], repositories: Callable[[], Iterable[Repository]], standing: Standing
) -> str | None:
    """Why push times cannot be believed; None: nothing says so."""
    images = sum(len(one.digests) for one in surveys)
    found = cluster([one.pushes for one in surveys], images)
    if found is not None:
        whys = (contradiction(one.path, merged(one.images), standing.seen(one.path), found) for one in repositories())
        if (why := next((why for why in whys if why is not None), None)) is not None:
            return doubt_of(found, why)
    if not is_most(count := sum(one.late for one in surveys), images):
        return None
    path, image = next((one.path, image) for one in repositories() for image in _late_images(one, standing)[:1])
    return doubt_of_late(count, images, path, image, standing.seen(path))


def _late_images(repository: Repository, standing: Standing) -> list[Image]:
    images = sorted(merged(repository.images), key=attrgetter("digest"))
    which = late(images, words([image.digest for image in images]), standing.seen(repository.path))
    return [image for image, is_late in zip(images, which.tolist(), strict=True) if is_late]


def across(surveys: Iterable[Survey], policy: Policy, standing: Standing = NOTHING) -> Across:
    """What the surveys of all readable repositories come to, in whatever order they come."""
    return sum_up(surveys, policy, ordered=not standing.times.first_seen)


def decide(
    repository: Repository,
    policy: Policy,
    now: datetime,
    across: Across,
    *,
    keep_per_repository: int = 0,
    standing: Standing = NOTHING,
) -> RepositoryPlan:
    """A verdict for every image of one repository."""
    ties = arrange(repository)
    return decide_of(ties, policy, now, across, keep_per_repository=keep_per_repository, standing=standing)


def decide_of(
    ties: Ties,
    policy: Policy,
    now: datetime,
    across: Across,
    *,
    keep_per_repository: int = 0,
    standing: Standing = NOTHING,
) -> RepositoryPlan:
    """`decide` of a repository that is already arranged."""
    jury = Jury(ties, policy, now, across, keep_per_repository, standing)
    decisions = jury.decisions()
    counts = Totals(
        images=len(decisions),
        keep=len(decisions) - len(jury.goes),
        delete=len(jury.goes),
        selected_bytes=sum([made.size or 0 for made in decisions if made.verdict == "delete"]),
    )
    held = columns(
        ties.blobs,
        jury.goes,
        counts=counts,
        rule_selected=jury.selected,
        keeping=frozenset(jury.keeping),
        undecidable=len(jury.undecidable.difference(jury.goes)),
    )
    return RepositoryPlan(ties.path, decisions, held, ties, jury.unread)


def unreadable_plan(repository: Repository, failed: Unreadable) -> RepositoryPlan:
    """Everything of a repository that could not be listed whole stays, and counts in no total; its blobs are in use."""
    return unreadable_plan_of(arrange(repository), failed)


def unreadable_plan_of(ties: Ties, failed: Unreadable) -> RepositoryPlan:
    """`unreadable_plan` of a repository that is already arranged."""
    reason = f"the repository could not be listed: {failed.reason}"
    decisions = tuple(decision(ties.path, image, "keep", "unreadable", reason) for image in ties.images)
    held = columns(ties.blobs, (), counts=Totals(), rule_selected={}, readable=False)
    return RepositoryPlan(ties.path, decisions, held, ties)
