"""The rules of a policy before the images of one repository: a verdict, a cause and a reason for each."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Literal

from msgspec import Struct

from policies.conditions import UNKNOWN
from policies.context import NOTHING, PlanContext
from policies.graph import Graph, countable
from policies.image import Image
from policies.registry_summary import RegistrySummary
from policies.rules import Policy, Rule, RuleMatches, Top, placeless, population, unreported

Verdict = Literal["keep", "delete"]
Cause = Literal[
    "no_rule", "kept_by_rule", "needed", "in_use", "held", "locked", "unreadable", "unsettled", "keep_per_repository",
    "selected", "follows",
]  # fmt: skip


class Decision(Struct, frozen=True, gc=False):
    """What becomes of one image, and why. Its JSON is an element of a plan's `decisions`."""

    id: str
    repository: str
    digest: str
    tags: tuple[str, ...]
    created_at: datetime | None
    size: int | None
    verdict: Verdict
    cause: Cause
    rule: str | None
    needed_by: tuple[str, ...]
    reason: str


SUBJECT_UNKNOWN = "its manifest was not read: it may be a signature or an attestation of an image that is kept"
Settled = tuple[Verdict, Cause, str | None, tuple[str, ...], str]  # the end of a decision: verdict to reason
_DIGEST = attrgetter("digest")


class Evaluation:
    """Asks every rule about the images of one repository, then settles what belongs together."""

    def __init__(
        self,
        graph: Graph,
        policy: Policy,
        now: datetime,
        summary: RegistrySummary,
        keep_per_repository: int,
        plan_context: PlanContext = NOTHING,
    ) -> None:
        self._told = graph.images  # with the push times that are not believed
        self.graph = graph = graph.with_push_times(plan_context.times)
        self.plan_context = plan_context
        self.foreign = summary.foreign
        self.context = graph.context(now, plan_context.seen(graph.path))
        self._tops = summary.tops
        self._keep_per_repository = keep_per_repository
        self._ranked = graph.ranked(summary.foreign)
        self._countable = countable(self._ranked, plan_context.ignore_unreadable)
        self._rules = [rule for rule in policy.rules if rule.applies_to(graph.path)]
        self._ordered = not plan_context.times.first_seen  # whether images of equal times have an order
        self._tied: dict[str | None, frozenset[str]] = {}  # rule, or None: keep_per_repository -> images tied in it
        self.undecidable: set[str] = set()  # digests whose rank in some count nobody can tell
        self.selected: dict[str, int] = {}  # images that each select rule selects, before keeps
        self.keeping: set[str] = set()  # keep rules that keep something here, also what another rule keeps
        self._select: dict[str, Rule] = {}  # digest -> the first select rule that selects it
        self._unknown_rule: dict[str, Rule] = {}  # the first select rule whose answer is unknown
        self._keep: dict[str, Settled] = {}  # what stays, whatever its owners do
        self._by: dict[str, Rule] = {}  # of what goes: the rule it bears
        self._postponed: dict[str, Settled] = {}  # what would go, once settled and read
        self._unread: tuple[str, ...] = ()  # digests of what would go if its subject were known
        self._uncounted: set[str] = set()  # digests of what would take a place in a count if its subject were known

    def decisions(self) -> tuple[Decision, ...]:
        """A decision for every image, in their order. Owners are settled before what they own; what owns itself in a
        circle stays.
        """
        self._hear_selects()
        self._hear_keeps()
        owners_of = self.graph.owners
        stays = {*self._keep, *(digest for digest in self.graph.open_subjects if self._elsewhere(digest))}
        self._by = {
            digest: rule for digest, rule in self._select.items() if digest not in stays and digest not in owners_of
        }
        for digest in self.graph.order:
            owners = owners_of[digest]
            if digest not in stays and all(owner in self._by for owner in owners):
                if digest in self._select:
                    self._by[digest] = self._select[digest]
                elif self.graph.follows(digest):
                    self._by[digest] = self._by[owners[0]]
        if self.plan_context.settle and self._by:
            self._settle()
        self._keep_unread()
        return decisions(self.graph.path, self._told, self._settled())

    @property
    def unread(self) -> tuple[str, ...]:
        """The digests of untagged images of which the subject decides and is not known, sorted."""
        return tuple(sorted({*self._unread, *self._uncounted}))

    @property
    def goes(self) -> Collection[str]:
        """The digests that go, once it is decided."""
        return self._by.keys()

    def evaluate(self, rule: Rule, images: Sequence[Image]) -> RuleMatches:
        """What a rule says of the images, its count included."""
        if rule.count is None:
            return rule.asks(images, self.context)
        asked = rule.asks(self._countable, self.context)
        of_registry = rule.count.per == "registry"
        top = self._tops[rule.name] if of_registry else self._top(rule.count.n, asked)
        self._uncounted |= top.digests & unreported(asked.yes)
        self._note_graph(rule.name, top, asked)
        return top.narrows(asked, beyond=rule.count.beyond)

    def _top(self, n: int, asked: RuleMatches) -> Top:
        return Top.of(
            n,
            population(asked),
            ordered=self._ordered,
            uncounted=placeless(asked.yes, self.plan_context.times.returned),
        )

    def _note_graph(self, rule: str | None, top: Top, asked: RuleMatches) -> None:
        if top.tied:
            self._tied[rule] = top.tied
            self.undecidable.update(image.digest for image in asked.yes if image.digest in top.tied)

    def _hear_selects(self) -> None:
        matched = [(rule, self.evaluate(rule, self.graph.images)) for rule in self._rules if rule.kind == "delete"]
        self.selected = {rule.name: len(yes) for rule, (yes, _) in matched}
        for rule, (yes, unknown) in reversed(matched):  # of several rules the first is told
            self._select.update(dict.fromkeys(map(_DIGEST, yes), rule))
            self._unknown_rule.update(dict.fromkeys(map(_DIGEST, unknown), rule))

    def _hear_keeps(self) -> None:
        """In the order of causes; the first that keeps an image is the one it bears."""
        keep = self._keep
        keep.update(
            (image.digest, _stays("locked", "locked in the registry")) for image in self.graph.images if image.locked
        )
        for digest, reason in self.plan_context.holds.reasons(self.graph.path, self.graph.images).items():
            keep.setdefault(digest, _stays("held", reason))
        for digest, reason in self.plan_context.evidence.in_use(self.graph.path, self.graph.images).items():
            keep.setdefault(digest, _stays("in_use", reason))
        for rule in self._rules:
            if rule.kind == "keep":
                matched = self.evaluate(rule, self.graph.images)
                if matched.yes or matched.unknown:
                    self.keeping.add(rule.name)
                left = [image for image in matched.yes if image.digest not in keep]
                for image, fact in zip(left, self._facts(rule, left), strict=True):
                    keep[image.digest] = ("keep", "kept_by_rule", rule.name, (), fact)
                for image in matched.unknown:
                    keep.setdefault(image.digest, _stays("kept_by_rule", self._untold(rule, image), rule.name))
        keep.update({digest: kept for digest, kept in self._unreadable() if digest not in keep})
        if self._keep_per_repository:
            n = self._keep_per_repository
            ranked = RuleMatches(list(self._ranked), [])
            top = self._top(n, ranked)
            self._uncounted |= top.digests & unreported(self._ranked)
            self._note_graph(None, top, ranked)
            always = top.narrows(ranked, beyond=False)
            sure = f"one of the {n} newest of its repository"
            for image in always.yes:
                keep.setdefault(image.digest, _stays("keep_per_repository", sure))
            for image in always.unknown:
                reason = f"perhaps {sure}: {self._unranked(None, image)}"
                keep.setdefault(image.digest, _stays("keep_per_repository", reason))

    def _unreadable(self) -> Iterator[tuple[str, Settled]]:
        """What stays because of an image whose manifest could not be read."""
        ignored = self.plan_context.ignore_unreadable
        unread = self.graph.may_list_all(ignored)
        for image in self.graph.images if self.graph.unreadable or ignored else ():
            if image.digest in ignored:
                yield image.digest, _stays("unreadable", IGNORED if image.children is None else SET_ASIDE)
            elif unread is not None:
                yield image.digest, _stays("unreadable", _unread(image, unread))

    def _settle(self) -> None:
        """Of what would go, keep what is not settled, the owners it would follow, and whatever those need."""
        graph = self.graph
        going = [image for image in graph.images if image.digest in self._by]
        stays = self.plan_context.unsettled(graph.path, going, self.context.now)
        origin = {digest: digest for digest in stays}
        for digest in reversed(graph.order):  # before its owners
            if digest in origin and graph.follows(digest):
                for owner in graph.owners[digest]:
                    origin.setdefault(owner, origin[digest])
        for digest, first in origin.items():
            del self._by[digest]
            why = f"an image that would be deleted with it is not settled: {short(first)}, {stays[first]}"
            self._postponed[digest] = _stays("unsettled", stays.get(digest, why))
        self._keep_what_is_owned()

    def _keep_unread(self) -> None:
        """Of what rules select, keep the untagged images whose subject was not reported, and whatever needs them."""
        unreported = [image.digest for image in self.graph.images if image.subject is None and not image.tags]
        self._unread = tuple([one for one in unreported if one in self._by and one in self._select])
        for digest in self._unread:
            del self._by[digest]
            self._postponed[digest] = _stays("unreadable", SUBJECT_UNKNOWN)
        if self._unread:
            self._keep_what_is_owned()

    def _keep_what_is_owned(self) -> None:
        """Of what would go, keep each image of which an owner stays."""
        for digest in self.graph.order:
            if digest in self._by and not all(owner in self._by for owner in self.graph.owners[digest]):
                del self._by[digest]

    def _elsewhere(self, digest: str) -> tuple[str, ...]:
        """Those of its subjects that are in other repositories."""
        named = self.graph.open_subjects.get(digest)
        return tuple([subject for subject in named if subject in self.foreign]) if named else ()

    def _settled(self) -> dict[str, Settled]:
        """What becomes of every image, when it is settled what goes."""
        by, select, keep, postponed, owned = self._by, self._select, self._keep, self._postponed, self.graph.owners
        settled: dict[str, Settled] = {}
        chosen: dict[str, list[Image]] = {rule.name: [] for rule in self._rules}
        for image in self.graph.images:
            digest = image.digest
            if (rule := by.get(digest)) is not None:
                if digest in select:
                    chosen[rule.name].append(image)
                else:
                    reason = f"its {self._tie(digest, self.graph.owners[digest][0])} is deleted"
                    settled[digest] = ("delete", "follows", rule.name, (), reason)
            elif (kept := keep.get(digest) or postponed.get(digest)) is not None:
                settled[digest] = kept
            elif digest in owned or digest in self._unknown_rule or digest in self.graph.open_subjects:
                settled[digest] = self._not_selected(image)
            else:
                settled[digest] = _NO_RULE
        for rule in self._rules:
            images = chosen[rule.name]
            for image, fact in zip(images, self._facts(rule, images), strict=True):
                settled[image.digest] = ("delete", "selected", rule.name, (), fact)
        return settled

    def _not_selected(self, image: Image) -> Settled:
        """What stays because it is needed, or because no rule selects it."""
        digest = image.digest
        needed_by = tuple([owner for owner in self.graph.owners.get(digest, ()) if owner not in self._by])
        if needed_by := needed_by + self._elsewhere(digest):
            return "keep", "needed", None, tuple(sorted(needed_by)), self._need(digest, needed_by)
        rule = self._unknown_rule.get(digest)
        if rule is None:
            return _NO_RULE
        return _stays("no_rule", f"no rule selects it; {rule.name}: {self._untold(rule, image)}")

    def _facts(self, rule: Rule, images: Sequence[Image]) -> Iterable[str]:
        """The facts behind a rule's yes on each of these."""
        told = [condition.facts(images, self.context) for condition in rule.conditions]
        if rule.count is not None:
            group = " of the registry" if rule.count.per == "registry" else ""
            counted = f"{'not ' if rule.count.beyond else ''}one of the {rule.count.n} newest{group}"
            told.append([counted] * len(images))
        return told[0] if len(told) == 1 else map("; ".join, zip(*told, strict=True))

    def _untold(self, rule: Rule, image: Image) -> str:
        """The first fact that was not told, where a rule's answer is unknown."""
        for condition in rule.conditions:
            if condition.holds(image, self.context) is UNKNOWN:
                return condition.fact(image, self.context)
        return self._unranked(rule.name, image)

    def _unranked(self, rule: str | None, image: Image) -> str:
        """Why the place of an image in a count is unknown. `rule`: None: the count of keep_per_repository."""
        if image.digest in self._tied.get(rule, ()):
            at = f"{_utc(image.created_at):%Y-%m-%dT%H:%M:%SZ}"
            return f"first seen at {at} together with other images, in an unknown order"
        return self.context.untimed(image)

    def _need(self, digest: str, needed_by: tuple[str, ...]) -> str:
        first = needed_by[0]
        more = f", and {len(needed_by) - 1} more" if len(needed_by) > 1 else ""
        if first in self.graph.by_digest:
            return f"{self._tie(digest, first)} is kept{more}"
        return f"subject {short(first)} is in another repository{more}"

    def _tie(self, digest: str, owner: str) -> str:
        children = self.graph.by_digest[owner].children
        is_index = isinstance(children, tuple) and digest in children
        return f"{'index' if is_index else 'subject'} {short(owner)}"


def _stays(cause: Cause, reason: str, rule: str | None = None) -> Settled:
    return "keep", cause, rule, (), reason


_NO_RULE = _stays("no_rule", "no rule selects it")


def decisions(path: str, images: Iterable[Image], settled: Mapping[str, Settled]) -> tuple[Decision, ...]:
    """A decision on each of these images of a repository, with the image's own facts."""
    return tuple([
        Decision(
            image.id, path, image.digest, image.tags, at if at is None or at.tzinfo is UTC else at.astimezone(UTC),
            image.compressed_size, *settled[image.digest],
        )
        for image in images
        for at in (image.created_at,)
    ])  # fmt: skip


def _utc(instant: datetime | None) -> datetime | None:
    return instant if instant is None or instant.tzinfo is UTC else instant.astimezone(UTC)


IGNORED = "its children could not be read and ignore_unreadable names it: it is kept; the rules decide on its children"
SET_ASIDE = "ignore_unreadable names it: it is kept, although it can be read now"


def short(digest: str) -> str:
    """A digest for a sentence."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:12]}…" if len(digits) > 12 else digest


def _unread(image: Image, unread: str) -> str:
    if image.children is None:
        return "the children of this index could not be read"
    return f"index {short(unread)} could not be read and may list it"
