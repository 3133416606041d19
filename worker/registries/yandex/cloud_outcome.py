"""What a folder shows after a deletion, against what it showed before. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from policies.image import Image
from worker.registries.yandex.cloud_images import Folder
from worker.registries.yandex.cloud_protocol import Artifact


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of an image, and what went or moved beside it."""

    artifacts: Sequence[Artifact]  # of its digest
    tags: tuple[str, ...]  # of the image as it was planned, still on it
    new_tags: tuple[str, ...]  # on it, and not planned
    pushed_again: bool  # some artifact is younger than the image was
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
        pushed_again=any(not _is_of(one, image) for one in after.of(image.digest) if one.created_at),
        raced=tuple(sorted(tag for tag in image.tags if owner.get(tag, image.digest) != image.digest)),
        strays=_strays(image, before, after, asked) if before is not None else (),
    )


def rest_of(image: Image, left: Left, asked: Collection[tuple[str, bool]]) -> Sequence[Artifact]:
    """Untagged artifacts that the last tag's deletion has left, and whose own was not asked for yet.

    `asked`: by id, and whether it had a tag then; empty: another process has asked, and for the image as it was.
    """
    if left.tags:
        return ()
    known = asked or {(one.id, bool(image.tags)) for one in left.artifacts}
    return [one for one in left.artifacts if (one.id, False) not in known and _is_of(one, image)]


def _is_of(artifact: Artifact, image: Image) -> bool:
    """Whether an artifact surely is no younger than the image: what is was pushed meanwhile."""
    times = (artifact.created_at, image.created_at)
    return times[0] is not None and times[1] is not None and times[0] <= times[1]


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
