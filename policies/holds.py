"""A person's "keep this until…": which hold, if any, is on an image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from policies.image import Image
from policies.patterns import Patterns
from policies.subjects import indexes_over

HoldKind = Literal["tag", "digest", "image", "repository"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is held, until when, by whom and why. `until` is aware; None: for ever."""

    kind: HoldKind
    repository: str | None = None  # a path; with `repository` as kind a glob; None: wherever the image is
    value: str  # the tag, the digest or the image's id; with `repository` as kind the glob
    digest: str | None = None  # of a tag or an id: what it named when it was held
    until: datetime | None = None
    reason: str = ""
    who: str = ""

    def on(self, path: str, image: Image) -> bool:
        """Whether it is on this image of this repository. A tag holds what it named then, and what carries it now."""
        if self.kind == "image":
            # A repository's path may look like an id; and an id is another when a registry changes its kind.
            return self.value in (image.id, path) or (self.digest is not None and self.digest == image.digest)
        if self.kind == "repository":
            return True  # `Holds` asks for the path
        if self.repository is not None and self.repository != path:
            return False
        if self.kind == "digest":
            return self.value == image.digest
        return self.value in image.tags or (self.digest is not None and self.digest == image.digest)

    def sentence(self) -> str:
        """held by anna until 2026-12-01T00:00:00Z: the trial at customer 7"""
        until = f" until {self.until:%Y-%m-%dT%H:%M:%SZ}" if self.until else ""
        return f"held{f' by {self.who}' if self.who else ''}{until}{f': {self.reason}' if self.reason else ''}"


@dataclass(frozen=True)
class Holds:
    """All holds of one registry. Those that have run out hold nothing."""

    holds: tuple[Hold, ...] = ()

    @cached_property
    def _patterns(self) -> tuple[tuple[Patterns, Hold], ...]:
        found = (one for one in self.holds if one.kind == "repository")
        return tuple((Patterns((one.value,), paths=True), one) for one in found)

    def at(self, now: datetime) -> "Holds":
        """Those that still hold at an instant."""
        return Holds(tuple(one for one in self.holds if one.until is None or now < one.until))

    def on(self, path: str, images: Iterable[Image]) -> dict[str, Hold]:
        """By digest: the first hold on each of these images of a repository."""
        whole = next((one for pattern, one in self._patterns if pattern.match(path) is not None), None)
        others = [one for one in self.holds if one.kind != "repository"]
        if whole is None and not others:
            return {}
        found = {}
        for image in images:
            hold = next((one for one in others if one.on(path, image)), whole)
            if hold is not None:
                found[image.digest] = hold
        return found

    def reasons(self, path: str, images: Sequence[Image]) -> dict[str, str]:
        """By digest, why an image of a repository is held: a hold is on it, or on something that it lists."""
        held = {digest: hold.sentence() for digest, hold in self.on(path, images).items()}
        over = indexes_over(images, held) if held else {}
        return held | {index: f"lists {origin}, {held[origin]}" for index, origin in over.items()}
