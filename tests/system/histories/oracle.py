"""What a plan must say, and what it must have reclaimed: computed once more, by brute force, by other means."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from tests.support.memory_registry import Instance

DAY = timedelta(days=1)
Key = tuple[str, str]  # path and digest


@dataclass(frozen=True)
class Law:
    """A policy, as its document and as two plain functions."""

    name: str
    document: list[dict[str, Any]]
    selects: Callable[[Instance, timedelta], bool]  # an image and its age
    keeps: Callable[[Instance], bool]
    keep_per_repository: int = 0


def _all_match(held: Instance, glob: str) -> bool:
    return bool(held.tags) and all(fnmatchcase(tag, glob) for tag in held.tags)


def _some_match(held: Instance, *globs: str) -> bool:
    return any(fnmatchcase(tag, glob) for tag in held.tags for glob in globs)


def _leftovers(held: Instance, age: timedelta) -> bool:
    return (_all_match(held, "pr-*") and age >= 14 * DAY) or (not held.tags and age >= 7 * DAY)


LEFTOVERS = [
    {"name": "releases", "keep": {"tags": ["v*"]}},
    {"name": "pull requests", "delete": {"tags": ["pr-*"], "older_than": "14d"}},
    {"name": "leftovers", "delete": {"untagged": True, "older_than": "7d"}},
]
LAWS = (
    Law(
        "all but releases",
        [
            {"name": "old", "delete": {"all": True, "older_than": "1d"}},
            {"name": "releases", "keep": {"tags": ["v*", "latest"]}},
        ],
        selects=lambda held, age: age >= DAY,
        keeps=lambda held: _some_match(held, "v*", "latest"),
    ),
    Law("leftovers", LEFTOVERS, selects=_leftovers, keeps=lambda held: _some_match(held, "v*")),
    Law(
        "leftovers, one stays",
        LEFTOVERS,
        selects=_leftovers,
        keeps=lambda held: _some_match(held, "v*"),
        keep_per_repository=1,
    ),
)


def subjects(held: Instance) -> frozenset[str]:
    """What it is a referrer of: by its manifest, or when all its tags are cosign's."""
    found = {held.content.subject} if held.content.subject else set()
    if held.tags and all(tag.startswith("sha256-") and tag.endswith(".sig") for tag in held.tags):
        found |= {"sha256:" + tag[len("sha256-") : -len(".sig")] for tag in held.tags}
    return frozenset(found)


def goes(
    listings: Mapping[str, Mapping[str, Instance]], unread: Set[Key], now: datetime, law: Law, stays: Set[Key]
) -> set[Key]:
    """Everything that a plan of these listings is to delete. `unread`: manifests that could not be read.

    `stays`: what is held or in use.
    """
    everywhere = {digest for images in listings.values() for digest in images}
    return {
        (path, digest)
        for path, images in listings.items()
        if not any(one == path for one, _ in unread)  # an unread manifest may list anything of its repository
        for digest in _goes_here(images, everywhere, now, law, {digest for one, digest in stays if one == path})
    }


def _goes_here(
    images: Mapping[str, Instance], everywhere: Set[str], now: datetime, law: Law, stays: Set[str]
) -> set[str]:
    owners: dict[str, set[str]] = {digest: set() for digest in images}
    children, referrers, foreign = set(), set(), set()
    for digest, held in images.items():
        for child in held.content.children or ():
            if child in images:
                owners[child].add(digest)
                children.add(child)
        for subject in subjects(held):
            if subject in images:
                owners[digest].add(subject)
                referrers.add(digest)
            elif subject in everywhere:
                foreign.add(digest)
    free = [digest for digest in images if not owners[digest] and digest not in foreign]
    newest = sorted(free, key=lambda digest: (-images[digest].created_at.timestamp(), digest))
    always = stays | set(newest[: law.keep_per_repository])
    found: set[str] = set()
    while True:
        more = {
            digest
            for digest, held in images.items()
            if digest not in found | always | foreign
            and not law.keeps(held)
            and owners[digest] <= found
            and (law.selects(held, now - held.created_at) or _follows(digest, held, owners, children, referrers))
        }
        if not more:
            return found
        found |= more


def _follows(
    digest: str, held: Instance, owners: Mapping[str, Set[str]], children: Set[str], referrers: Set[str]
) -> bool:
    if not owners[digest]:
        return False
    return not held.tags if digest in children else digest in referrers


def reclaimed(
    listings: Mapping[str, Mapping[str, Instance]], planned: Set[Key], ours: Set[Key], gone: Set[Key], kept: Set[str]
) -> int:
    """Bytes of the blobs that lost all their references, at least one by us. `kept`: named by what was pushed since."""
    references: dict[tuple[str, int], set[Key]] = {}
    for path, images in listings.items():
        for digest, held in images.items():
            content = held.content
            for blob in (*([content.config] if content.config else []), *content.layers):
                references.setdefault((blob.digest, blob.size), set()).add((path, digest))
    return sum(
        size
        for (blob, size), named in references.items()
        if blob not in kept and named <= planned and named <= ours | gone and named & ours
    )


def bytes_of(held: Iterable[Instance]) -> dict[str, int]:
    """Every blob that these instances name, once."""
    return {
        blob.digest: blob.size
        for one in held
        for blob in (*([one.content.config] if one.content.config else []), *one.content.layers)
    }
