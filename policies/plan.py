"""A verdict, a cause and a reason for every image: survey, across, decide and close, and `make_plan`, which composes them.

A repository is decided as a whole and apart from the others. What one must know of the others is gathered before: `survey` sees
one repository, `across` sums up the surveys, `decide` uses that; `close` adds up what was decided.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct

from policies.conditions import NO, UNKNOWN, YES, Answer, Scene
from policies.image import Image, Repository, Unreadable
from policies.limits import Exceeded, Limits, Totals, exceeded
from policies.reclaim import Closing, Columns, Words, close, columns, keys, words
from policies.references import Ties, arrange, index_size
from policies.rules import Place, Policy, Rule, Top, newest_first, population

__all__ = ["Across", "Closing", "Decision", "Deletion", "Plan", "RepositoryPlan", "Survey", "Totals"]
__all__ += ["across", "close", "decide", "make_plan", "survey", "unreadable_plan"]

Verdict = Literal["keep", "delete"]
Cause = Literal[
    "no_rule", "kept_by_rule", "needed", "in_use", "held", "locked", "unreadable", "unsettled", "keep_per_repository",
    "selected", "follows",
]  # fmt: skip


class Decision(Struct, frozen=True, gc=False, kw_only=True):
    """What becomes of one image, and why. Its JSON is an element of a plan's `decisions`."""

    id: str
    repository: str
    digest: str
    tags: tuple[str, ...]
    created_at: datetime | None
    size: int | None
    verdict: Verdict
    cause: Cause
    rule: str | None = None
    needed_by: tuple[str, ...] = ()
    reason: str


@dataclass(frozen=True)
class Deletion:
    """A decision to delete, with what must be gone before it."""

    decision: Decision
    image: Image
    owners: tuple[str, ...]  # digests, in this repository, of indexes and subjects: each is deleted first
    wave: int  # 0: needs nothing to be gone; else one more than the greatest of its owners


@dataclass(frozen=True)
class Survey:
    """What must be known of one repository before another can be decided."""

    path: str
    digests: Words
    open_subjects: frozenset[str] = frozenset()  # that referrers here name and that are not here
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)  # rule -> its newest here, at most N
    foreign_places: Mapping[str, tuple[tuple[Place, tuple[str, ...]], ...]] = field(default_factory=dict)
    # … the same of referrers whose subjects (given with each) are not here, and may be elsewhere


@dataclass(frozen=True)
class Across:
    """What the repositories of a registry are to each other."""

    foreign: frozenset[str] = frozenset()  # subjects, named by referrers of other repositories, that are somewhere
    tops: Mapping[str, Top] = field(default_factory=dict)  # rule -> the newest of the registry


@dataclass(frozen=True)
class RepositoryPlan:
    """One repository, decided."""

    path: str
    decisions: tuple[Decision, ...]  # newest first, then by digest
    columns: Columns
    ties: Ties

    @property
    def rule_selected(self) -> Mapping[str, int]:
        """How many images each select rule selects, before keeps."""
        return self.columns.rule_selected

    @cached_property
    def deletions(self) -> tuple[Deletion, ...]:
        """Owners before what they own, so in ascending waves within what belongs together."""
        goes = {
            d.digest: (d, image)
            for d, image in zip(self.decisions, self.ties.images, strict=True)
            if d.verdict == "delete"
        }
        waves: dict[str, int] = {}
        for digest in (*goes, *self.ties.order):
            if digest in goes:
                waves[digest] = max((waves.get(owner, 0) + 1 for owner in self.ties.owners.get(digest, ())), default=0)
        return tuple(
            Deletion(decision, image, self.ties.owners.get(digest, ()), waves[digest])
            for digest, (decision, image) in goes.items()
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
) -> Plan:
    """The plan of a registry that fits in memory. `limits=None`: none are asked."""
    failed = {one.repository: one for one in sorted(unreadable, key=lambda one: one.repository)}
    rows: dict[str, list[Image]] = {}
    for repository in repositories:
        rows.setdefault(repository.path, []).extend(repository.images)
    whole = [Repository(path=path, images=tuple(images)) for path, images in sorted(rows.items())]
    known = across((survey(one, policy, now) for one in whole if one.path not in failed), policy)
    plans = [
        unreadable_plan(one, failed[one.path])
        if one.path in failed
        else decide(one, policy, now, known, keep_per_repository=keep_per_repository)
        for one in whole
    ]
    totals = close(plan.columns for plan in plans).totals
    return Plan(
        registry=registry,
        policy=policy.name,
        now=now.astimezone(UTC),
        complete=not failed,
        unreadable=tuple(failed.values()),
        totals=totals,
        exceeded=exceeded(totals, limits) if limits is not None else (),
        decisions=tuple(decision for plan in plans for decision in plan.decisions),
    )


def survey(repository: Repository, policy: Policy, now: datetime) -> Survey:
    """What the other repositories must know of this one."""
    return survey_of(arrange(repository), policy, now)


def survey_of(ties: Ties, policy: Policy, now: datetime) -> Survey:
    """`survey` of a repository that is already arranged."""
    scene = _scene(ties, now)
    places, foreign_places = {}, {}
    for rule in policy.of_registry():
        if rule.count is None or ties.unreadable_index is not None or not rule.applies_to(ties.path):
            continue
        images = [image for image in ties.images if image.digest not in ties.owners and not image.locked]
        here = [image for image in images if image.digest not in ties.open_subjects]
        there = [image for image in images if image.digest in ties.open_subjects]
        places[rule.name] = tuple(population(rule, here, scene))[: rule.count.n]
        foreign_places[rule.name] = tuple(
            (place, ties.open_subjects[place[1]]) for place in population(rule, there, scene)
        )
    return Survey(
        path=ties.path,
        digests=words([image.digest for image in ties.images]),
        open_subjects=frozenset(subject for named in ties.open_subjects.values() for subject in named),
        places=places,
        foreign_places=foreign_places,
    )


def across(surveys: Iterable[Survey], policy: Policy) -> Across:
    """What the surveys of all readable repositories come to, in whatever order they come."""
    surveys = list(surveys)
    named = sorted({subject for one in surveys for subject in one.open_subjects})
    foreign: frozenset[str] = frozenset()
    if named:
        wanted = words(named)
        wanted_keys = keys(wanted)
        there: set[tuple[int, ...]] = set()
        for one in surveys:
            hits = one.digests[np.isin(keys(one.digests), wanted_keys)]
            there.update(map(tuple, hits.tolist()))
        foreign = frozenset(subject for subject, row in zip(named, wanted.tolist(), strict=True) if tuple(row) in there)
    tops = {}
    for rule in policy.of_registry():
        if rule.count is not None:
            places = [place for one in surveys for place in one.places.get(rule.name, ())]
            for one in surveys:
                places += [p for p, subjects in one.foreign_places.get(rule.name, ()) if foreign.isdisjoint(subjects)]
            tops[rule.name] = Top.of(rule.count.n, newest_first(places))
    return Across(foreign, tops)


def decide(
    repository: Repository, policy: Policy, now: datetime, across: Across, *, keep_per_repository: int = 0
) -> RepositoryPlan:
    """A verdict for every image of one repository."""
    return decide_of(arrange(repository), policy, now, across, keep_per_repository=keep_per_repository)


def decide_of(
    ties: Ties, policy: Policy, now: datetime, across: Across, *, keep_per_repository: int = 0
) -> RepositoryPlan:
    """`decide` of a repository that is already arranged."""
    jury = Jury(ties, policy, now, across, keep_per_repository)
    goes = jury.goes()
    decisions = tuple(jury.decision(image, goes) for image in ties.images)
    return _planned(ties, decisions, jury.selected)


def unreadable_plan(repository: Repository, failed: Unreadable) -> RepositoryPlan:
    """Everything of a repository that could not be listed whole stays, and counts in no total; its blobs are in use."""
    ties = arrange(repository)
    reason = f"the repository could not be listed: {failed.reason}"
    decisions = tuple(_decision(ties.path, image, "keep", "unreadable", reason=reason) for image in ties.images)
    held = columns(ties.images, (), counts=Totals(), rule_selected={}, readable=False)
    return RepositoryPlan(ties.path, decisions, held, ties)


def _planned(ties: Ties, decisions: tuple[Decision, ...], selected: Mapping[str, int]) -> RepositoryPlan:
    kept, deleted = [], []
    for image, decision in zip(ties.images, decisions, strict=True):
        (kept if decision.verdict == "keep" else deleted).append(image)
    counts = Totals(
        images=len(decisions),
        keep=len(kept),
        delete=len(deleted),
        selected_bytes=sum(image.compressed_size or 0 for image in deleted),
    )
    return RepositoryPlan(ties.path, decisions, columns(kept, deleted, counts=counts, rule_selected=selected), ties)


class _Keep(NamedTuple):
    """Why an image stays, whatever its owners do."""

    cause: Cause
    rule: Rule | None
    reason: str


class Jury:
    """The rules of a policy before the images of one repository."""

    def __init__(self, ties: Ties, policy: Policy, now: datetime, across: Across, keep_per_repository: int) -> None:
        self.ties = ties
        self.foreign = across.foreign
        self.scene = _scene(ties, now)
        ranked = ties.ranked(across.foreign)
        self._ranked = frozenset(image.digest for image in ranked) if keep_per_repository else frozenset()
        self._always = Top.of(keep_per_repository, _places(ranked))
        countable = [image for image in ranked if not image.locked]
        self._countable = frozenset(image.digest for image in countable)
        self._tops: dict[str, Top] = dict(across.tops)
        rules = [rule for rule in policy.rules if rule.applies_to(ties.path)]
        for rule in rules:
            if rule.count is not None and rule.count.per == "repository":
                self._tops[rule.name] = Top.of(rule.count.n, population(rule, countable, self.scene))
        self._keeps = [rule for rule in rules if rule.kind == "keep"]
        self._selects = [rule for rule in rules if rule.kind == "delete"]
        self.selected: dict[str, int] = {rule.name: 0 for rule in self._selects}
        self._keep: dict[str, _Keep] = {}
        self._select: dict[str, Rule] = {}
        self._doubt: dict[str, Rule] = {}
        self._by: dict[str, Rule] = {}  # of what goes: the rule it bears

    def answer(self, rule: Rule, image: Image) -> Answer:
        """What a rule says of an image, its count included."""
        if rule.count is None:
            return rule.asks(image, self.scene)
        if image.digest not in self._countable:
            return NO
        return self._tops[rule.name].says(image, rule.asks(image, self.scene), beyond=rule.count.beyond)

    def goes(self) -> frozenset[str]:
        """The digests that go: owners are settled before what they own, and who owns itself in a circle stays."""
        for image in self.ties.images:
            self._hear(image)
        for image in self.ties.images:
            digest = image.digest
            if digest not in self.ties.owners and digest in self._select and self._may_go(digest):
                self._by[digest] = self._select[digest]
        for digest in self.ties.order:
            owners = self.ties.owners[digest]
            if self._may_go(digest) and all(owner in self._by for owner in owners):
                if digest in self._select:
                    self._by[digest] = self._select[digest]
                elif self.ties.follows(digest):
                    self._by[digest] = self._by[owners[0]]
        return frozenset(self._by)

    def _may_go(self, digest: str) -> bool:
        return digest not in self._keep and not self._elsewhere(digest)

    def _elsewhere(self, digest: str) -> tuple[str, ...]:
        """Its subjects that are in other repositories."""
        return tuple(subject for subject in self.ties.open_subjects.get(digest, ()) if subject in self.foreign)

    def _hear(self, image: Image) -> None:
        for rule in self._selects:
            said = self.answer(rule, image)
            if said is YES:
                self.selected[rule.name] += 1
                self._select.setdefault(image.digest, rule)
            elif said is UNKNOWN:
                self._doubt.setdefault(image.digest, rule)
        if (keep := self._own_keep(image)) is not None:
            self._keep[image.digest] = keep

    def _own_keep(self, image: Image) -> _Keep | None:
        if image.locked:
            return _Keep("locked", None, "locked in the registry")
        for rule in self._keeps:
            said = self.answer(rule, image)
            if said is not NO:
                return _Keep("kept_by_rule", rule, self._fact(rule, image, said))
        unread = self.ties.unreadable_index
        if unread is not None:
            if image.children is None:
                return _Keep("unreadable", None, "what this index lists could not be read")
            return _Keep("unreadable", None, f"index {_short(unread)} could not be read and may list it")
        if image.digest in self._ranked and self._always.says(image, YES, beyond=False) is not NO:
            return _Keep("keep_per_repository", None, f"one of the {self._always.n} newest of its repository")
        return None

    def _fact(self, rule: Rule, image: Image, said: Answer) -> str:
        """The facts behind a rule's answer: all of them for a yes, the one that was not told where it is unknown."""
        if said is UNKNOWN:
            for condition in rule.conditions:
                if condition.holds(image, self.scene) is UNKNOWN:
                    return condition.fact(image, self.scene)
            return "its push time was not told"
        facts = [condition.fact(image, self.scene) for condition in rule.conditions]
        if rule.count is not None:
            group = " of the registry" if rule.count.per == "registry" else ""
            facts.append(f"{'not ' if rule.count.beyond else ''}one of the {rule.count.n} newest{group}")
        return "; ".join(facts)

    def decision(self, image: Image, goes: frozenset[str]) -> Decision:
        """The verdict on an image, when it is settled what goes."""
        digest = image.digest
        path = self.ties.path
        if digest in goes:
            rule = self._by[digest]
            if digest in self._select:
                return _decision(path, image, "delete", "selected", rule, reason=self._fact(rule, image, YES))
            owner = self.ties.owners[digest][0]
            return _decision(path, image, "delete", "follows", rule, reason=f"its {self._tie(digest, owner)} goes")
        if (keep := self._keep.get(digest)) is not None:
            return _decision(path, image, "keep", keep.cause, keep.rule, reason=keep.reason)
        staying = [owner for owner in self.ties.owners.get(digest, ()) if owner not in goes]
        elsewhere = self._elsewhere(digest)
        if staying or elsewhere:
            one = (
                f"{self._tie(digest, staying[0])} stays"
                if staying
                else f"subject {_short(elsewhere[0])} is in another repository"
            )
            more = len(staying) + len(elsewhere) - 1
            reason = one if not more else f"{one}, and {more} more"
            return _decision(
                path, image, "keep", "needed", needed_by=tuple(sorted((*staying, *elsewhere))), reason=reason
            )
        doubt = self._doubt.get(digest)
        reason = "no rule selects it"
        if doubt is not None:
            reason = f"no rule selects it; {doubt.name}: {self._fact(doubt, image, UNKNOWN)}"
        return _decision(path, image, "keep", "no_rule", reason=reason)

    def _tie(self, digest: str, owner: str) -> str:
        children = self.ties.by_digest[owner].children
        is_index = isinstance(children, tuple) and digest in children
        return f"{'index' if is_index else 'subject'} {_short(owner)}"


def _decision(
    path: str,
    image: Image,
    verdict: Verdict,
    cause: Cause,
    rule: Rule | None = None,
    needed_by: tuple[str, ...] = (),
    *,
    reason: str,
) -> Decision:
    return Decision(
        id=image.id,
        repository=path,
        digest=image.digest,
        tags=image.tags,
        created_at=image.created_at,
        size=image.compressed_size,
        verdict=verdict,
        cause=cause,
        rule=rule.name if rule is not None else None,
        needed_by=needed_by,
        reason=reason,
    )


def _places(images: Iterable[Image]) -> Iterator[Place]:
    return ((image.created_at, image.digest) for image in images if image.created_at is not None)


def _short(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:12]}…" if len(digits) > 12 else digest


def _scene(ties: Ties, now: datetime) -> Scene:
    known: dict[str, int | None] = {}

    def size(index: Image) -> int | None:
        if index.digest not in known:
            known[index.digest] = index_size(index, ties.by_digest)
        return known[index.digest]

    return Scene(now, size)
