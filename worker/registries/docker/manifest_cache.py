"""Manifests are read once per digest and then cached; their facts are added to images."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import UNSET
from msgspec.structs import replace

from policies.image import Blob, Image
from policies.subjects import listed_subject
from worker.registries.docker.manifests import MAX_BYTES
from worker.registries.errors import RegistryError, TooLateError
from worker.registries.interface import Manifest, ManifestCache

BATCH = 256  # manifests that are read before they are cached: a crash loses at most so many

Read = Callable[[Sequence[str]], Mapping[str, Manifest | RegistryError]]


def read_through(
    cache: ManifestCache, digests: Sequence[str], read: Read, complete: Callable[[Manifest], bool] = lambda _: True
) -> Mapping[str, Manifest]:
    """The cached manifests of these digests, and those that `read` returns for the others; errors are left out.

    `complete`: whether a cached manifest has every fact that is needed; if not, it is read again.
    """
    digests = list(dict.fromkeys(digests))
    known = dict(cache.load(digests))
    missing = [digest for digest in digests if digest not in known or not complete(known[digest])]
    if missing:
        new = {digest: result for digest, result in read(missing).items() if isinstance(result, Manifest)}
        cache.save(new)
        known |= new
    return known


def read_until(
    cache: ManifestCache, digests: Sequence[str], read: Read, not_after: float
) -> tuple[Mapping[str, Manifest], RegistryError | None]:
    """`read_through` in batches, each cached before the next is read; returns the manifests and the first error.

    A systemic error ends the reading. The first batch is a single manifest, so that such an error costs one request.
    """
    manifests: dict[str, Manifest] = {}
    errors: list[RegistryError] = []

    def read_and_collect_errors(batch: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        results = read(batch)
        errors.extend(result for result in results.values() if isinstance(result, RegistryError))
        return results

    for start, end in pairwise((0, 1, *range(1 + BATCH, len(digests) + BATCH, BATCH))):
        if time.monotonic() >= not_after or any(error.systemic for error in errors):
            break
        manifests |= read_through(cache, digests[start:end], read_and_collect_errors)
    return manifests, next((error for error in errors if not isinstance(error, TooLateError)), None)


def unreported(images: Iterable[Image]) -> list[str]:
    """The digests of the untagged images without a reported subject. Tagged images are judged by their tags."""
    return [image.digest for image in images if image.subject is None and not image.tags]


def with_known_subjects(cache: ManifestCache, images: Sequence[Image], read: Read) -> tuple[Image, ...]:
    """The images with their cached subjects; the subjects of the children of fallback lists are read as well. An image
    whose manifest is neither cached nor read stays as it is. Manifests that are read are saved in `cache`.
    """
    listed = {child for image in images if listed_subject(image.tags) is not None for child in image.children or ()}
    unread = [image.digest for image in images if image.subject is None and image.digest in listed]
    return with_subjects(images, {**cache.load(unreported(images)), **read_through(cache, unread, read)})


def with_subjects(images: Iterable[Image], manifests: Mapping[str, Manifest]) -> tuple[Image, ...]:
    """The images, with the subject of their manifest if it was read."""
    return tuple(
        image
        if (manifest := manifests.get(image.digest)) is None
        else replace(image, subject=UNSET if manifest.subject is None else manifest.subject)
        for image in images
    )


def size_of(config: Blob | None, layers: Sequence[Blob]) -> int | None:
    """Bytes of config and layers, each blob once, from the manifest; None: no blobs, or an impossible sum. Impossible:
    more than MAX_BYTES. A registry need not check the sizes in a manifest, so the sum may be wrong.
    """
    blobs = (*((config,) if config else ()), *layers)
    size = sum({blob.digest: blob.size for blob in blobs}.values())
    return size if blobs and size <= MAX_BYTES else None


def resolved(image: Image, manifest: Manifest | None) -> Image:
    """The image with the facts of its manifest; `children` is None if the manifest could not be read. Then every other
    fact, also `subject`, stays as it is. `children` UNSET: the manifest is no index. `subject` UNSET: the manifest has
    none.
    """
    if manifest is None:
        return replace(image, children=None)
    children = UNSET if manifest.children is None else manifest.children
    subject = UNSET if manifest.subject is None else manifest.subject
    return replace(image, children=children, subject=subject, media_type=manifest.media_type)
