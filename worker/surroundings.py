"""What a repository shows right before a deletion: whether an owner is back, and what images pushed since need.

Every batch has one. Where a registry lists whole repositories, one listing serves every thread that waits for it.
Where only tags are listed, the batch begins by reading what every tag names, and owners are asked for one by one.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from operator import itemgetter

from policies.image import Image
from policies.warnings import PlanWarning
from worker.config import RegistrySettings
from worker.outcomes import Outcome
from worker.rechecking import Finding, Snapshot, dated_as_planned, unlistable
from worker.registries.interface import (
    ListsFolders,
    ListsTagsOnly,
    NotFoundError,
    Registry,
    RegistryError,
)
from worker.store.sweeping import Item

TAGS_SECONDS = 30.0  # reading every tag may take so long at the registry's rate; else the recheck's reading counts
TAGS_READ_BY = 40.0  # seconds until a batch goes on without: other batches use the same rate
SHARED = 1.0  # seconds for which a listing serves what has no owners
LISTING_SHARE = 4  # a listing serves all for so many times as long as it took: at most a fifth of the time is listing
SUBJECT_SECONDS = 15.0  # for reading the subjects of images that the plan does not know
FEW_OWNERS = 10  # so many are asked for anew before each deletion

log = logging.getLogger(__name__)


def most_tags(registry: RegistrySettings) -> int:
    """How many tags of a repository are read before each batch; of a larger repository none."""
    return int(TAGS_SECONDS * registry.rate.requests_per_second)


def tags_not_read(tags: Mapping[str, int], registry: RegistrySettings) -> Iterator[PlanWarning]:
    """The warning that tags of a large repository are compared by its recheck alone. `tags`: how many, by path."""
    large = {path: count for path, count in tags.items() if count > most_tags(registry)}
    if registry.lists_untagged or not large:
        return
    path, count = max(large.items(), key=itemgetter(1))
    more = f" and {len(large) - 1:,} more" if len(large) > 1 else ""
    rate, needed = registry.rate.requests_per_second, ceil(count / TAGS_SECONDS)
    yield PlanWarning(
        "tags_not_read",
        f"{path}{more}: reading its {count:,} tags takes more than {TAGS_SECONDS:.0f} s at {rate:g} requests a second."
        " They are compared up to 10 minutes before a deletion: a tag that is moved to a planned image after that goes"
        f" with it. Set rate.requests_per_second to {needed}, or sweep while nobody pushes",
    )


class Surroundings:
    """Those of one repository while a batch deletes there. Safe to use from several threads."""

    def __init__(self, opened: Registry, registry: RegistrySettings, known: Snapshot) -> None:
        self._opened, self._registry, self._known = opened, registry, known
        self._lock = threading.Lock()
        self._listed: dict[str, Image] = {}
        self._began, self._took = float("-inf"), 0.0  # of the newest listing: time.monotonic(), and seconds
        self._unknown: tuple[Image, ...] | None = ()  # images of the newest listing that the plan does not know
        self._finding = Finding()
        self._asked_for_children = False
        self._absent: dict[Sequence[str], float] = {}  # owners -> until when (time.monotonic()) they count as absent

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
        return tuple(sorted(kept - self._opened.there(self._known.path, sorted(kept))))

    def read_tags(self) -> None:
        """Where only tags are listed, compare what they name with the plan. Raises RegistryError."""
        tags = sum(len(image.tags) for image in self._known.planned)
        if not isinstance(self._opened, ListsTagsOnly) or tags > most_tags(self._registry):
            return
        reader = ThreadPoolExecutor(1, "tags")
        try:
            self._finding = reader.submit(self._compare_tags, self._opened).result(timeout=TAGS_READ_BY)
        except TimeoutError:
            log.warning("the tags of %s were not read again within %d s", self._known.path, int(TAGS_READ_BY))
        finally:
            reader.shutdown(wait=False, cancel_futures=True)

    def _compare_tags(self, opened: ListsTagsOnly) -> Finding:
        known = self._known
        there = {image.digest: image for image in known.planned if image.digest not in known.deleted}
        try:
            images = opened.images_again(known.path, there)
            return known.compared(opened, dated_as_planned(self._registry, known, images), SUBJECT_SECONDS)
        except RegistryError as error:
            return unlistable(error, self._known.path)

    def refusal_of_all(self, item: Item) -> Outcome | None:
        """What the newest listing says against every deletion there, nothing being asked; None: nothing."""
        return None if self._finding.reason is None else self._finding.refusal(item.digest)

    def refusal(self, item: Item) -> Outcome | None:
        """What speaks against the deletion of an image; None: nothing. Raises RegistryError, never NotFoundError."""
        owners = item.owners if self._known.deleted.issuperset(item.owners) else ()  # else the intent refuses it
        if isinstance(self._opened, ListsTagsOnly):
            there, finding = self._owners_there(self._opened, owners), self._finding
        else:
            came = time.monotonic()
            with self._lock:  # one lists for all who wait
                self._list(came if owners else came - SHARED)
                there, finding = frozenset(owners) & self._listed.keys(), self._finding
        if there:
            return Outcome("skipped", "still_needed", f"{min(there)}, which needs it, was deleted and is there again")
        return finding.refusal(item.digest)

    def _owners_there(self, opened: ListsTagsOnly, owners: Sequence[str]) -> frozenset[str]:
        if not owners or time.monotonic() < self._absent.get(owners, 0.0):
            return frozenset()
        there = opened.there(self._known.path, owners)
        if not there and len(owners) > FEW_OWNERS:  # else asking for hundreds would take longer than a reading is good
            seconds = LISTING_SHARE * len(owners) / self._registry.rate.requests_per_second
            self._absent[owners] = time.monotonic() + seconds
        return there

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
            self._finding, self._unknown = unlistable(error, self._known.path), None
            return
        self._listed = {image.digest: image for image in images}
        if (unknown := self._known.unknown(images)) != self._unknown:
            self._finding = self._resolved(images) if unknown else Finding()
            self._unknown = unknown
        self._began, self._took = began, time.monotonic() - began

    def _images(self, since: float) -> tuple[Image, ...]:
        """What is there. What manifests say of others may be missing."""
        path = self._known.path
        return self._opened.listed(path, since) if isinstance(self._opened, ListsFolders) else self._opened.images(path)

    def _resolved(self, images: tuple[Image, ...]) -> Finding:
        """What a listing says that has images in it which the plan does not know. Raises RegistryError."""
        try:
            if isinstance(self._opened, ListsFolders):
                images = self._opened.images(self._known.path)
            return self._known.compared(self._opened, images, SUBJECT_SECONDS)
        except RegistryError as error:
            return unlistable(error, self._known.path)
