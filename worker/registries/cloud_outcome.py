"""What a folder shows after a deletion, against what it showed before. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from policies.image import Image
from worker.registries.cloud_images import Folder
from worker.registries.cloud_protocol import Artifact


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of an image, and what went or moved beside it."""

    artifacts: Sequence[Artifact]  # of its digest
    tags: tuple[str, ...]  # of the image as it was planned, still on it
    new_tags: tuple[str, ...]  # on it, and not planned
    raced: tuple[str, ...]  # of the image as it was planned, on another by now
    strays: tuple[str, ...]  # tags, and digests of untagged children, of other images that are gone


def left_of(image: Image, before: Folder | None, after: Folder, asked: Collection[str] = ()) -> Left:
    """`before` None: not known. `asked`: digests whose deletion was asked for as well: they may be gone."""
    now = after.tags.get(image.digest, set())
    owner = {tag: digest for digest, tags in after.tags.items() for tag in tags}
    return Left(
        artifacts=after.of(image.digest),
        tags=tuple(sorted(now & set(image.tags))),
        new_tags=tuple(sorted(now - set(image.tags))),
        raced=tuple(sorted(tag for tag in image.tags if owner.get(tag, image.digest) != image.digest)),
        strays=_strays(image, before, after, asked) if before is not None else (),
    )


def _strays(image: Image, before: Folder, after: Folder, asked: Collection[str]) -> tuple[str, ...]:
    """An untagged image goes for many reasons; one that the image listed went with it."""
    there = {tag for tags in after.tags.values() for tag in tags} | after.by_digest.keys()
    below = before.below(image.digest)
    return tuple(
        sorted(
            name
            for name, digest in before.names(without=image.digest).items()
            if name not in there and digest not in asked and (name != digest or digest in below)
        )
    )
