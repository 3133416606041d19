"""The conditions of rules. A condition answers yes, no or unknown for one image; its rule resolves *unknown*.

A condition gives its answer and the fact behind it, no verdict. `tags` and `except_tags` mean different things in a
select rule (every tag matches) and in a keep rule (one tag is enough), so each meaning is a class of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from msgspec import UNSET

from policies.image import Image
from policies.patterns import Patterns
from policies.units import bytes_text, counted_in, in_units


class Answer(Enum):
    NO = 0
    UNKNOWN = 1
    YES = 2


_TAGS = attrgetter("tags")
NO, UNKNOWN, YES = Answer.NO, Answer.UNKNOWN, Answer.YES


class Sighting(NamedTuple):
    """What earlier complete scans saw of an image."""

    since: datetime | None  # since when untagged; None: the last of them saw the image with tags


@dataclass(frozen=True, slots=True)
class ConditionContext:
    """The facts beyond an image that conditions need: the time, the sizes of indexes, the scan history."""

    now: datetime
    index_size: Callable[[Image], int | None] = lambda _: None
    seen: Callable[[Image], Sighting | None] = lambda _: None  # None: no complete scan has seen it
    suspicion: str = ""  # why push times are not trusted
    suspicious: Container[str] = ()  # digests of the images whose push time is not trusted

    def size(self, image: Image) -> int | None:
        """Bytes of an image, or of an index and all its children, each blob once; None: unknown."""
        return image.compressed_size if image.children is UNSET else self.index_size(image)

    def sizes(self, images: Iterable[Image]) -> list[int | None]:
        """The bytes of each image, in the order of the images; None: unknown. As `size`: an index counts with all its
        children, each blob once.
        """
        unset, index_size = UNSET, self.index_size
        return [image.compressed_size if image.children is unset else index_size(image) for image in images]

    def why_untimed(self, image: Image) -> str:
        """Why the push time of an image is unknown. Only for an image whose `created_at` is None: the graph has removed
        the push times that are not trusted.
        """
        if image.digest in self.suspicious:
            return f"its push time is not trusted: {self.suspicion}"
        return "its push time is unknown"


class Condition(ABC):
    """A question about an image. `holds` and `fact` define it; `split` and `facts` do the same for many images."""

    __slots__ = ()

    @abstractmethod
    def holds(self, image: Image, context: ConditionContext, /) -> Answer: ...

    @abstractmethod
    def fact(self, image: Image, context: ConditionContext, /) -> str:
        """Why the answer is yes or, if it is unknown, which fact is unknown."""

    def facts(self, images: Sequence[Image], context: ConditionContext, /) -> list[str]:
        """The fact of each image."""
        return [self.fact(image, context) for image in images]

    def split(self, images: list[Image], context: ConditionContext, /) -> tuple[list[Image], list[Image]]:
        """The images for which the answer is yes, and those for which it is unknown. Gives the answers of `holds`. Both
        lists keep the order of `images`; an image with the answer no is in neither.
        """
        answers = [self.holds(image, context) for image in images]
        pairs = list(zip(images, answers, strict=True))
        return [image for image, answer in pairs if answer is YES], [
            image for image, answer in pairs if answer is UNKNOWN
        ]


@dataclass(frozen=True, slots=True)
class All(Condition):
    """Always."""

    def holds(self, _image: Image, _context: ConditionContext) -> Answer:
        return YES

    def fact(self, _image: Image, _context: ConditionContext) -> str:
        return "every image"


@dataclass(frozen=True, slots=True)
class EveryTag(Condition):
    """Tagged, and every tag matches one of the patterns: deleting an image deletes all its tags."""

    patterns: Patterns

    def holds(self, image: Image, _context: ConditionContext) -> Answer:
        match = self.patterns.match
        for tag in image.tags:
            if match(tag) is None:
                return NO
        return YES if image.tags else NO

    def split(self, images: list[Image], _context: ConditionContext) -> tuple[list[Image], list[Image]]:
        matched = self.patterns.matching(_tags_of(images))
        return [image for image in images if image.tags and matched.issuperset(image.tags)], []

    def fact(self, image: Image, _context: ConditionContext) -> str:
        matched = dict.fromkeys([self.patterns.match(tag) or "" for tag in image.tags])
        return f"every tag matches {', '.join(matched)}"

    def facts(self, images: Sequence[Image], context: ConditionContext) -> list[str]:
        match, texts = self.patterns.match, {text: f"every tag matches {text}" for text in self.patterns.texts}
        if len(texts) == 1:
            return [*texts.values()] * len(images)
        return [
            texts[match(image.tags[0]) or ""] if len(image.tags) == 1 else self.fact(image, context) for image in images
        ]


@dataclass(frozen=True, slots=True)
class NoTag(Condition):
    """No tag matches any of the patterns, or the image is untagged."""

    patterns: Patterns

    def holds(self, image: Image, _context: ConditionContext) -> Answer:
        return NO if any(self.patterns.match(tag) for tag in image.tags) else YES

    def fact(self, image: Image, _context: ConditionContext) -> str:
        return f"no tag matches {self.patterns}" if image.tags else "untagged"


@dataclass(frozen=True, slots=True)
class SomeTag(Condition):
    """A tag matches `matching` and none of `excepting`; without `matching`, any tag does, or the image has no tag."""

    matching: Patterns | None = None
    excepting: Patterns | None = None

    def holds(self, image: Image, _context: ConditionContext) -> Answer:
        if not image.tags:
            return YES if self.matching is None else NO
        return NO if self._first(image) is None else YES

    def split(self, images: list[Image], context: ConditionContext) -> tuple[list[Image], list[Image]]:
        if self.matching is None or self.excepting is not None:
            return super(SomeTag, self).split(images, context)
        matched = self.matching.matching(_tags_of(images))
        return [image for image in images if not matched.isdisjoint(image.tags)], []

    def fact(self, image: Image, _context: ConditionContext) -> str:
        first = self._first(image)
        if first is None:
            return "untagged"
        tag, matched = first
        words = [f"matches {matched}"] if self.matching is not None else []
        if self.excepting is not None:
            words.append(f"matches none of {self.excepting}")
        return f"tag {tag} {' and '.join(words)}"

    def _first(self, image: Image) -> tuple[str, str | None] | None:
        """The first tag for which the condition holds, and the pattern that it matches."""
        for tag in image.tags:
            matched = None if self.matching is None else self.matching.match(tag)
            wanted = self.matching is None or matched is not None
            if wanted and (self.excepting is None or self.excepting.match(tag) is None):
                return tag, matched
        return None


@dataclass(frozen=True, slots=True)
class Tagged(Condition):
    """The image has tags or, with `tagged=False`, has none."""

    tagged: bool = True

    def holds(self, image: Image, _context: ConditionContext) -> Answer:
        return YES if bool(image.tags) is self.tagged else NO

    def split(self, images: list[Image], _context: ConditionContext) -> tuple[list[Image], list[Image]]:
        tagged = self.tagged
        return [image for image in images if bool(image.tags) is tagged], []

    def fact(self, _image: Image, _context: ConditionContext) -> str:
        return "tagged" if self.tagged else "untagged"


@dataclass(frozen=True, slots=True)
class Digests(Condition):
    """The digest of the image is among `digests`."""

    digests: frozenset[str]

    def holds(self, image: Image, _context: ConditionContext) -> Answer:
        return YES if image.digest in self.digests else NO

    def fact(self, _image: Image, _context: ConditionContext) -> str:
        return "its digest is listed"


@dataclass(frozen=True, slots=True)
class OlderThan(Condition):
    """Pushed at least `age` ago."""

    age: timedelta

    def holds(self, image: Image, context: ConditionContext) -> Answer:
        """Whether the image was pushed at least `age` ago; exactly `age` is yes. Unknown: the image has no push time,
        or none that is trusted.
        """
        created_at = image.created_at
        if created_at is None:
            return UNKNOWN
        return YES if context.now - created_at >= self.age else NO

    def split(self, images: list[Image], context: ConditionContext) -> tuple[list[Image], list[Image]]:
        timed = [(image.created_at, image) for image in images if image.created_at is not None]
        untimed = [image for image in images if image.created_at is None] if len(timed) < len(images) else []
        try:
            border = context.now - self.age
        except OverflowError:  # before year 1
            return [], untimed
        return [image for created_at, image in timed if created_at <= border], untimed

    def fact(self, image: Image, context: ConditionContext) -> str:
        return self.facts([image], context)[0]

    def facts(self, images: Sequence[Image], context: ConditionContext) -> list[str]:
        return _age_facts(images, context, "at least", self.age)


@dataclass(frozen=True, slots=True)
class NewerThan(Condition):
    """Pushed less than `age` ago."""

    age: timedelta

    def holds(self, image: Image, context: ConditionContext) -> Answer:
        """Whether the image was pushed less than `age` ago; exactly `age` is no. Unknown: the image has no push time,
        or none that is trusted.
        """
        created_at = image.created_at
        if created_at is None:
            return UNKNOWN
        return YES if context.now - created_at < self.age else NO

    def fact(self, image: Image, context: ConditionContext) -> str:
        return self.facts([image], context)[0]

    def facts(self, images: Sequence[Image], context: ConditionContext) -> list[str]:
        return _age_facts(images, context, "less than", self.age)


@dataclass(frozen=True, slots=True)
class UntaggedFor(Condition):
    """Complete scans have seen the image, always untagged, for at least `age`."""

    age: timedelta

    def holds(self, image: Image, context: ConditionContext) -> Answer:
        """Whether scans have seen the image untagged for at least `age`; exactly `age` is yes. No: it has tags, or the
        last complete scan saw it with tags. Unknown: `context.seen` has no sighting of it.
        """
        if image.tags:
            return NO
        sighting = context.seen(image)
        if sighting is None:
            return UNKNOWN
        return YES if sighting.since is not None and context.now - sighting.since >= self.age else NO

    def fact(self, image: Image, context: ConditionContext) -> str:
        sighting = context.seen(image)
        if sighting is None or sighting.since is None:
            return "no earlier complete scan has seen it untagged"
        unit, name = in_units(self.age)
        seen = max((context.now - sighting.since) // unit, 0)
        return f"seen untagged for {counted_in(seen, name)}, at least {self.age // unit}"


@dataclass(frozen=True, slots=True)
class LargerThan(Condition):
    """More bytes than `size`."""

    size: int

    def holds(self, image: Image, context: ConditionContext) -> Answer:
        """Whether the image has more than `size` bytes; an index with all its children, each blob once. Unknown: the
        size of the image, or of a child of the index, is unknown.
        """
        size = context.size(image)
        if size is None:
            return UNKNOWN
        return YES if size > self.size else NO

    def split(self, images: list[Image], context: ConditionContext) -> tuple[list[Image], list[Image]]:
        sized = list(zip(images, context.sizes(images), strict=True))
        yes = [image for image, size in sized if size is not None and size > self.size]
        return yes, [image for image, size in sized if size is None]

    def fact(self, image: Image, context: ConditionContext) -> str:
        return _size_fact(image, context, f"larger than {bytes_text(self.size)}")


@dataclass(frozen=True, slots=True)
class SmallerThan(Condition):
    """Fewer bytes than `size`."""

    size: int

    def holds(self, image: Image, context: ConditionContext) -> Answer:
        """Whether the image has fewer than `size` bytes; an index with all its children, each blob once. Unknown: the
        size of the image, or of a child of the index, is unknown.
        """
        size = context.size(image)
        if size is None:
            return UNKNOWN
        return YES if size < self.size else NO

    def split(self, images: list[Image], context: ConditionContext) -> tuple[list[Image], list[Image]]:
        sized = list(zip(images, context.sizes(images), strict=True))
        yes = [image for image, size in sized if size is not None and size < self.size]
        return yes, [image for image, size in sized if size is None]

    def fact(self, image: Image, context: ConditionContext) -> str:
        return _size_fact(image, context, f"smaller than {bytes_text(self.size)}")


@dataclass(frozen=True, slots=True)
class AnyTag(Condition):
    """At least one tag matches: the image is deleted with all its tags because of one tag, on purpose."""

    patterns: Patterns

    def holds(self, image: Image, _context: ConditionContext) -> Answer:
        return YES if any(self.patterns.match(tag) for tag in image.tags) else NO

    def fact(self, image: Image, _context: ConditionContext) -> str:
        tag = next(tag for tag in image.tags if self.patterns.match(tag))
        return f"tag {tag} matches {self.patterns.match(tag)}"


def _tags_of(images: Iterable[Image]) -> Iterator[str]:
    return chain.from_iterable(map(_TAGS, images))


def _age_facts(images: Sequence[Image], context: ConditionContext, word: str, age: timedelta) -> list[str]:
    """The age of each image, in the unit of a rule's age. Images of the same age share one text."""
    unit, name = in_units(age)
    seconds = unit // timedelta(seconds=1)
    spans = [None if image.created_at is None else context.now - image.created_at for image in images]
    ages = [None if span is None else (span.days * 86_400 + span.seconds) // seconds for span in spans]
    bound = f"old, {word} {age // unit}"
    texts = {old: f"{counted_in(max(old, 0), name)} {bound}" for old in set(ages) if old is not None}
    return [context.why_untimed(image) if old is None else texts[old] for image, old in zip(images, ages, strict=True)]


def _size_fact(image: Image, context: ConditionContext, bound: str) -> str:
    size = context.size(image)
    return "its size is unknown" if size is None else f"{bytes_text(size)}, {bound}"
