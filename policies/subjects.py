"""The subjects of images: by an OCI `subject`, by cosign's tags, by a fallback list of referrers; and their indexes.

A fallback list of the referrers of a digest is an index tagged `sha256-<hex>`, which clients maintain if a registry has
no referrers API (OCI distribution specification, "Referrers Tag Schema"). The tag alone proves nothing: people tag
images by any hash. An index with such a tag is a list only if each of its entries names that digest as its subject, or
is not an image; otherwise it is an ordinary index, and its entries are its children.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from policies.image import Image

LIST_TAG = re.compile("(sha256|sha512)-([0-9a-f]{64})")  # the tag has the start of a longer digest
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
    """The subject whose referrers an index lists. Not `certain`: the subject of an entry is unreported."""

    subject: str
    certain: bool


def subjects_of(image: Image) -> tuple[str, ...]:
    """The subjects that an image itself names, by OCI `subject` or cosign's tags; empty: it is not a referrer."""
    subjects = {image.subject} if isinstance(image.subject, str) else set()
    if image.tags and image.tags[0].startswith("sha256-"):
        named = [_signed(tag) for tag in image.tags]
        if all(named):
            subjects.update(subject for subject in named if subject)
    return tuple(sorted(subjects)) if subjects else ()


def listed_subject(tags: Iterable[str]) -> str | None:
    """The digest, or its start, of which all tags name a list of referrers; None: there is no such digest. None, too,
    without tags, or if the tags differ in this. A sha512 digest is cut to 64 digits. Source: OCI distribution
    specification, "Referrers Tag Schema". The tags alone prove nothing: see `fallback_list`.
    """
    named = {match and f"{match[1]}:{match[2]}" for match in map(LIST_TAG.fullmatch, tags)}
    return named.pop() if len(named) == 1 else None


def fallback_list(index: Image, by_digest: Mapping[str, Image]) -> FallbackList | None:
    """The subject whose referrers an index lists; None: it is an ordinary index. `by_digest`: its repository."""
    named = listed_subject(index.tags)
    if named is None or not isinstance(index.children, tuple):
        return None
    subjects, certain = {named} if len(named) == _SHA256 and named.startswith("sha256:") else set(), True
    for child in index.children:
        image = by_digest.get(child)
        if image is None:  # an absent entry proves nothing
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
    """By digest, the subjects of each referrer of a repository."""
    by_digest = {image.digest: image for image in images}
    subjects = {digest: named for digest, image in by_digest.items() if (named := subjects_of(image))}
    for image in by_digest.values():
        listed = fallback_list(image, by_digest) if image.tags and isinstance(image.children, tuple) else None
        if listed is not None and listed.certain:
            for digest in (image.digest, *(image.children or ())):
                if digest in by_digest:
                    subjects[digest] = tuple(sorted({*subjects.get(digest, ()), listed.subject}))
    return subjects


def indexes_over(images: Iterable[Image], digests: Collection[str]) -> dict[str, str]:
    """The other indexes that list one of these digests, however deep, each with that digest."""
    listed_by: dict[str, list[str]] = {}
    for image in images:
        for child in image.children or ():
            listed_by.setdefault(child, []).append(image.digest)
    over: dict[str, str] = {}
    queue = [(digest, digest) for digest in digests]
    for child, origin in queue:  # grows during the loop
        for index in listed_by.get(child, ()):
            if index not in digests and index not in over:
                over[index] = origin
                queue.append((index, origin))
    return over


def _is_image(image: Image) -> bool:
    """Whether it is certainly an image without a subject."""
    return not _is_unread(image) and (not image.media_type or image.media_type in IMAGE_TYPES)


def _is_unread(image: Image) -> bool:
    return image.subject is None or image.children is None


def _signed(tag: str) -> str | None:
    """The digest in a tag of cosign's form, sha256-<64 hex>.sig, .att or .sbom (cosign's SIGNATURE_SPEC)."""
    name, dot, kind = tag.partition(".")
    match = LIST_TAG.fullmatch(name)
    return f"sha256:{match[2]}" if match and match[1] == "sha256" and f"{dot}{kind}" in _SIGNATURES else None
