"""The rules of a policy before the images of one repository: a verdict, a cause and a reason for each."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from msgspec import Struct

from policies.across import Across
from policies.conditions import NO, UNKNOWN, YES, Answer
from policies.image import Image
from policies.references import Ties
from policies.rules import Place, Policy, Rule, Top, population

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


class Keep(NamedTuple):
    """Why an image stays, whatever its owners do."""

    cause: Cause
    rule: Rule | None
    reason: str


class Jury:
    """Hears every rule on every image of one repository, then settles what belongs together."""

    def __init__(self, ties: Ties, policy: Policy, now: datetime, across: Across, keep_per_repository: int) -> None:
        self.ties = ties
        self.foreign = across.foreign
        self.scene = ties.scene(now)
        ranked = ties.ranked(across.foreign)
        self._ranked = frozenset(image.digest for image in ranked) if keep_per_repository else frozenset()
        self._always = Top.of(keep_per_repository, _places(ranked))
        rules = [rule for rule in policy.rules if rule.applies_to(ties.path)]
        self._keeps = [rule for rule in rules if rule.kind == "keep"]
        self._selects = [rule for rule in rules if rule.kind == "delete"]
        self._countable: frozenset[str] = frozenset()
        self._tops = dict(across.tops)
        self._count(rules, [image for image in ranked if not image.locked])
        self.selected = {rule.name: 0 for rule in self._selects}
        self._keep: dict[str, Keep] = {}
        self._select: dict[str, Rule] = {}
        self._doubt: dict[str, Rule] = {}  # the first select rule whose answer is unknown
        self._by: dict[str, Rule] = {}  # of what goes: the rule it bears

    def _count(self, rules: list[Rule], countable: list[Image]) -> None:
        counting = [rule for rule in rules if rule.count is not None]
        if counting:
            self._countable = frozenset(image.digest for image in countable)
        for rule in counting:
            if rule.count is not None and rule.count.per == "repository":
                self._tops[rule.name] = Top.of(rule.count.n, population(rule, countable, self.scene))

    def decisions(self) -> tuple[Decision, ...]:
        """A decision for every image, in their order. Owners are settled before what they own; what owns itself in a
        circle stays.
        """
        images = self.ties.images
        owners_of = self.ties.owners
        for image in images:
            self._hear(image)
        for digest, rule in self._select.items():
            if digest not in owners_of and self._may_go(digest):
                self._by[digest] = rule
        for digest in self.ties.order:
            owners = owners_of[digest]
            if self._may_go(digest) and all(owner in self._by for owner in owners):
                if digest in self._select:
                    self._by[digest] = self._select[digest]
                elif self.ties.follows(digest):
                    self._by[digest] = self._by[owners[0]]
        return tuple([self._decision(image) for image in images])

    def answer(self, rule: Rule, image: Image) -> Answer:
        """What a rule says of an image, its count included."""
        if rule.count is None:
            return rule.asks(image, self.scene)
        if image.digest not in self._countable:
            return NO
        return self._tops[rule.name].says(image, rule.asks(image, self.scene), beyond=rule.count.beyond)

    def _hear(self, image: Image) -> None:
        for rule in self._selects:
            said = self.answer(rule, image)
            if said is YES:
                self.selected[rule.name] += 1
                self._select.setdefault(image.digest, rule)
            elif said is UNKNOWN:
                self._doubt.setdefault(image.digest, rule)
        keep = self._own_keep(image)
        if keep is not None:
            self._keep[image.digest] = keep

    def _own_keep(self, image: Image) -> Keep | None:
        if image.locked:
            return Keep("locked", None, "locked in the registry")
        for rule in self._keeps:
            said = self.answer(rule, image)
            if said is not NO:
                return Keep("kept_by_rule", rule, self._fact(rule, image, said))
        unread = self.ties.unreadable_index
        if unread is not None:
            if image.children is None:
                return Keep("unreadable", None, "what this index lists could not be read")
            return Keep("unreadable", None, f"index {short(unread)} could not be read and may list it")
        if image.digest in self._ranked and self._always.says(image, YES, beyond=False) is not NO:
            return Keep("keep_per_repository", None, f"one of the {self._always.n} newest of its repository")
        return None

    def _may_go(self, digest: str) -> bool:
        return digest not in self._keep and not self._elsewhere(digest)

    def _elsewhere(self, digest: str) -> tuple[str, ...]:
        """Those of its subjects that are in other repositories."""
        return tuple(subject for subject in self.ties.open_subjects.get(digest, ()) if subject in self.foreign)

    def _decision(self, image: Image) -> Decision:
        """The verdict on one image, when it is settled what goes."""
        digest = image.digest
        rule = self._by.get(digest)
        if rule is not None:
            if digest in self._select:
                return self._made(image, "delete", "selected", self._fact(rule, image, YES), rule)
            reason = f"its {self._tie(digest, self.ties.owners[digest][0])} goes"
            return self._made(image, "delete", "follows", reason, rule)
        keep = self._keep.get(digest)
        if keep is not None:
            return self._made(image, "keep", keep.cause, keep.reason, keep.rule)
        needed_by = tuple(owner for owner in self.ties.owners.get(digest, ()) if owner not in self._by)
        needed_by += self._elsewhere(digest)
        if needed_by:
            return self._made(image, "keep", "needed", self._need(digest, needed_by), None, tuple(sorted(needed_by)))
        return self._made(image, "keep", "no_rule", self._no_rule(image))

    def _made(
        self,
        image: Image,
        verdict: Verdict,
        cause: Cause,
        reason: str,
        rule: Rule | None = None,
        needed_by: tuple[str, ...] = (),
    ) -> Decision:
        return decision(self.ties.path, image, verdict, cause, reason, None if rule is None else rule.name, needed_by)

    def _fact(self, rule: Rule, image: Image, said: Answer) -> str:
        """The facts behind a rule's answer: all of them for a yes, the one that was not told where it is unknown."""
        if said is UNKNOWN:
            doubtful = (c for c in rule.conditions if c.holds(image, self.scene) is UNKNOWN)
            condition = next(doubtful, None)
            return condition.fact(image, self.scene) if condition is not None else "its push time was not told"
        facts = [condition.fact(image, self.scene) for condition in rule.conditions]
        if rule.count is not None:
            group = " of the registry" if rule.count.per == "registry" else ""
            facts.append(f"{'not ' if rule.count.beyond else ''}one of the {rule.count.n} newest{group}")
        return "; ".join(facts)

    def _need(self, digest: str, needed_by: tuple[str, ...]) -> str:
        first = needed_by[0]
        more = f", and {len(needed_by) - 1} more" if len(needed_by) > 1 else ""
        if first in self.ties.by_digest:
            return f"{self._tie(digest, first)} stays{more}"
        return f"subject {short(first)} is in another repository{more}"

    def _no_rule(self, image: Image) -> str:
        doubt = self._doubt.get(image.digest)
        if doubt is None:
            return "no rule selects it"
        return f"no rule selects it; {doubt.name}: {self._fact(doubt, image, UNKNOWN)}"

    def _tie(self, digest: str, owner: str) -> str:
        children = self.ties.by_digest[owner].children
        is_index = isinstance(children, tuple) and digest in children
        return f"{'index' if is_index else 'subject'} {short(owner)}"


def decision(
    repository: str,
    image: Image,
    verdict: Verdict,
    cause: Cause,
    reason: str,
    rule: str | None = None,
    needed_by: tuple[str, ...] = (),
) -> Decision:
    """A decision on an image, with the image's own facts."""
    created_at = image.created_at
    if created_at is not None and created_at.tzinfo is not UTC:
        created_at = created_at.astimezone(UTC)
    return Decision(
        id=image.id,
        repository=repository,
        digest=image.digest,
        tags=image.tags,
        created_at=created_at,
        size=image.compressed_size,
        verdict=verdict,
        cause=cause,
        rule=rule,
        needed_by=needed_by,
        reason=reason,
    )


def short(digest: str) -> str:
    """A digest for a sentence."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:12]}…" if len(digits) > 12 else digest


def _places(images: Iterable[Image]) -> Iterator[Place]:
    return ((image.created_at, image.digest) for image in images if image.created_at is not None)
