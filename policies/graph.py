"""Who needs whom within a repository: the children of indexes, the subjects of signatures.

`arrange` also makes a repository canonical: rows of one digest become one image, and images are sorted newest first, so
that no order in which a registry happens to list them can change a plan.
"""

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter, eq
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from policies.blobs import Blobs, DigestRows, blobs_of, digest_rows_and_odd
from policies.conditions import ConditionContext, Sighting
from policies.image import Blob, Image, Repository
from policies.push_times import PushTimeTrust
from policies.scan_history import NO_HISTORY, RepositoryHistory
from policies.subjects import fallback_list, subjects_of

_DIGEST, _TIME = attrgetter("digest"), attrgetter("created_at")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Graph:
    """One repository, each digest once, newest first, with what its images are to each other."""

    path: str
    images: tuple[Image, ...]
    blobs: Blobs = field(default_factory=Blobs, repr=False)
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # digest -> indexes and subjects here, sorted
    children: frozenset[str] = frozenset()  # digests that an index here lists
    referrers: frozenset[str] = frozenset()  # digests whose subject is here
    missing_subjects: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # digest -> subjects that are not here
    unreadable: tuple[str, ...] = ()  # digests of images whose manifest could not be read, sorted
    by_digest: Mapping[str, Image] = field(default_factory=dict)  # filled where there is an index
    suspicion: str = ""  # why push times are not believed
    suspicious: frozenset[str] = frozenset()  # digests of the images whose push time was taken away for that

    @cached_property
    def digests(self) -> tuple[DigestRows, tuple[str, ...]]:
        """Those of the images in their order, and which of them are of no usual kind."""
        return digest_rows_and_odd([image.digest for image in self.images])

    @cached_property
    def order(self) -> tuple[str, ...]:
        """What has owners, each after all of its owners; left out: what owns itself in a circle, and what such owns."""
        waiting = {digest: sum(owner in self.owners for owner in owners) for digest, owners in self.owners.items()}
        owned: dict[str, list[str]] = {}
        for digest, owners in self.owners.items():
            for owner in owners:
                owned.setdefault(owner, []).append(digest)
        order = [digest for digest, left in waiting.items() if not left]
        for digest in order:  # grows while it is read
            for other in owned.get(digest, ()):
                waiting[other] -= 1
                if not waiting[other]:
                    order.append(other)
        return tuple(order)

    def first_unreadable(self, ignored: Container[str] = ()) -> str | None:
        """The first unreadable image that may list anything here; None: all could be read, or are to be ignored."""
        return next((digest for digest in self.unreadable if digest not in ignored), None)

    def follows_owners(self, digest: str) -> bool:
        """Whether it goes with its owners though no rule selects it: an untagged child, or a referrer."""
        untagged = not self.by_digest[digest].tags
        return untagged if digest in self.children else digest in self.referrers

    def with_push_times(self, times: PushTimeTrust) -> "Graph":
        """The same in the same order, without the push times that are not believed."""
        if times.all_trusted:
            return self
        images = tuple([_untimed(image) if _is_before(image, times.after) else image for image in self.images])
        return dataclasses.replace(
            self,
            images=images,
            by_digest={image.digest: image for image in images} if self.by_digest else self.by_digest,
            suspicion=times.suspicion,
            suspicious=frozenset(image.digest for image in self.images if _is_before(image, times.after)),
        )

    def context(self, now: datetime, seen: RepositoryHistory = NO_HISTORY) -> ConditionContext:
        """What its images are seen against. `seen`: what earlier scans have seen of this repository."""
        known: dict[str, int | None] = {}

        def size(index: Image) -> int | None:
            if index.digest not in known:
                known[index.digest] = self._index_size(index)
            return known[index.digest]

        return ConditionContext(now, size, sightings(seen, self.images), self.suspicion, self.suspicious)

    def _index_size(self, index: Image) -> int | None:
        """Bytes of an index's own blobs and of all that it lists, however deep, each once; None: not all is known."""
        named: set[int] = set()
        other = 0  # bytes of images that told their size, but no blobs
        seen = {index.digest}
        todo = [index]
        while todo:
            image = todo.pop()
            if image.children is None or (image.children is UNSET and image.compressed_size is None):
                return None
            own = self.blobs.of(image)
            named |= own
            if not own and image.children is UNSET:
                other += image.compressed_size or 0
            for child in image.children or ():
                if child not in self.by_digest:
                    return None
                if child not in seen:
                    seen.add(child)
                    todo.append(self.by_digest[child])
        sizes = self.blobs.sizes
        return sum(int(sizes[number]) for number in named) + other

    def rankable(self, foreign: frozenset[str]) -> tuple[Image, ...]:
        """Newest first, what is neither a child nor a referrer whose subject is here or (`foreign`) elsewhere."""
        away = {digest for digest, named in self.missing_subjects.items() if not foreign.isdisjoint(named)}
        apart = away.union(self.owners)
        return tuple([image for image in self.images if image.digest not in apart]) if apart else self.images


class GraphBuilder:
    """Takes in the rows of one repository, some at a time; their blobs are counted at once and not asked for again.

    `keep_blobs` False: the images are without them afterwards, which are most of an image's memory.
    """

    def __init__(self, path: str, *, keep_blobs: bool = True) -> None:
        self._path = path
        self._keep_blobs = keep_blobs
        self._rows: list[Image] = []
        self._blobs = Blobs()

    def add(self, rows: Sequence[Image]) -> None:
        self._blobs.add(rows)
        self._rows += rows if self._keep_blobs else [replace(row, config=None, layers=()) for row in rows]

    def graph(self) -> Graph:
        """What the images are to each other. The order of their rows makes no difference."""
        images = _newest_first(merge_rows(self._rows))
        indexes = [image for image in images if image.children is not UNSET]
        perhaps = [
            one for one in images if isinstance(one.subject, str) or (one.tags and one.tags[0].startswith("sha256-"))
        ]
        subjects = {image.digest: found for image in perhaps if (found := subjects_of(image))}
        if not indexes and not subjects:
            return Graph(self._path, tuple(images), self._blobs)
        return _tied(self._path, tuple(images), self._blobs, indexes, subjects)


def _newest_first(rows: Sequence[Image]) -> list[Image]:
    """Then by digest; those of which the time is unknown come last."""
    if not all(map(_TIME, rows)):
        return sorted(sorted(rows, key=_DIGEST), key=lambda row: row.created_at or _LONG_AGO, reverse=True)
    newest = sorted(rows, key=_TIME, reverse=True)
    times = list(map(_TIME, newest))
    return sorted(sorted(rows, key=_DIGEST), key=_TIME, reverse=True) if any(map(eq, times, times[1:])) else newest


def _is_before(image: Image, instant: datetime) -> bool:
    return image.created_at is not None and image.created_at < instant


def _untimed(image: Image) -> Image:
    return replace(image, created_at=None)


def sightings(seen: RepositoryHistory, images: Sequence[Image]) -> Callable[[Image], Sighting | None]:
    """What complete scans have seen of each untagged image; looked up for all of them when it is first asked."""
    found: dict[str, Sighting] | None = None if len(seen) else {}

    def sighting(image: Image) -> Sighting | None:
        nonlocal found
        if found is None:
            known = seen.lookup([one.digest for one in images if not one.tags])
            found = {digest: Sighting(None if one.tags else one.since) for digest, one in known.items()}
        return found.get(image.digest)

    return sighting


def build_graph(repository: Repository) -> Graph:
    """What a repository's images are to each other."""
    builder = GraphBuilder(repository.path)
    builder.add(repository.images)
    return builder.graph()


def _tied(
    path: str, images: tuple[Image, ...], blobs: Blobs, indexes: list[Image], subjects: dict[str, tuple[str, ...]]
) -> Graph:
    by_digest = {image.digest: image for image in images}
    owners: dict[str, set[str]] = {}
    children = set[str]()
    perhaps: dict[str, str] = {}  # an index that may be a list of referrers -> of what
    for index in indexes:
        here = [child for child in index.children or () if child in by_digest]
        listed = fallback_list(index, by_digest) if index.tags else None
        if listed is not None and listed.certain:
            for digest in (index.digest, *here):
                subjects[digest] = tuple(sorted({*subjects.get(digest, ()), listed.subject}))
        else:
            children.update(here)
        if listed is not None and not listed.certain:
            perhaps[index.digest] = listed.subject
        for child in here:  # a list is deleted before what it lists, as every index is
            owners.setdefault(child, set()).add(index.digest)
    referrers = set()
    missing_subjects = {}
    for digest, named in subjects.items():
        here = [subject for subject in named if subject in by_digest]
        if here:
            referrers.add(digest)
            owners.setdefault(digest, set()).update(here)
        if len(here) < len(named):
            missing_subjects[digest] = tuple(subject for subject in named if subject not in by_digest)
    for digest, subject in perhaps.items():
        if subject in by_digest:
            owners.setdefault(digest, set()).add(subject)
    return Graph(
        path=path,
        images=images,
        blobs=blobs,
        owners={digest: tuple(sorted(found)) for digest, found in owners.items()},
        children=frozenset(children),
        referrers=frozenset(referrers),
        missing_subjects=missing_subjects,
        unreadable=tuple(sorted(index.digest for index in indexes if index.children is None)),
        by_digest=by_digest,
    )


def countable(images: Iterable[Image], ignored: Container[str] = ()) -> list[Image]:
    """Those that a count ranks: not what stays in any case, being locked, unreadable, or `ignored` if unreadable."""
    return [
        image
        for image in images
        if not image.locked and image.children is not None and not (ignored and image.digest in ignored)
    ]


def merge_rows(rows: Sequence[Image]) -> Sequence[Image]:
    """Each digest once. A fact in which its rows differ is unknown; tags and blobs are united."""
    if len({row.digest for row in rows}) == len(rows):
        return rows
    of_digest: dict[str, list[Image]] = {}
    for row in rows:
        of_digest.setdefault(row.digest, []).append(row)
    return [_one(same) for same in of_digest.values()]


def _one(rows: list[Image]) -> Image:
    first, *others = rows
    if all(other == first for other in others):
        return first
    blobs_alike = _alike(rows, "config") and _alike(rows, "layers")
    return replace(
        first,
        id=min((row.id for row in rows if row.id), default=""),
        name=min(row.name for row in rows),
        compressed_size=_told(rows, "compressed_size", None),
        config=first.config if blobs_alike else None,
        layers=first.layers if blobs_alike else _united(rows),
        tags=first.tags if _alike(rows, "tags") else tuple(sorted({tag for row in rows for tag in row.tags})),
        created_at=_told(rows, "created_at", None),
        children=_told(rows, "children", None),
        subject=_told(rows, "subject", None),
        media_type=_told(rows, "media_type", ""),
        pulled_at=_told(rows, "pulled_at", UNSET),
        labels=_told(rows, "labels", None),
        locked=any(row.locked for row in rows),
    )


def _united(rows: list[Image]) -> tuple[Blob, ...]:
    blobs = {blob for row in rows for blob in blobs_of(row)}
    return tuple(sorted(blobs, key=lambda blob: (blob.digest, blob.size)))


def _alike(rows: list[Image], fact: str) -> bool:
    first = getattr(rows[0], fact)
    return all(getattr(row, fact) == first for row in rows)


def _told(rows: list[Image], fact: str, unknown: object) -> Any:
    return getattr(rows[0], fact) if _alike(rows, fact) else unknown
