"""What is in use, and by whom: by digest wherever it lies, by tag through the registry's own addresses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policies.image import Image
from policies.subjects import indexes_over


@dataclass(frozen=True)
class Evidence:
    """Everything that is in use, from all sources of one registry, each with who uses it."""

    digests: Mapping[str, str] = field(default_factory=dict)  # of an index, of an image, or of its config -> by whom
    tags: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (repository's path, tag) -> by whom

    def in_use(self, path: str, images: Iterable[Image]) -> dict[str, str]:
        """By digest, why an image of this repository is in use. What is in use by its child keeps its indexes."""
        if not self.digests and not self.tags:
            return {}
        images = tuple(images)
        used = {image.digest: f"in use by {by}" for image in images if (by := self._by(path, image)) is not None}
        over = indexes_over(images, used)
        return used | {index: f"lists {origin}, {used[origin]}" for index, origin in over.items()}

    def _by(self, path: str, image: Image) -> str | None:
        if (by := self.digests.get(image.digest)) is not None:
            return by
        if image.config is not None and (by := self.digests.get(image.config.digest)) is not None:
            return by
        return next((self.tags[path, tag] for tag in image.tags if (path, tag) in self.tags), None)
