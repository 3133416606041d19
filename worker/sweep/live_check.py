"""What a repository shows right before a deletion: whether an owner is back, and what images pushed since need.

Every batch has one. It begins with a listing: where only tags are listed, that of what every tag names; else one of the
whole repository, which is repeated while images are deleted. Owners are asked for one by one, right before each intent.
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

LISTING_SECONDS = 20.0  # a listing that takes longer is not waited for: the recheck's counts
SHARED = 1.0  # seconds for which a listing serves images that come later
LISTING_SHARE = 4  # a listing serves all for so many times as long as it took: at most a fifth of the time is listing
SUBJECT_SECONDS = 15.0  # for reading the subjects of images that the plan does not know
FEW_OWNERS = 10  # so many are asked for without waiting for another thread that asks for the same
OWNERS_SECONDS = 15.0  # asking for one image's owners may take so long at the registry's rate; else the image stays


class LiveCheck:
    """Those of one repository while a batch deletes there. Safe to use from several threads."""

    def __init__(
        self, opened: Registry, registry: RegistrySettings, known: Snapshot, limiter: BoundedLimiter, *, concurrent: int
    ) -> None:
        """`limiter`: that of `opened`. `beside`: how many batches of the run are at work, this one too."""
        self._opened, self._registry, self._known = opened, registry, known
        self._limiter, self._concurrent = limiter, concurrent
        self._lock = threading.Lock()
        self._repeats = True  # listings are short enough to be made again while images are deleted
        self._began, self._took = float("-inf"), 0.0  # of the newest listing: time.monotonic(), and seconds
        self._unknown: tuple[Image, ...] | None = ()  # images of the newest listing that the plan does not know
        self._comparison = Comparison()
        self._asked_for_children = False
        self._asking = threading.Lock()
        self._asked: dict[Sequence[str], tuple[float, frozenset[str]]] = {}  # owners -> when asked, those there

    def with_children(self, item: Item) -> tuple[Image, ...]:
        """An item's image and whatever it lists, however deep, as far as the plan saw it."""
        return self._known.with_children(item.image)

    def lost_children(self, item: Item) -> tuple[str, ...]:
        """Digests of the first deleted index's children that the plan keeps, and that went with it all the same.

        Asked once, where a registry answers for a digest: it takes children along always or never.
        """
        kept = self._known.kept.intersection(item.image.children or ())
        if not kept or self._asked_for_children or not isinstance(self._opened, ListsTagsOnly):
            return ()
        self._asked_for_children = True
        return tuple(sorted(kept - self._opened.existing(self._known.path, sorted(kept))))

    def begin(self, not_after: float) -> str | None:
        """See what is there before anything is begun; why the recheck's listing has to do, if so. Raises RegistryError.

        Nothing more is asked for it once `time.monotonic()` is `not_after`.
        """
        tags = sum(len(image.tags) for image in self._known.planned)
        if isinstance(self._opened, ListsTagsOnly):
            if tags > max_tags_read(self._registry):
                return None  # the plan's warning says so
            if tags * self._concurrent > max_tags_read(self._registry):
                return (
                    f"reading its {tags:,} tags takes too long beside {self._concurrent - 1} other batches of this run"
                )
        else:
            not_after = min(not_after, time.monotonic() + LISTING_SECONDS)
        try:
            with self._limiter.until(not_after):
                self._look()
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

    def _look(self) -> None:
        if isinstance(self._opened, ListsTagsOnly):
            self._comparison = self._compare_tags(self._opened)
        else:
            self._list(time.monotonic())

    def _compare_tags(self, opened: ListsTagsOnly) -> Comparison:
        known = self._known
        there = {image.digest: image for image in known.planned if image.digest not in known.deleted}
        try:
            images = opened.relist(known.path, there)
            return known.compare(opened, dated_as_planned(self._registry, known, images), SUBJECT_SECONDS)
        except RegistryError as error:
            return unlistable(error, known.path)

    def refusal_of_all(self, item: Item) -> Outcome | None:
        """What the newest listing says against every deletion there, nothing being asked; None: nothing."""
        return None if self._comparison.reason is None else self._comparison.refusal(item.digest)

    def refusal(self, item: Item) -> Outcome | None:
        """What speaks against the deletion of an image; None: nothing. Raises RegistryError, never NotFoundError.

        Owners are asked for last, and nothing of their absence is remembered.
        """
        if self._repeats and not isinstance(self._opened, ListsTagsOnly):
            came = time.monotonic()
            with self._lock:  # one lists for all who wait
                self._list(came - SHARED)
        return self._owned(item) or self._comparison.refusal(item.digest)

    def _owned(self, item: Item) -> Outcome | None:
        owners = item.owners
        if not owners or not self._known.deleted.issuperset(owners):
            return None  # an owner that this run has not deleted: the intent refuses it
        rate = self._registry.rate.requests_per_second
        if len(owners) > OWNERS_SECONDS * rate:
            message = (
                f"asking for the {len(owners):,} deleted images that needed it, in case one is back, takes more than"
                f" {OWNERS_SECONDS:.0f} s at {rate:g} requests a second: raise rate.requests_per_second"
            )
            return Outcome("skipped", "still_needed", message)
        if there := self._owners_there(owners):
            return Outcome("skipped", "still_needed", f"{min(there)}, which needs it, was deleted and is there again")
        return None

    def _owners_there(self, owners: Sequence[str]) -> frozenset[str]:
        """Those that are there now, or were when somebody asked who began after this thread came."""
        if len(owners) <= FEW_OWNERS and isinstance(self._opened, FindsByDigest):
            return self._opened.existing(self._known.path, owners)
        came = time.monotonic()
        with self._asking:
            began, there = self._asked.get(owners, (float("-inf"), frozenset[str]()))
            if began < came:
                began = time.monotonic()
                there = self._asked_for(owners)
                self._asked[owners] = began, there
            return there

    def _asked_for(self, owners: Sequence[str]) -> frozenset[str]:
        if isinstance(self._opened, FindsByDigest):
            return self._opened.existing(self._known.path, owners)
        try:
            return frozenset(owners) & {image.digest for image in self._opened.images(self._known.path)}
        except NotFoundError:
            return frozenset()  # with its last image a repository may go

    def _list(self, since: float) -> None:
        """Have a listing that was begun at `since` or later, and what it says of images that the plan does not know."""
        if self._began >= since - LISTING_SHARE * self._took:
            return
        began = time.monotonic()
        try:
            images = self._images(since)
        except NotFoundError:
            images = ()  # with its last image a repository may go
        except RegistryError as error:
            self._comparison, self._unknown = unlistable(error, self._known.path), None
            return
        if (unknown := self._known.unknown(images)) != self._unknown:
            self._comparison = self._resolved(images) if unknown else Comparison()
            self._unknown = unknown
        self._began, self._took = began, time.monotonic() - began
        self._repeats = self._took <= LISTING_SECONDS

    def _images(self, since: float) -> tuple[Image, ...]:
        """What is there. What manifests say of others may be missing."""
        path, opened = self._known.path, self._opened
        return opened.plain_listing(path, since) if isinstance(opened, ListsFolders) else opened.images(path)

    def _resolved(self, images: tuple[Image, ...]) -> Comparison:
        """What a listing says that has images in it which the plan does not know. Raises RegistryError."""
        try:
            if isinstance(self._opened, ListsFolders):
                images = self._opened.images(self._known.path)
            return self._known.compare(self._opened, images, SUBJECT_SECONDS)
        except RegistryError as error:
            return unlistable(error, self._known.path)
