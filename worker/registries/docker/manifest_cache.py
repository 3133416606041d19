"""Manifests as drivers share them: read once per digest, then remembered; what one says is put into its image."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import UNSET
from msgspec.structs import replace

from policies.image import Blob, Image
from policies.subjects import listed_subject
from worker.registries.docker.manifests import MOST_BYTES
from worker.registries.errors import RegistryError, TooLateError
from worker.registries.interface import Manifest, ManifestCache

PORTION = 256  # manifests that are read before they are remembered: what a crash loses

Read = Callable[[Sequence[str]], Mapping[str, Manifest | RegistryError]]


def read_through(
    memory: ManifestCache, digests: Sequence[str], read: Read, enough: Callable[[Manifest], bool] = lambda _: True
) -> Mapping[str, Manifest]:
    """What is remembered of these digests, and what `read` finds of the others; left out: what could not be read.

    `enough`: whether what is remembered of one says enough; else it is read again.
    """
    wanted = list(dict.fromkeys(digests))
    known = dict(memory.load(wanted))
    unknown = [digest for digest in wanted if digest not in known or not enough(known[digest])]
    if unknown:
        answers = read(unknown)
        new = {digest: response for digest, response in answers.items() if isinstance(response, Manifest)}
        memory.save(new)
        known |= new
    return known


def read_until(
    memory: ManifestCache, digests: Sequence[str], read: Read, not_after: float
) -> tuple[Mapping[str, Manifest], RegistryError | None]:
    """`read_through` in portions, each remembered before the next is read, and the first refusal.

    A refusal that the next manifest would meet as well ends the reading: the first portion is one manifest.
    """
    found: dict[str, Manifest] = {}
    refusals: list[RegistryError] = []

    def noting(some: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        answers = read(some)
        refusals.extend(one for one in answers.values() if isinstance(one, RegistryError))
        return answers

    for start, end in pairwise((0, 1, *range(1 + PORTION, len(digests) + PORTION, PORTION))):
        if time.monotonic() >= not_after or any(one.systemic for one in refusals):
            break
        found |= read_through(memory, digests[start:end], noting)
    return found, next((one for one in refusals if not isinstance(one, TooLateError)), None)


def unreported(images: Iterable[Image]) -> list[str]:
    """The digests of the untagged images whose subject was not reported. What is tagged has tags to be judged by."""
    return [image.digest for image in images if image.subject is None and not image.tags]


def with_known_subjects(memory: ManifestCache, images: Sequence[Image], read: Read) -> tuple[Image, ...]:
    """The images with the subjects that are remembered, and those of what a fallback list of referrers lists."""
    listed = {child for image in images if listed_subject(image.tags) is not None for child in image.children or ()}
    unread = [image.digest for image in images if image.subject is None and image.digest in listed]
    return with_subjects(images, {**memory.load(unreported(images)), **read_through(memory, unread, read)})


def with_subjects(images: Iterable[Image], manifests: Mapping[str, Manifest]) -> tuple[Image, ...]:
    """The images, those whose manifest was read with the subject that it names."""
    return tuple(
        image
        if (manifest := manifests.get(image.digest)) is None
        else replace(image, subject=UNSET if manifest.subject is None else manifest.subject)
        for image in images
    )


def size_of(config: Blob | None, layers: Sequence[Blob]) -> int | None:
    """Bytes of config and layers, each once, as the pusher wrote them; None: there are none, or it cannot be."""
    blobs = (*((config,) if config else ()), *layers)
    size = sum({blob.digest: blob.size for blob in blobs}.values())
    return size if blobs and size <= MOST_BYTES else None


def resolved(image: Image, manifest: Manifest | None) -> Image:
    """The image with what its manifest says of others; `children` None: it could not be read."""
    if manifest is None:
        return replace(image, children=None)
    children = UNSET if manifest.children is None else manifest.children
    subject = UNSET if manifest.subject is None else manifest.subject
    return replace(image, children=children, subject=subject, media_type=manifest.media_type)
