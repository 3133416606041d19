"""Which images of a repository need which others: the children of indexes, the subjects of signatures.

`GraphBuilder` also makes a repository canonical: rows with the same digest become one image, and images are sorted
newest first, so the order in which a registry lists them cannot change a plan.
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
from policies.image import Image, Repository
from policies.push_times import PushTimeTrust
from policies.scan_history import NO_HISTORY, RepositoryHistory
from policies.subjects import fallback_list, subjects_of

_DIGEST, _TIME = attrgetter("digest"), attrgetter("created_at")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Graph:
    """The images of one repository, each digest once, newest first, with their owners, children and subjects."""

    path: str
    images: tuple[Image, ...]
    blobs: Blobs = field(default_factory=Blobs, repr=False)
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # digest -> indexes and subjects here, sorted
    children: frozenset[str] = frozenset()  # digests that an index of this repository lists
    referrers: frozenset[str] = frozenset()  # digests whose subject is in this repository
    missing_subjects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # digest -> subjects outside of it
    unreadable: tuple[str, ...] = ()  # digests of images whose manifest could not be read, sorted
    by_digest: Mapping[str, Image] = field(default_factory=dict)  # filled where there is an index
    suspicion: str = ""  # why push times are not trusted
    suspicious: frozenset[str] = frozenset()  # digests of images that lost their push time because of it

    @cached_property
    def digests(self) -> tuple[DigestRows, tuple[str, ...]]:
        """The digests of the images as rows, in their order, and the digests that are not sha256."""
        return digest_rows_and_odd([image.digest for image in self.images])

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The owned digests, each after all of its owners. Leaves out circles of owners, and all that these own."""
        waiting = {digest: sum(owner in self.owners for owner in owners) for digest, owners in self.owners.items()}
        owned: dict[str, list[str]] = {}
        for digest, owners in self.owners.items():
            for owner in owners:
                owned.setdefault(owner, []).append(digest)
        order = [digest for digest, count in waiting.items() if not count]
        for digest in order:  # grows during the loop
            for other in owned.get(digest, ()):
                waiting[other] -= 1
                if not waiting[other]:
                    order.append(other)
        return tuple(order)

    def first_unreadable(self, ignored: Container[str] = ()) -> str | None:
        """The first unreadable index that is not ignored: it may list any image. None if there is no such index."""
        return next((digest for digest in self.unreadable if digest not in ignored), None)

    def follows_owners(self, digest: str) -> bool:
        """Whether an image is deleted with its owners although no rule selects it: an untagged child, or a referrer. A
        tagged child does not follow: a rule must select it. Raises KeyError: the repository does not have the digest,
        or has neither indexes nor referrers.
        """
        untagged = not self.by_digest[digest].tags
        return untagged if digest in self.children else digest in self.referrers

    def with_push_times(self, times: PushTimeTrust) -> "Graph":
        """The graph without the push times that are not trusted. The order of the images is the same."""
        if times.all_trusted:
            return self
        images = tuple(
            [replace(image, created_at=None) if _is_before(image, times.after) else image for image in self.images]
        )
        return dataclasses.replace(
            self,
            images=images,
            by_digest={image.digest: image for image in images} if self.by_digest else self.by_digest,
            suspicion=times.suspicion,
            suspicious=frozenset(image.digest for image in self.images if _is_before(image, times.after)),
        )

    def context(self, now: datetime, history: RepositoryHistory = NO_HISTORY) -> ConditionContext:
        """The context in which conditions evaluate the images of this repository."""
        sizes: dict[str, int | None] = {}

        def size(index: Image) -> int | None:
            if index.digest not in sizes:
                sizes[index.digest] = self._index_size(index)
            return sizes[index.digest]

        return ConditionContext(now, size, sightings(history, self.images), self.suspicion, self.suspicious)

    def _index_size(self, index: Image) -> int | None:
        """Bytes of the blobs of an index and of its children, however deep, each once; None if a size is unknown."""
        numbers: set[int] = set()
        other = 0  # bytes of images with a known size but without blobs
        queued = {index.digest}
        queue = [index]
        while queue:
            image = queue.pop()
            if image.children is None or (image.children is UNSET and image.compressed_size is None):
                return None
            own = self.blobs.of(image)
            numbers |= own
            if not own and image.children is UNSET:
                other += image.compressed_size or 0
            for child in image.children or ():
                if child not in self.by_digest:
                    return None
                if child not in queued:
                    queued.add(child)
                    queue.append(self.by_digest[child])
        sizes = self.blobs.sizes
        return sum(int(sizes[number]) for number in numbers) + other

    def rankable(self, foreign_subjects: frozenset[str]) -> tuple[Image, ...]:
        """The images that a count may rank: no children, and no referrers with a subject in any repository.
        `foreign_subjects`: the subjects of referrers that another repository has. The result has the order of `images`.
        """
        missing = self.missing_subjects.items()
        referrers = {digest for digest, subjects in missing if not foreign_subjects.isdisjoint(subjects)}
        unranked = referrers.union(self.owners)
        return tuple([image for image in self.images if image.digest not in unranked]) if unranked else self.images


class GraphBuilder:
    """Builds the graph of one repository from batches of rows, and counts the blobs of each batch.

    `keep_blobs` False: the builder drops the blobs from the images, which are most of an image's memory.
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
        """The graph of all rows. Their order makes no difference."""
        images = _newest_first(merge_rows(self._rows))
        indexes = [image for image in images if image.children is not UNSET]
        candidates = [
            image
            for image in images
            if isinstance(image.subject, str) or (image.tags and image.tags[0].startswith("sha256-"))
        ]
        subjects = {image.digest: named for image in candidates if (named := subjects_of(image))}
        if not indexes and not subjects:
            return Graph(self._path, tuple(images), self._blobs)
        return _linked(self._path, tuple(images), self._blobs, indexes, subjects)


def _newest_first(rows: Sequence[Image]) -> list[Image]:
    """Newest first, then by digest; images without a push time come last."""
    if not all(map(_TIME, rows)):
        return sorted(sorted(rows, key=_DIGEST), key=lambda row: row.created_at or _LONG_AGO, reverse=True)
    newest = sorted(rows, key=_TIME, reverse=True)
    times = list(map(_TIME, newest))
    return sorted(sorted(rows, key=_DIGEST), key=_TIME, reverse=True) if any(map(eq, times, times[1:])) else newest


def _is_before(image: Image, instant: datetime) -> bool:
    return image.created_at is not None and image.created_at < instant


def sightings(history: RepositoryHistory, images: Sequence[Image]) -> Callable[[Image], Sighting | None]:
    """Returns the sighting of an untagged image; the first call looks up the sightings of all of them."""
    by_digest: dict[str, Sighting] | None = None if len(history) else {}

    def sighting(image: Image) -> Sighting | None:
        nonlocal by_digest
        if by_digest is None:
            known = history.lookup([image.digest for image in images if not image.tags])
            by_digest = {digest: Sighting(None if row.tags else row.since) for digest, row in known.items()}
        return by_digest.get(image.digest)

    return sighting


def build_graph(repository: Repository) -> Graph:
    """The graph of a repository. Images with the same digest become one; the order of the images makes no
    difference.
    """
    builder = GraphBuilder(repository.path)
    builder.add(repository.images)
    return builder.graph()


def _linked(
    path: str, images: tuple[Image, ...], blobs: Blobs, indexes: list[Image], subjects: dict[str, tuple[str, ...]]
) -> Graph:
    by_digest = {image.digest: image for image in images}
    owners: dict[str, set[str]] = {}
    children = set[str]()
    possible_lists: dict[str, str] = {}  # an index that may be a list of referrers -> their subject
    for index in indexes:
        here = [child for child in index.children or () if child in by_digest]
        listed = fallback_list(index, by_digest) if index.tags else None
        if listed is not None and listed.certain:
            for digest in (index.digest, *here):
                subjects[digest] = tuple(sorted({*subjects.get(digest, ()), listed.subject}))
        else:
            children.update(here)
        if listed is not None and not listed.certain:
            possible_lists[index.digest] = listed.subject
        for child in here:  # a list of referrers, too, is deleted before its children
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
    for digest, subject in possible_lists.items():
        if subject in by_digest:
            owners.setdefault(digest, set()).add(subject)
    return Graph(
        path=path,
        images=images,
        blobs=blobs,
        owners={digest: tuple(sorted(digests)) for digest, digests in owners.items()},
        children=frozenset(children),
        referrers=frozenset(referrers),
        missing_subjects=missing_subjects,
        unreadable=tuple(sorted(index.digest for index in indexes if index.children is None)),
        by_digest=by_digest,
    )


def countable(images: Iterable[Image], ignored: Container[str] = ()) -> list[Image]:
    """The images that a count ranks: not those that are kept anyway, which are locked, unreadable or `ignored`.
    `ignored`: the digests of the registry's `ignore_unreadable`. The result has the order of `images`.
    """
    return [
        image
        for image in images
        if not image.locked and image.children is not None and not (ignored and image.digest in ignored)
    ]


def merge_rows(rows: Sequence[Image]) -> Sequence[Image]:
    """One image for each digest. A fact in which its rows differ is unknown; the image has all their tags and blobs."""
    if len({row.digest for row in rows}) == len(rows):
        return rows
    by_digest: dict[str, list[Image]] = {}
    for row in rows:
        by_digest.setdefault(row.digest, []).append(row)
    return [_merge(group) for group in by_digest.values()]


def _merge(rows: list[Image]) -> Image:
    first, *others = rows
    if all(other == first for other in others):
        return first
    same_blobs = _agree(rows, "config") and _agree(rows, "layers")
    blobs = sorted({blob for row in rows for blob in blobs_of(row)}, key=lambda blob: (blob.digest, blob.size))
    return replace(
        first,
        id=min((row.id for row in rows if row.id), default=""),
        name=min(row.name for row in rows),
        compressed_size=_agreed(rows, "compressed_size", None),
        config=first.config if same_blobs else None,
        layers=first.layers if same_blobs else tuple(blobs),
        tags=first.tags if _agree(rows, "tags") else tuple(sorted({tag for row in rows for tag in row.tags})),
        created_at=_agreed(rows, "created_at", None),
        children=_agreed(rows, "children", None),
        subject=_agreed(rows, "subject", None),
        media_type=_agreed(rows, "media_type", ""),
        pulled_at=_agreed(rows, "pulled_at", UNSET),
        labels=_agreed(rows, "labels", None),
        locked=any(row.locked for row in rows),
    )


def _agree(rows: list[Image], fact: str) -> bool:
    first = getattr(rows[0], fact)
    return all(getattr(row, fact) == first for row in rows)


def _agreed(rows: list[Image], fact: str, unknown: object) -> Any:
    """The value of a fact in which all rows agree, else the value for an unknown fact."""
    return getattr(rows[0], fact) if _agree(rows, fact) else unknown
