"""A person's "keep this until…": which images a hold keeps."""

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
    """A tag, digest, image or repository to keep. `until` is aware; None: without end."""

    kind: HoldKind
    repository: str | None = None  # a path; of the kind `repository` a glob; None: every repository
    value: str  # the tag, digest or image id; of the kind `repository` the glob
    digest: str | None = None  # of a tag or an id: the image that had it when the hold began
    until: datetime | None = None
    reason: str = ""
    who: str = ""

    def on(self, path: str, image: Image) -> bool:
        """Whether the hold is on this image. A tag holds the image that had it then, and the image that has it now."""
        if self.kind == "image":
            # A repository's path may look like an id, and ids differ after a registry changes its kind.
            return self.value in (image.id, path) or (self.digest is not None and self.digest == image.digest)
        if self.kind == "repository":
            return True  # `Holds` compares the path
        if self.repository is not None and self.repository != path:
            return False
        if self.kind == "digest":
            return self.value == image.digest
        return self.value in image.tags or (self.digest is not None and self.digest == image.digest)

    def sentence(self) -> str:
        """held by anna until 2026-12-01T00:00:00Z: the trial at customer 7 `until` must be in UTC: its clock time is
        shown with Z. Leaves out facts that the hold does not have.
        """
        until = f" until {self.until:%Y-%m-%dT%H:%M:%SZ}" if self.until else ""
        return f"held{f' by {self.who}' if self.who else ''}{until}{f': {self.reason}' if self.reason else ''}"


@dataclass(frozen=True)
class Holds:
    """All holds of one registry."""

    holds: tuple[Hold, ...] = ()

    @cached_property
    def _patterns(self) -> tuple[tuple[Patterns, Hold], ...]:
        holds = (hold for hold in self.holds if hold.kind == "repository")
        return tuple((Patterns((hold.value,), paths=True), hold) for hold in holds)

    def at(self, now: datetime) -> "Holds":
        """The holds that have not ended at that time."""
        return Holds(tuple(hold for hold in self.holds if hold.until is None or now < hold.until))

    def on(self, path: str, images: Iterable[Image]) -> dict[str, Hold]:
        """By digest, the first hold on each of these images of a repository."""
        of_repository = next((hold for pattern, hold in self._patterns if pattern.match(path) is not None), None)
        others = [hold for hold in self.holds if hold.kind != "repository"]
        if of_repository is None and not others:
            return {}
        firsts = {
            image.digest: next((hold for hold in others if hold.on(path, image)), of_repository) for image in images
        }
        return {digest: hold for digest, hold in firsts.items() if hold is not None}

    def reasons(self, path: str, images: Sequence[Image]) -> dict[str, str]:
        """By digest, why an image of a repository is held: a hold is on it, or on one of its children. Leaves out
        images without a hold. Holds that have ended count, too: take those of `at(now)`. Raises BadValueError: the glob
        of a hold on repositories cannot be read.
        """
        held = {digest: hold.sentence() for digest, hold in self.on(path, images).items()}
        over = indexes_over(images, held) if held else {}
        return held | {index: f"lists {child}, {held[child]}" for index, child in over.items()}
