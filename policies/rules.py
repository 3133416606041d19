"""Select and keep rules, and counting: which images are among the newest.

What *unknown* means is settled here and nowhere else: it does not select, and it does keep.
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
Place = tuple[datetime, str]  # push time and digest: what the newest are ranked by


@dataclass(frozen=True, slots=True)
class Count:
    """`newest: N`, or `beyond_newest: N`: what is not among them. Counted by distinct digest."""

    n: int
    beyond: bool = False
    per: Per = "repository"


class RuleMatches(NamedTuple):
    """What a rule says of some images: these surely, these perhaps, the others not."""

    yes: list[Image]
    unknown: list[Image]


@dataclass(frozen=True, slots=True)
class Rule:
    """All its conditions must hold, in the repositories it applies to."""

    name: str
    kind: Kind
    conditions: tuple[Condition, ...] = ()
    count: Count | None = None
    repositories: Patterns | None = None
    except_repositories: Patterns | None = None

    def applies_to(self, repository: str) -> bool:
        if self.repositories is not None and self.repositories.match(repository) is None:
            return False
        return self.except_repositories is None or self.except_repositories.match(repository) is None

    def asks(self, images: Iterable[Image], context: ConditionContext) -> "RuleMatches":
        """The conditions' common answer on each image, without the count: no if any says no, else unknown if any is."""
        yes, unknown = list(images), list[Image]()
        for condition in self.conditions:
            unknown = [image for image in unknown if condition.holds(image, context) is not NO]
            yes, perhaps = condition.split(yes, context)
            unknown += perhaps
        return RuleMatches(yes, unknown)


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in the order of the file. Keep beats select, whatever that order."""

    name: str
    rules: tuple[Rule, ...]
    sha256: str = ""  # of the canonical form of its document

    @property
    def keep_rules(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(rule.name for rule in self.rules if rule.kind == "keep")

    def of_registry(self) -> tuple[Rule, ...]:
        """The rules that cannot be answered by one repository alone."""
        return tuple(rule for rule in self.rules if rule.count is not None and rule.count.per == "registry")


@dataclass(frozen=True, slots=True)
class Top:
    """The first N of a ranking: what takes a place in them, and whether another image might.

    Where equal times have no order (`ordered` is false), all that tie at the border of N are `tied`: whether such an
    image is among the N is unknown.
    """

    n: int
    digests: frozenset[str] = frozenset()  # of the N, and of whatever is tied
    last: Place | None = None  # the least of the N
    ordered: bool = True
    tied: frozenset[str] = frozenset()
    uncounted: int = 0  # how many of the digests take no place

    @staticmethod
    def of(n: int, places: Iterable[Place], *, ordered: bool = True, uncounted: Collection[str] = ()) -> "Top":
        """`places`: newest first; a digest seen again takes no further place, one that is `uncounted` takes none."""
        taken = first_places(n, places, ordered=ordered, uncounted=uncounted)
        counted = [place for place in taken if place[1] not in uncounted]
        last = counted[min(n, len(counted)) - 1] if counted else None
        tied = [digest for time, digest in counted if last is not None and time == last[0]] if len(counted) > n else []
        digests = frozenset(digest for _, digest in taken)
        return Top(n, digests, last, ordered, frozenset(tied), len(taken) - len(counted))

    def narrows(self, asked: RuleMatches, *, beyond: bool) -> RuleMatches:
        """Which of these are among the N, or (`beyond`) are not, after what the rule's conditions said of them."""
        among, tied = self.digests, self.tied
        unranked = [image for image in asked.yes if image.created_at is None or image.digest in tied]
        yes = [image for image in asked.yes if (image.digest in among) is not beyond]
        if unranked:
            yes = [image for image in yes if image.created_at is not None and image.digest not in tied]
        return RuleMatches(yes, [*unranked, *(image for image in asked.unknown if beyond or self._has_room_for(image))])

    def _has_room_for(self, image: Image) -> bool:
        """Whether fewer than N rank before this image, or might: its time, or its order, may be unknown."""
        if len(self.digests) - self.uncounted < self.n or image.created_at is None:
            return True
        if self.last is None:
            return False
        if not self.ordered:
            return image.created_at >= self.last[0]
        return before((image.created_at, image.digest), self.last)


def first_places(n: int, places: Iterable[Place], *, ordered: bool, uncounted: Collection[str] = ()) -> list[Place]:
    """The first N, each digest once; where equal times have no order, also whatever ties with the last of them.

    `places`: newest first. `uncounted`: digests that come along where they rank before the N-th, beside the N.
    """
    taken: dict[str, Place] = {}
    counted = 0
    border: datetime | None = None  # the time of the N-th
    for place in places:
        if counted >= n and (ordered or place[0] != border):
            break
        if place[1] not in taken:
            taken[place[1]] = place
            counted += place[1] not in uncounted
            border = place[0]
    return list(taken.values())


def unreported(images: Iterable[Image]) -> frozenset[str]:
    """The digests of untagged images whose subject was not reported: each may be a referrer, which nobody counts."""
    return frozenset([image.digest for image in images if image.subject is None and not image.tags])


def placeless(images: Iterable[Image], returned: Collection[datetime]) -> frozenset[str]:
    """The digests of images that take no place in a count, and so push no other image out of it.

    Those whose subject was not reported. And those that a scan (`returned`) saw first together with images that had
    been missing: whether these were pushed again or were there all the time, nobody can say.
    """
    images = tuple(images)
    again = [image.digest for image in images if image.created_at in returned] if returned else []
    return unreported(images).union(again)


def before(one: Place, other: Place) -> bool:
    """Whether `one` ranks before `other`: the newer first; of equal times the lower digest counts as the newer."""
    return one[0] > other[0] or (one[0] == other[0] and one[1] < other[1])


def newest_first(places: Iterable[Place]) -> list[Place]:
    return sorted(sorted(places, key=itemgetter(1)), key=itemgetter(0), reverse=True)


def population(asked: RuleMatches) -> Iterator[Place]:
    """Those that take a place in a count: they surely pass the rule's other conditions, and their time is known."""
    return ((image.created_at, image.digest) for image in asked.yes if image.created_at is not None)
