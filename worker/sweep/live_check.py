"""Checks a repository right before each deletion: is a deleted owner back, and what do newly pushed images need?

Every batch begins with a check: it reads all tags where the registry lists only tags, else it lists the repository, and
repeats that listing while images are deleted. An image's owners are read one by one, right before its intent.
"""

import threading
import time
from collections.abc import Sequence

from policies.image import Image
from worker.config.settings import RegistrySettings
from worker.registries.errors import NotFoundError, RegistryError
from worker.registries.http.rate_limit import BoundedLimiter
from worker.registries.interface import FindsByDigest, ListsFolders, ListsTagsOnly, Registry
from worker.runs import tags_read
from worker.runs.tags_read import max_tags_read
from worker.store.sweeping import Item, Outcome
from worker.sweep.comparison import Comparison, Snapshot, dated_as_planned, unlistable

LISTING_SECONDS = 20.0  # a listing that takes longer is given up: the recheck's counts
SHARED = 1.0  # seconds for which a listing serves later images
LISTING_SHARE = 4  # a listing is good for this many times its duration: at most a fifth of the time is listing
SUBJECT_SECONDS = 15.0  # for reading the subjects of images that the plan does not know
FEW_OWNERS = 10  # up to this many are read without waiting for another thread that reads the same
OWNERS_SECONDS = 15.0  # the longest that reading one image's owners may take; else the image stays


class LiveCheck:
    """The checks of one repository while a batch deletes there. Safe to use from several threads."""

    def __init__(
        self, opened: Registry, registry: RegistrySettings, known: Snapshot, limiter: BoundedLimiter, *, concurrent: int
    ) -> None:
        """`limiter`: that of `opened`. `concurrent`: how many batches of the run are at work, this one included."""
        self._opened, self._registry, self._known = opened, registry, known
        self._limiter, self._concurrent = limiter, concurrent
        self._lock = threading.Lock()
        self._repeats = True  # listings are short enough to be repeated while images are deleted
        self._began, self._took = float("-inf"), 0.0  # of the newest listing: time.monotonic(), and seconds
        self._unknown: tuple[Image, ...] | None = ()  # images of the newest listing that the plan does not know
        self._comparison = Comparison()
        self._checked_children = False
        self._owners_lock = threading.Lock()
        self._owners_read: dict[
            Sequence[str], tuple[float, frozenset[str]]
        ] = {}  # owners -> when they were read, those that exist

    def with_children(self, item: Item) -> tuple[Image, ...]:
        """An item's image and all images that it lists, at any depth, as far as the plan knows them."""
        return self._known.with_children(item.image)

    def lost_children(self, item: Item) -> tuple[str, ...]:
        """Digests of children that the plan keeps and that the registry deleted with the first deleted index.

        Read once, where the registry finds images by digest: it deletes children with an index always or never.
        """
        kept = self._known.kept.intersection(item.image.children or ())
        if not kept or self._checked_children or not isinstance(self._opened, ListsTagsOnly):
            return ()
        self._checked_children = True
        return tuple(sorted(kept - self._opened.existing(self._known.path, sorted(kept))))

    def begin(self, not_after: float) -> str | None:
        """Check the repository before anything is begun; why the recheck's listing must do. Raises RegistryError.

        It sends no request after `not_after` of `time.monotonic()`.
        """
        tags = sum(len(image.tags) for image in self._known.planned)
        if isinstance(self._opened, ListsTagsOnly):
            if tags > max_tags_read(self._registry):
                return None  # the plan has a warning
            if tags * self._concurrent > max_tags_read(self._registry):
                return (
                    f"reading its {tags:,} tags takes too long during {self._concurrent - 1} other batches of this run"
                )
        else:
            not_after = min(not_after, time.monotonic() + LISTING_SECONDS)
        try:
            with self._limiter.until(not_after):
                if isinstance(self._opened, ListsTagsOnly):
                    self._comparison = self._compare_tags(self._opened)
                else:
                    self._list(time.monotonic())
        except RegistryError:
            if not self._limiter.stopped:
                raise
        if not self._limiter.stopped:
            return None
        self._comparison, self._repeats = Comparison(), False
        return (
            f"listing it took longer than there was time ({tags_read.TAGS_SECONDS:.0f} s for tags,"
            f" {LISTING_SECONDS:.0f} s else)"
        )

    def _compare_tags(self, opened: ListsTagsOnly) -> Comparison:
        known = self._known
        expected = {image.digest: image for image in known.planned if image.digest not in known.deleted}
        try:
            images = opened.relist(known.path, expected)
            return known.compare(opened, dated_as_planned(self._registry, known, images), SUBJECT_SECONDS)
        except RegistryError as error:
            return unlistable(error, known.path)

    def refusal_of_all(self, item: Item) -> Outcome | None:
        """The newest listing's objection to every deletion in the repository, without a request; None: none."""
        return None if self._comparison.reason is None else self._comparison.refusal(item.digest)

    def refusal(self, item: Item) -> Outcome | None:
        """The objection to the deletion of an image; None: none. Raises RegistryError, never NotFoundError.

        Owners are read last, and their absence is not remembered.
        """
        if self._repeats and not isinstance(self._opened, ListsTagsOnly):
            arrived = time.monotonic()
            with self._lock:  # one thread lists for all that wait
                self._list(arrived - SHARED)
        return self._needed_by_owner(item) or self._comparison.refusal(item.digest)

    def _needed_by_owner(self, item: Item) -> Outcome | None:
        owners = item.owners
        if not owners or not self._known.deleted.issuperset(owners):
            return None  # this run has not deleted an owner: the intent refuses it
        rate = self._registry.rate.requests_per_second
        if len(owners) > OWNERS_SECONDS * rate:
            message = (
                f"reading the {len(owners):,} deleted images that needed it, in case one is back, takes more than"
                f" {OWNERS_SECONDS:.0f} s at {rate:g} requests a second: raise rate.requests_per_second"
            )
            return Outcome("skipped", "still_needed", message)
        if existing := self._existing_owners(owners):
            message = f"{min(existing)}, which needs it, was deleted and is there again"
            return Outcome("skipped", "still_needed", message)
        return None

    def _existing_owners(self, owners: Sequence[str]) -> frozenset[str]:
        """The owners that exist now, or did when a thread read them that began after this one arrived."""
        if len(owners) <= FEW_OWNERS and isinstance(self._opened, FindsByDigest):
            return self._opened.existing(self._known.path, owners)
        arrived = time.monotonic()
        with self._owners_lock:
            began, existing = self._owners_read.get(owners, (float("-inf"), frozenset[str]()))
            if began < arrived:
                began = time.monotonic()
                existing = self._read_owners(owners)
                self._owners_read[owners] = began, existing
            return existing

    def _read_owners(self, owners: Sequence[str]) -> frozenset[str]:
        if isinstance(self._opened, FindsByDigest):
            return self._opened.existing(self._known.path, owners)
        try:
            return frozenset(owners) & {image.digest for image in self._opened.images(self._known.path)}
        except NotFoundError:
            return frozenset()  # a registry may delete a repository with its last image

    def _list(self, since: float) -> None:
        """Compare a listing that was begun at `since` or later, if there is no such comparison yet."""
        if self._began >= since - LISTING_SHARE * self._took:
            return
        began = time.monotonic()
        try:
            images = self._images(since)
        except NotFoundError:
            images = ()  # a registry may delete a repository with its last image
        except RegistryError as error:
            self._comparison, self._unknown = unlistable(error, self._known.path), None
            return
        if (unknown := self._known.unknown(images)) != self._unknown:
            self._comparison = self._compare(images) if unknown else Comparison()
            self._unknown = unknown
        self._began, self._took = began, time.monotonic() - began
        self._repeats = self._took <= LISTING_SECONDS

    def _images(self, since: float) -> tuple[Image, ...]:
        """The images of the repository, possibly without what their manifests list."""
        path, opened = self._known.path, self._opened
        return opened.plain_listing(path, since) if isinstance(opened, ListsFolders) else opened.images(path)

    def _compare(self, images: tuple[Image, ...]) -> Comparison:
        """Compare a listing that has images unknown to the plan. Raises RegistryError."""
        try:
            if isinstance(self._opened, ListsFolders):
                images = self._opened.images(self._known.path)
            return self._known.compare(self._opened, images, SUBJECT_SECONDS)
        except RegistryError as error:
            return unlistable(error, self._known.path)
