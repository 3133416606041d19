"""The model: the expected plan and the expected reclaimed bytes, computed a second time by brute force."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from tests.support.memory_registry import Instance

DAY = timedelta(days=1)
Key = tuple[str, str]  # path and digest


@dataclass(frozen=True)
class ModelPolicy:
    """A policy as its document, and as two functions that do not use the program's code."""

    name: str
    document: list[dict[str, Any]]
    selects: Callable[[Instance, timedelta], bool]  # of an image and its age
    keeps: Callable[[Instance], bool]
    keep_per_repository: int = 0


def _all_tags_match(instance: Instance, glob: str) -> bool:
    return bool(instance.tags) and all(fnmatchcase(tag, glob) for tag in instance.tags)


def _any_tag_matches(instance: Instance, *globs: str) -> bool:
    return any(fnmatchcase(tag, glob) for tag in instance.tags for glob in globs)


def _leftovers(instance: Instance, age: timedelta) -> bool:
    return (_all_tags_match(instance, "pr-*") and age >= 14 * DAY) or (not instance.tags and age >= 7 * DAY)


LEFTOVERS = [
    {"name": "releases", "keep": {"tags": ["v*"]}},
    {"name": "pull requests", "delete": {"tags": ["pr-*"], "older_than": "14d"}},
    {"name": "leftovers", "delete": {"untagged": True, "older_than": "7d"}},
]
POLICIES = (
    ModelPolicy(
        "all but releases",
        [
            {"name": "old", "delete": {"all": True, "older_than": "1d"}},
            {"name": "releases", "keep": {"tags": ["v*", "latest"]}},
        ],
        selects=lambda instance, age: age >= DAY,
        keeps=lambda instance: _any_tag_matches(instance, "v*", "latest"),
    ),
    ModelPolicy("leftovers", LEFTOVERS, selects=_leftovers, keeps=lambda instance: _any_tag_matches(instance, "v*")),
    ModelPolicy(
        "leftovers, keep one per repository",
        LEFTOVERS,
        selects=_leftovers,
        keeps=lambda instance: _any_tag_matches(instance, "v*"),
        keep_per_repository=1,
    ),
)


def subjects(instance: Instance) -> frozenset[str]:
    """The subjects of an image: that of its manifest, and those of cosign's tags if it has no other tags."""
    digests = {instance.content.subject} if instance.content.subject else set()
    if instance.tags and all(tag.startswith("sha256-") and tag.endswith(".sig") for tag in instance.tags):
        digests |= {"sha256:" + tag[len("sha256-") : -len(".sig")] for tag in instance.tags}
    return frozenset(digests)


def expected_plan(
    listings: Mapping[str, Mapping[str, Instance]],
    unread: Set[Key],
    now: datetime,
    policy: ModelPolicy,
    protected: Set[Key],
) -> set[Key]:
    """The images that a plan of the listings has to delete.

    `unread`: manifests that could not be read. `protected`: images that are held or in use.
    """
    everywhere = {digest for images in listings.values() for digest in images}
    return {
        (path, digest)
        for path, images in listings.items()
        if not any(
            repository == path for repository, _ in unread
        )  # an unread manifest may list anything of its repository
        for digest in _expected_in_repository(
            images, everywhere, now, policy, {digest for repository, digest in protected if repository == path}
        )
    }


def _expected_in_repository(
    images: Mapping[str, Instance], everywhere: Set[str], now: datetime, policy: ModelPolicy, protected: Set[str]
) -> set[str]:
    owners: dict[str, set[str]] = {digest: set() for digest in images}
    children, referrers, foreign = set(), set(), set()
    for digest, instance in images.items():
        for child in instance.content.children or ():
            if child in images:
                owners[child].add(digest)
                children.add(child)
        for subject in subjects(instance):
            if subject in images:
                owners[digest].add(subject)
                referrers.add(digest)
            elif subject in everywhere:
                foreign.add(digest)
    free = [digest for digest in images if not owners[digest] and digest not in foreign]
    newest = sorted(free, key=lambda digest: (-images[digest].created_at.timestamp(), digest))
    always = protected | set(newest[: policy.keep_per_repository])
    expected: set[str] = set()
    while True:
        more = {
            digest
            for digest, instance in images.items()
            if digest not in expected | always | foreign
            and not policy.keeps(instance)
            and owners[digest] <= expected
            and (
                policy.selects(instance, now - instance.created_at)
                or _is_deleted_with_owners(digest, instance, owners, children, referrers)
            )
        }
        if not more:
            return expected
        expected |= more


def _is_deleted_with_owners(
    digest: str, instance: Instance, owners: Mapping[str, Set[str]], children: Set[str], referrers: Set[str]
) -> bool:
    if not owners[digest]:
        return False
    return not instance.tags if digest in children else digest in referrers


def reclaimed(
    listings: Mapping[str, Mapping[str, Instance]], planned: Set[Key], ours: Set[Key], gone: Set[Key], kept: Set[str]
) -> int:
    """Bytes of the blobs that lost all references, at least one of them by us.

    `kept`: blobs that an image pushed after the plan names.
    """
    references: dict[tuple[str, int], set[Key]] = {}
    for path, images in listings.items():
        for digest, instance in images.items():
            content = instance.content
            for blob in (*([content.config] if content.config else []), *content.layers):
                references.setdefault((blob.digest, blob.size), set()).add((path, digest))
    return sum(
        size
        for (blob, size), named in references.items()
        if blob not in kept and named <= planned and named <= ours | gone and named & ours
    )


def bytes_of(instances: Iterable[Instance]) -> dict[str, int]:
    """Digest -> size of every blob that the instances name."""
    return {
        blob.digest: blob.size
        for instance in instances
        for blob in (*([instance.content.config] if instance.content.config else []), *instance.content.layers)
    }
