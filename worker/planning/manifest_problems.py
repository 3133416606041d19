"""Collects images of a plan with unreadable manifests or without a possible size, for its warnings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from policies.image import Image, UnreadableImage
from policies.warnings import PlanWarning


@dataclass(slots=True)
class ManifestProblems:
    """The problems of a plan's manifests.

    `ignored`: digests of unreadable images that the file ignores. `why`: by digest, the error of the registry's driver.
    """

    ignored: frozenset[str]
    why: Mapping[str, str]
    _unreadable: dict[str, list[UnreadableImage]] = field(default_factory=dict)  # by repository
    _unsized: dict[str, list[str]] = field(default_factory=dict)  # by repository: digests

    def add(self, path: str, images: Iterable[Image]) -> None:
        """Add the images of a repository, in place of its earlier ones."""
        self._unreadable[path], self._unsized[path] = unreadable, unsized = [], []
        for image in images:
            if image.children is None:
                if image.digest not in self.ignored:
                    reason = _reason(image, self.why.get(image.digest, ""))
                    unreadable.append(UnreadableImage(repository=path, digest=image.digest, reason=reason))
            elif image.compressed_size is None and (image.layers or image.config):
                unsized.append(image.digest)

    @property
    def unreadable(self) -> tuple[UnreadableImage, ...]:
        """The unreadable images, in the order of repositories."""
        return tuple(image for path in sorted(self._unreadable) for image in self._unreadable[path])

    def warnings(self) -> Iterator[PlanWarning]:
        if self.unreadable:
            yield PlanWarning(
                "unreadable_images",
                "Nothing is deleted in the repository of an unreadable image, which may list any image: delete it, push"
                " it again, or name its digest under ignore_unreadable in the registry.",
            )
        unsized = [f"{path}@{digest}" for path in sorted(self._unsized) for digest in self._unsized[path]]
        if unsized:
            images = "1 image has" if len(unsized) == 1 else f"{len(unsized):,} images have"
            yield PlanWarning(
                "unknown_sizes",
                f"{images} no possible size, for example {unsized[0]}: conditions on the size are unknown, and totals"
                " of bytes do not count it completely.",
            )


def _reason(image: Image, why: str) -> str:
    if image.media_type:
        return f"its type {image.media_type[:100]} is not known, so it may list other images"
    return f"its manifest could not be read{f' ({why})' if why else ''}, so it may list other images"
