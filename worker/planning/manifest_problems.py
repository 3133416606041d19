"""Names the images of a plan whose manifests say too little: unreadable ones, and those without a possible size."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from policies.image import Image, UnreadableImage
from policies.warnings import PlanWarning


@dataclass(slots=True)
class ManifestProblems:
    """What was found so far. `ignored`: digests of unreadable images that a person has set aside. `why`: by digest,
    what was wrong with manifests, where the registry's driver has noted it.
    """

    ignored: frozenset[str]
    why: Mapping[str, str]
    _unreadable: dict[str, list[UnreadableImage]] = field(default_factory=dict)  # by repository, as all of these
    _unsized: dict[str, list[str]] = field(default_factory=dict)  # digests

    def note(self, path: str, images: Iterable[Image]) -> None:
        """Take in the images of a repository, in place of what was noted of it before."""
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
        """All of them, by repository."""
        return tuple(image for path in sorted(self._unreadable) for image in self._unreadable[path])

    def warnings(self) -> Iterator[PlanWarning]:
        if self.unreadable:
            yield PlanWarning(
                "unreadable_images",
                "Nothing goes in the repository of an unreadable image, which may list anything: delete it, push it"
                " again, or name its digest under ignore_unreadable in the registry.",
            )
        unsized = [f"{path}@{digest}" for path in sorted(self._unsized) for digest in self._unsized[path]]
        if unsized:
            what = "1 image tells" if len(unsized) == 1 else f"{len(unsized):,} images tell"
            yield PlanWarning(
                "unknown_sizes",
                f"{what} no possible size of all that belongs to it, for example {unsized[0]}:"
                " conditions on its size are unknown, and no total of bytes counts it whole.",
            )


def _reason(image: Image, why: str) -> str:
    if image.media_type:
        return f"its type {image.media_type[:100]} is not known, so that it may list other images"
    return f"its manifest could not be read{f' ({why})' if why else ''}, so that it may list other images"
