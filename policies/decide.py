"""Applies the rules of a policy to one repository: a verdict, a cause and a reason for every image.

`Evaluation.decisions` lists the steps of a decision; the methods below it follow in the same order.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Literal

from msgspec import Struct

from policies.conditions import UNKNOWN
from policies.context import EMPTY_CONTEXT, PlanContext
from policies.graph import Graph, countable
from policies.image import Image
from policies.registry_summary import RegistrySummary
from policies.rules import Count, Newest, Policy, Rule, RuleMatches, rank_keys, uncounted_digests, unreported_subjects

Verdict = Literal["keep", "delete"]
Cause = Literal[
    "no_rule", "kept_by_rule", "needed", "in_use", "held", "locked", "unreadable", "unsettled", "keep_per_repository",
    "selected", "follows",
]  # fmt: skip


class Decision(Struct, frozen=True, gc=False):
    """The verdict on one image, and its reason. Its JSON is an element of a plan's `decisions`."""

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


ExplainedVerdict = tuple[Verdict, Cause, str | None, tuple[str, ...], str]  # the last five fields of a decision
SUBJECT_UNKNOWN = "its manifest was not read: it may be a signature or an attestation of an image that is kept"
IGNORED = "its children could not be read and ignore_unreadable names it: it is kept; the rules decide on its children"
SET_ASIDE = "ignore_unreadable names it: it is kept, although it can be read now"
_DIGEST = attrgetter("digest")


def _keep(cause: Cause, reason: str, rule: str | None = None) -> ExplainedVerdict:
    return "keep", cause, rule, (), reason


_NO_RULE = _keep("no_rule", "no rule selects it")


class Evaluation:
    """Decides on the images of one repository."""

    def __init__(
        self,
        graph: Graph,
        policy: Policy,
        now: datetime,
        summary: RegistrySummary,
        keep_per_repository: int,
        plan_context: PlanContext = EMPTY_CONTEXT,
    ) -> None:
        self._reported = graph.images  # with the registry's push times, also if they are not trusted
        self.graph = graph = graph.with_push_times(plan_context.push_times)
        self.plan_context = plan_context
        self.context = graph.context(now, plan_context.history_of(graph.path))
        self._newest_of_registry = summary.newest
        self._keep_per_repository = keep_per_repository
        self._rankable = graph.rankable(summary.foreign_subjects)
        self._countable = countable(self._rankable, plan_context.ignore_unreadable)
        self._rules = [rule for rule in policy.rules if rule.applies_to(graph.path)]
        self._foreign_subjects = {  # digest -> its subjects in other repositories
            digest: subjects
            for digest, missing in graph.missing_subjects.items()
            if (subjects := tuple([subject for subject in missing if subject in summary.foreign_subjects]))
        }
        self.selected: dict[str, int] = {}  # select rule -> images that it selects, before keeps
        self.keeping: set[str] = set()  # keep rules that match an image here, even if another rule keeps that image
        self.undecidable: set[str] = set()  # digests whose rank in a count is unknown
        self.unread: set[str] = set()  # digests of untagged images whose subject is not reported, but would decide
        self.deleting: dict[str, Rule] = {}  # digest -> the rule that deletes it
        self._selecting: dict[str, Rule] = {}  # digest -> the first select rule that selects it
        self._unknown: dict[str, Rule] = {}  # digest -> the first select rule whose answer is unknown
        self._kept: dict[str, ExplainedVerdict] = {}  # digest -> why it is kept, even if its owners are deleted
        self._tied: dict[str | None, frozenset[str]] = {}  # rule, or None: keep_per_repository -> images tied in it

    def decisions(self) -> tuple[Decision, ...]:
        """A decision for every image, in the order of the graph."""
        self._apply_select_rules()
        self._keep_held_and_used()
        self._apply_keep_rules()
        self._keep_unreadable()
        if self._keep_per_repository:
            self._keep_newest()
        self._delete_selected_and_followers()
        if self.plan_context.settle and self.deleting:
            self._keep_unsettled()
        self._keep_unread()
        return decisions(self.graph.path, self._reported, self._verdicts())

    def _apply_select_rules(self) -> None:
        matches = [(rule, self._match(rule)) for rule in self._rules if rule.kind == "delete"]
        self.selected = {rule.name: len(yes) for rule, (yes, _) in matches}
        for rule, (yes, unknown) in reversed(matches):  # the first of several rules is written last
            self._selecting.update(dict.fromkeys(map(_DIGEST, yes), rule))
            self._unknown.update(dict.fromkeys(map(_DIGEST, unknown), rule))

    def _match(self, rule: Rule) -> RuleMatches:
        """The images that match a rule, its count included."""
        if rule.count is None:
            return rule.match(self.graph.images, self.context)
        return self._count(rule.name, rule.count, rule.match(self._countable, self.context))

    def _count(self, rule: str | None, count: Count, matches: RuleMatches) -> RuleMatches:
        """The matches among the N newest, or beyond them. `rule`: its name; None for keep_per_repository."""
        if rule is not None and count.per == "registry":
            newest = self._newest_of_registry[rule]
        else:
            times = self.plan_context.push_times
            uncounted = uncounted_digests(matches.yes, times.returned)
            newest = Newest.of(count.n, rank_keys(matches), ordered=not times.first_seen, uncounted=uncounted)
        self.unread |= newest.digests & unreported_subjects(matches.yes)
        if newest.tied:
            self._tied[rule] = newest.tied
            self.undecidable.update(image.digest for image in matches.yes if image.digest in newest.tied)
        return newest.narrow(matches, beyond=count.beyond)

    def _keep_held_and_used(self) -> None:
        """Keep the images that are locked, held or in use. Of several causes, the decision has the first."""
        path, images = self.graph.path, self.graph.images
        self._kept = {image.digest: _keep("locked", "locked in the registry") for image in images if image.locked}
        for digest, reason in self.plan_context.holds.reasons(path, images).items():
            self._kept.setdefault(digest, _keep("held", reason))
        for digest, reason in self.plan_context.evidence.in_use(path, images).items():
            self._kept.setdefault(digest, _keep("in_use", reason))

    def _apply_keep_rules(self) -> None:
        kept = self._kept
        for rule in self._rules:
            if rule.kind == "delete":
                continue
            matches = self._match(rule)
            if matches.yes or matches.unknown:
                self.keeping.add(rule.name)
            images = [image for image in matches.yes if image.digest not in kept]
            for image, facts in zip(images, self._facts(rule, images), strict=True):
                kept[image.digest] = ("keep", "kept_by_rule", rule.name, (), facts)
            for image in matches.unknown:  # an unknown answer keeps
                if image.digest not in kept:
                    kept[image.digest] = _keep("kept_by_rule", self._unknown_fact(rule, image), rule.name)

    def _keep_unreadable(self) -> None:
        """Keep each index whose children could not be read, and all other images, since the index may list them."""
        ignored = self.plan_context.ignore_unreadable
        unreadable = self.graph.first_unreadable(ignored)
        for image in self.graph.images if self.graph.unreadable or ignored else ():
            if image.digest in ignored:
                reason = IGNORED if image.children is None else SET_ASIDE
            elif unreadable is None:
                continue
            elif image.children is None:
                reason = "the children of this index could not be read"
            else:
                reason = f"index {short(unreadable)} could not be read and may list it"
            self._kept.setdefault(image.digest, _keep("unreadable", reason))

    def _keep_newest(self) -> None:
        """Keep the newest images of the repository, as the registry's `keep_per_repository` says."""
        count = Count(self._keep_per_repository)
        matches = self._count(None, count, RuleMatches(list(self._rankable), []))
        among = f"one of the {count.n} newest of its repository"
        for image in matches.yes:
            self._kept.setdefault(image.digest, _keep("keep_per_repository", among))
        for image in matches.unknown:
            reason = f"perhaps {among}: {self._unknown_rank(None, image)}"
            self._kept.setdefault(image.digest, _keep("keep_per_repository", reason))

    def _delete_selected_and_followers(self) -> None:
        """Delete selected images, and images that follow their owners once all owners are deleted.

        Each owner is decided before the images that it owns; images that own each other in a circle are kept.
        """
        graph, selecting, deleting = self.graph, self._selecting, self.deleting
        kept = self._kept.keys() | self._foreign_subjects.keys()
        for digest, rule in selecting.items():
            if digest not in kept and digest not in graph.owners:
                deleting[digest] = rule
        for digest in graph.order:
            owners = graph.owners[digest]
            if digest not in kept and all(owner in deleting for owner in owners):
                if digest in selecting:
                    deleting[digest] = selecting[digest]
                elif graph.follows_owners(digest):
                    deleting[digest] = deleting[owners[0]]

    def _keep_unsettled(self) -> None:
        """Keep unsettled images, their owners if they would be deleted together, and all that these images need."""
        graph = self.graph
        images = [image for image in graph.images if image.digest in self.deleting]
        reasons = self.plan_context.unsettled(graph.path, images, self.context.now)
        origins = {digest: digest for digest in reasons}  # an image to keep -> the unsettled image that keeps it
        for digest in reversed(graph.order):  # each image before its owners
            if digest in origins and graph.follows_owners(digest):
                for owner in graph.owners[digest]:
                    origins.setdefault(owner, origins[digest])
        for digest, origin in origins.items():
            of_origin = f"an image that would be deleted with it is not settled: {short(origin)}, {reasons[origin]}"
            self._kept[digest] = _keep("unsettled", reasons.get(digest, of_origin))
            del self.deleting[digest]
        self._keep_owned()

    def _keep_unread(self) -> None:
        """Keep selected untagged images with an unreported subject, and all that these images need."""
        unreported = unreported_subjects(self.graph.images)
        unread = [digest for digest in unreported if digest in self.deleting and digest in self._selecting]
        for digest in unread:
            self._kept[digest] = _keep("unreadable", SUBJECT_UNKNOWN)
            del self.deleting[digest]
        self.unread.update(unread)
        if unread:
            self._keep_owned()

    def _keep_owned(self) -> None:
        """Keep each image that has a kept owner."""
        for digest in self.graph.order:
            if digest in self.deleting and not all(owner in self.deleting for owner in self.graph.owners[digest]):
                del self.deleting[digest]

    def _verdicts(self) -> dict[str, ExplainedVerdict]:
        """The verdict on every image, with its reason."""
        graph, deleting, selecting, kept, unknown = (
            self.graph,
            self.deleting,
            self._selecting,
            self._kept,
            self._unknown,
        )
        needed_by = {
            digest: tuple([owner for owner in owners if owner not in deleting])
            for digest, owners in graph.owners.items()
            if digest not in deleting
        }
        for digest, subjects in self._foreign_subjects.items():
            needed_by[digest] = (*needed_by.get(digest, ()), *subjects)
        verdicts: dict[str, ExplainedVerdict] = {}
        selected: dict[str, list[Image]] = {rule.name: [] for rule in self._rules}
        for image in graph.images:
            digest = image.digest
            if (rule := deleting.get(digest)) is not None:
                if digest in selecting:
                    selected[rule.name].append(image)
                else:
                    reason = f"its {self._owner_text(graph.owners[digest][0], digest)} is deleted"
                    verdicts[digest] = ("delete", "follows", rule.name, (), reason)
            elif (verdict := kept.get(digest)) is not None:
                verdicts[digest] = verdict
            elif owners := needed_by.get(digest):
                verdicts[digest] = ("keep", "needed", None, tuple(sorted(owners)), self._needed_reason(digest, owners))
            elif (rule := unknown.get(digest)) is not None:  # an unknown answer does not select
                reason = f"no rule selects it; {rule.name}: {self._unknown_fact(rule, image)}"
                verdicts[digest] = _keep("no_rule", reason)
            else:
                verdicts[digest] = _NO_RULE
        for rule in self._rules:
            images = selected[rule.name]
            for image, facts in zip(images, self._facts(rule, images), strict=True):
                verdicts[image.digest] = ("delete", "selected", rule.name, (), facts)
        return verdicts

    def _needed_reason(self, digest: str, owners: Sequence[str]) -> str:
        """Why an image is needed: its first kept owner here, or its first subject elsewhere."""
        more = f", and {len(owners) - 1} more" if len(owners) > 1 else ""
        if owners[0] in self.graph.by_digest:
            return f"{self._owner_text(owners[0], digest)} is kept{more}"
        return f"subject {short(owners[0])} is in another repository{more}"

    def _owner_text(self, owner: str, digest: str) -> str:
        """The owner of an image in a sentence: `index sha256:…` or `subject sha256:…`."""
        children = self.graph.by_digest[owner].children
        is_index = isinstance(children, tuple) and digest in children
        return f"{'index' if is_index else 'subject'} {short(owner)}"

    def _facts(self, rule: Rule, images: Sequence[Image]) -> Iterable[str]:
        """For each of the images, the facts for which it matches a rule."""
        facts = [condition.facts(images, self.context) for condition in rule.conditions]
        if rule.count is not None:
            group = " of the registry" if rule.count.per == "registry" else ""
            counted = f"{'not ' if rule.count.beyond else ''}one of the {rule.count.n} newest{group}"
            facts.append([counted] * len(images))
        return facts[0] if len(facts) == 1 else map("; ".join, zip(*facts, strict=True))

    def _unknown_fact(self, rule: Rule, image: Image) -> str:
        """The first unknown fact for which the answer of a rule is unknown."""
        for condition in rule.conditions:
            if condition.holds(image, self.context) is UNKNOWN:
                return condition.fact(image, self.context)
        return self._unknown_rank(rule.name, image)

    def _unknown_rank(self, rule: str | None, image: Image) -> str:
        """Why the rank of an image in a count is unknown. `rule`: None for keep_per_repository."""
        if image.created_at is not None and image.digest in self._tied.get(rule, ()):
            first_seen = f"{image.created_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            return f"first seen at {first_seen} together with other images, in an unknown order"
        return self.context.why_untimed(image)


def decisions(path: str, images: Iterable[Image], verdicts: Mapping[str, ExplainedVerdict]) -> tuple[Decision, ...]:
    """The decision on each image of a repository, with the facts of the image."""
    return tuple([
        Decision(
            image.id, path, image.digest, image.tags, at if at is None or at.tzinfo is UTC else at.astimezone(UTC),
            image.compressed_size, *verdicts[image.digest],
        )
        for image in images
        for at in (image.created_at,)
    ])  # fmt: skip


def short(digest: str) -> str:
    """A digest, shortened to 12 digits, for sentences."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:12]}…" if len(digits) > 12 else digest
