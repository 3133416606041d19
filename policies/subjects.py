"""What images refer to: by an OCI `subject`, by cosign's tags, by a fallback list of referrers; and what lists them.

A fallback list of the referrers of a digest is an index tagged `sha256-<hex>`, which clients keep where a registry has
no referrers API (OCI distribution specification, "Referrers Tag Schema"). The tag alone proves nothing: people tag
images by the hash of whatever they like. So it is a list only if each image that it lists names that digest as its
subject, or is no image at all; otherwise it is an index like any other, and what it lists are its children.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from policies.image import Image

LIST_TAG = re.compile("(sha256|sha512)-([0-9a-f]{64})")  # of a longer digest the tag has the beginning
IMAGE_TYPES = frozenset({
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
})  # fmt: skip
_SIGNATURES = (".sig", ".att", ".sbom")
_SHA256 = len("sha256:") + 64


class FallbackList(NamedTuple):
    """What an index lists the referrers of. Not `certain`: what some of its images refer to was not reported."""

    subject: str
    certain: bool


def subjects_of(image: Image) -> tuple[str, ...]:
    """The digests that an image itself says it refers to, by OCI `subject` or cosign's tags; none: no referrer."""
    subjects = {image.subject} if isinstance(image.subject, str) else set()
    if image.tags and image.tags[0].startswith("sha256-"):
        named = [_signed(tag) for tag in image.tags]
        if all(named):
            subjects.update(subject for subject in named if subject)
    return tuple(sorted(subjects)) if subjects else ()


def listed_subject(tags: Iterable[str]) -> str | None:
    """The one digest, or its beginning, that all of these tags say a list of referrers is about; None: they do not."""
    named = {found and f"{found[1]}:{found[2]}" for found in map(LIST_TAG.fullmatch, tags)}
    return named.pop() if len(named) == 1 else None


def fallback_list(index: Image, by_digest: Mapping[str, Image]) -> FallbackList | None:
    """What this index lists the referrers of; None: it is an index like any other. `by_digest`: its repository."""
    named = listed_subject(index.tags)
    if named is None or not isinstance(index.children, tuple):
        return None
    subjects, certain = {named} if len(named) == _SHA256 and named.startswith("sha256:") else set(), True
    for child in index.children:
        image = by_digest.get(child)
        if image is None:  # what is not there proves nothing
            certain = False
            continue
        refers_to = subjects_of(image)
        if about := [subject for subject in refers_to if subject.startswith(named)]:
            subjects.update(about)
        elif refers_to or _is_image(image):
            return None
        elif _is_unread(image):
            certain = False
    return FallbackList(subjects.pop(), certain) if len(subjects) == 1 else None


def subjects_in(images: Iterable[Image]) -> dict[str, tuple[str, ...]]:
    """By digest, what each image of a repository refers to; left out where it refers to nothing."""
    by_digest = {image.digest: image for image in images}
    found = {digest: named for digest, image in by_digest.items() if (named := subjects_of(image))}
    for image in by_digest.values():
        listed = fallback_list(image, by_digest) if image.tags and isinstance(image.children, tuple) else None
        if listed is not None and listed.certain:
            for digest in (image.digest, *(image.children or ())):
                if digest in by_digest:
                    found[digest] = tuple(sorted({*found.get(digest, ()), listed.subject}))
    return found


def indexes_over(images: Iterable[Image], digests: Collection[str]) -> dict[str, str]:
    """The indexes that list one of these digests, however deep, and are not among them; each with the one it lists."""
    listed_by: dict[str, list[str]] = {}
    for image in images:
        for child in image.children or ():
            listed_by.setdefault(child, []).append(image.digest)
    found: dict[str, str] = {}
    todo = [(digest, digest) for digest in digests]
    for child, origin in todo:  # grows while it is read
        for index in listed_by.get(child, ()):
            if index not in digests and index not in found:
                found[index] = origin
                todo.append((index, origin))
    return found


def _is_image(image: Image) -> bool:
    """Whether it surely is an image that refers to nothing."""
    return not _is_unread(image) and (not image.media_type or image.media_type in IMAGE_TYPES)


def _is_unread(image: Image) -> bool:
    return image.subject is None or image.children is None


def _signed(tag: str) -> str | None:
    """The digest in a tag of cosign's form, sha256-<64 hex>.sig, .att or .sbom (cosign's SIGNATURE_SPEC)."""
    name, dot, kind = tag.partition(".")
    found = LIST_TAG.fullmatch(name)
    return f"sha256:{found[2]}" if found and found[1] == "sha256" and f"{dot}{kind}" in _SIGNATURES else None
