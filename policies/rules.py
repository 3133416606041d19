"""Select and keep rules, and counting: which images are among the newest.

What *unknown* means is settled here and nowhere else: it does not select, and it does keep.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Literal

from policies.conditions import NO, UNKNOWN, YES, Answer, Condition, Scene
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

    def asks(self, image: Image, scene: Scene) -> Answer:
        """The conditions' common answer, without the count: no if any says no, else unknown if any is."""
        answer = YES
        for condition in self.conditions:
            said = condition.holds(image, scene)
            if said is NO:
                return NO
            if said is UNKNOWN:
                answer = UNKNOWN
        return answer


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in the order of the file. Keep beats select, whatever that order."""

    name: str
    rules: tuple[Rule, ...]
    sha256: str = ""  # of the canonical form of its document

    def of_registry(self) -> tuple[Rule, ...]:
        """The rules that cannot be answered by one repository alone."""
        return tuple(rule for rule in self.rules if rule.count is not None and rule.count.per == "registry")


@dataclass(frozen=True, slots=True)
class Top:
    """The first N of a ranking: what takes a place in them, and whether another image might."""

    n: int
    digests: frozenset[str] = frozenset()  # at most n
    last: Place | None = None  # the least of them

    @staticmethod
    def of(n: int, places: Iterable[Place]) -> "Top":
        """`places`: newest first; a digest seen again takes no further place."""
        taken: dict[str, Place] = {}
        for place in places:
            if len(taken) >= n:
                break
            taken.setdefault(place[1], place)
        return Top(n, frozenset(taken), next(reversed(taken.values()), None))

    def says(self, image: Image, asked: Answer, *, beyond: bool) -> Answer:
        """Whether an image is among the N, or (`beyond`) is not, when its rule's other conditions answered `asked`."""
        if asked is NO:
            return NO
        if image.created_at is None:
            return UNKNOWN
        if asked is YES:
            return YES if (image.digest in self.digests) is not beyond else NO
        return UNKNOWN if beyond or self._has_room_for((image.created_at, image.digest)) else NO

    def _has_room_for(self, place: Place) -> bool:
        """Whether fewer than N rank before this place."""
        return len(self.digests) < self.n or (self.last is not None and before(place, self.last))


def before(one: Place, other: Place) -> bool:
    """Whether `one` ranks before `other`: the newer first; of equal times the lower digest counts as the newer."""
    return one[0] > other[0] or (one[0] == other[0] and one[1] < other[1])


def newest_first(places: Iterable[Place]) -> list[Place]:
    return sorted(sorted(places, key=itemgetter(1)), key=itemgetter(0), reverse=True)


def population(rule: Rule, images: Iterable[Image], scene: Scene) -> Iterator[Place]:
    """Of images that may be counted, those that surely pass the rule's other conditions and whose time is known."""
    for image in images:
        if image.created_at is not None and rule.asks(image, scene) is YES:
            yield image.created_at, image.digest
