"""Select rules, keep rules and counts: which images match a rule, and which are among the newest.

Only this module resolves an *unknown* answer: a select rule does not select the image, a keep rule keeps it.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Literal, NamedTuple

from policies.conditions import NO, Condition, ConditionContext
from policies.image import Image
from policies.patterns import Patterns

Kind = Literal["delete", "keep"]
Per = Literal["repository", "registry"]
RankKey = tuple[datetime, str]  # push time and digest, which rank images


@dataclass(frozen=True, slots=True)
class Count:
    """`newest: N`, or `beyond_newest: N` for the images that are not among them. Counts distinct digests."""

    n: int
    beyond: bool = False
    per: Per = "repository"


class RuleMatches(NamedTuple):
    """The images that match a rule, and the images of which that is unknown; the other images do not match."""

    yes: list[Image]
    unknown: list[Image]


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches an image in which all its conditions hold, in the repositories to which it applies."""

    name: str
    kind: Kind
    conditions: tuple[Condition, ...] = ()
    count: Count | None = None
    repositories: Patterns | None = None
    except_repositories: Patterns | None = None

    def applies_to(self, repository: str) -> bool:
        """Whether the rule applies to the repository with this path. Without `repositories` it applies to all; a match
        of `except_repositories` excludes a repository in any case.
        """
        if self.repositories is not None and self.repositories.match(repository) is None:
            return False
        return self.except_repositories is None or self.except_repositories.match(repository) is None

    def match(self, images: Iterable[Image], context: ConditionContext) -> "RuleMatches":
        """The images for which all conditions answer yes, and those for which none answers no. Leaves out the count."""
        yes, unknown = list(images), list[Image]()
        for condition in self.conditions:
            unknown = [image for image in unknown if condition.holds(image, context) is not NO]
            yes, undecided = condition.split(yes, context)
            unknown += undecided
        return RuleMatches(yes, unknown)


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in the order of the file. Keep beats select, whatever that order."""

    name: str
    rules: tuple[Rule, ...]
    sha256: str = ""  # of the canonical form of its document

    @property
    def keep_rules(self) -> tuple[str, ...]:
        """The names of the keep rules."""
        return tuple(rule.name for rule in self.rules if rule.kind == "keep")

    def registry_rules(self) -> tuple[Rule, ...]:
        """The rules that count across the whole registry."""
        return tuple(rule for rule in self.rules if rule.count is not None and rule.count.per == "registry")


@dataclass(frozen=True, slots=True)
class Newest:
    """The N newest images of a repository or registry.

    If equal push times have no order (`ordered` is false), the images that share the push time of the N-th are `tied`:
    whether a tied image is among the N is unknown.
    """

    n: int
    digests: frozenset[str] = frozenset()  # of the N newest, the tied and the uncounted images before the N-th
    last: RankKey | None = None  # of the N-th
    ordered: bool = True
    tied: frozenset[str] = frozenset()
    uncounted: int = 0  # how many of the digests do not count towards N

    @staticmethod
    def of(n: int, ranks: Iterable[RankKey], *, ordered: bool = True, uncounted: Collection[str] = ()) -> "Newest":
        """`ranks`: newest first. A repeated digest counts once, an `uncounted` digest not at all."""
        first = first_ranked(n, ranks, ordered=ordered, uncounted=uncounted)
        counted = [rank for rank in first if rank[1] not in uncounted]
        last = counted[min(n, len(counted)) - 1] if counted else None
        tied = [digest for time, digest in counted if last is not None and time == last[0]] if len(counted) > n else []
        digests = frozenset(digest for _, digest in first)
        return Newest(n, digests, last, ordered, frozenset(tied), len(first) - len(counted))

    def narrow(self, matches: RuleMatches, *, beyond: bool) -> RuleMatches:
        """The matches that are among the N newest or, with `beyond`, that are not."""
        among, tied = self.digests, self.tied
        unranked = [image for image in matches.yes if image.created_at is None or image.digest in tied]
        yes = [image for image in matches.yes if (image.digest in among) is not beyond]
        if unranked:
            yes = [image for image in yes if image.created_at is not None and image.digest not in tied]
        return RuleMatches(
            yes, [*unranked, *(image for image in matches.unknown if beyond or self._may_include(image))]
        )

    def _may_include(self, image: Image) -> bool:
        """Whether an image that may match could be among the N; its push time or its order may be unknown."""
        if len(self.digests) - self.uncounted < self.n or image.created_at is None:
            return True
        if self.last is None:
            return False
        if not self.ordered:
            return image.created_at >= self.last[0]
        return ranks_before((image.created_at, image.digest), self.last)


def first_ranked(n: int, ranks: Iterable[RankKey], *, ordered: bool, uncounted: Collection[str] = ()) -> list[RankKey]:
    """The first N of `ranks`, newest first, each digest once, with the `uncounted` digests that rank before the N-th.

    If equal push times have no order, the result includes every rank with the push time of the N-th.
    """
    first: dict[str, RankKey] = {}
    counted = 0
    last_time: datetime | None = None
    for rank in ranks:
        if counted >= n and (ordered or rank[0] != last_time):
            break
        if rank[1] not in first:
            first[rank[1]] = rank
            counted += rank[1] not in uncounted
            last_time = rank[0]
    return list(first.values())


def unreported_subjects(images: Iterable[Image]) -> frozenset[str]:
    """The digests of untagged images whose subject is unreported: each may be a referrer, which does not count."""
    return frozenset([image.digest for image in images if image.subject is None and not image.tags])


def uncounted_digests(images: Iterable[Image], returned: Collection[datetime]) -> frozenset[str]:
    """The digests of images that do not count towards N, and so push no other image out of the N newest.

    Their subject is unreported, or a scan (`returned`) first saw them together with images that had been missing.
    """
    images = tuple(images)
    again = [image.digest for image in images if image.created_at in returned] if returned else []
    return unreported_subjects(images).union(again)


def ranks_before(left: RankKey, right: RankKey) -> bool:
    """Whether `left` is newer than `right`; if their push times are equal, the lower digest is the newer."""
    return left[0] > right[0] or (left[0] == right[0] and left[1] < right[1])


def newest_first(ranks: Iterable[RankKey]) -> list[RankKey]:
    return sorted(sorted(ranks, key=itemgetter(1)), key=itemgetter(0), reverse=True)


def rank_keys(matches: RuleMatches) -> Iterator[RankKey]:
    """Those of the images that count: they match all other conditions, and their push time is known."""
    return ((image.created_at, image.digest) for image in matches.yes if image.created_at is not None)
