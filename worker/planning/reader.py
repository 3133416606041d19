"""Reads repositories for a scan, and adds what a registry does not report from the scan history."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from msgspec import structs

from policies.blobs import digest_rows
from policies.image import Image
from policies.push_times import with_first_seen
from policies.scan_history import find_absent
from worker.config.settings import RegistrySettings
from worker.registries.errors import RegistryError
from worker.registries.interface import ListsTagsOnly, Registry
from worker.store import Store, plans
from worker.store.scan_history import RegistryHistory


@dataclass(slots=True)
class RepositoryReader:
    """Reads the repositories of one registry for one scan. Safe to use from several threads."""

    store: Store | None
    registry: RegistrySettings
    before: RegistryHistory
    now: datetime
    _there: dict[str, frozenset[str]] = field(default_factory=dict)  # path -> digests that exist without a tag
    _returned: threading.Event = field(default_factory=threading.Event)  # an image exists that was missing before
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, opened: Registry, path: str) -> tuple[Image, ...]:
        """The images of a repository. Raises RegistryError, StoreError."""
        images = opened.images(path)
        if isinstance(opened, ListsTagsOnly):
            self._find_untagged(opened, path, images)
        if self.registry.reports_push_time:
            return images
        seen, digests = self.before.repository(path), [image.digest for image in images]
        known = seen.lookup(digests)
        gone = self.before.gone.get(path, frozenset())  # if listed, pushed again
        if len(seen.lookup(digests, include_missing=True)) > len(known):
            self._returned.set()
        times = {digest: row.first_seen for digest, row in known.items() if digest not in gone}
        return with_first_seen(images, times, self.now)

    @property
    def history(self) -> RegistryHistory:
        """The scan history with this scan's findings: an image that lost its tag and still exists has not vanished."""
        accounted = dict(self.before.deleted_by_us)
        for path, digests in self._there.items():
            accounted[path] = (*accounted.get(path, ()), *sorted(digests))
        head = self.before.last_scan
        if head is not None and self._returned.is_set():
            head = structs.replace(head, returned=(*head.returned, self.now))
        return replace(self.before, deleted_by_us=accounted, last_scan=head)

    def _find_untagged(self, opened: ListsTagsOnly, path: str, images: Sequence[Image]) -> None:
        """Request, by digest, the images that the last scan listed here and that no tag names now."""
        listed = [image.digest for image in images]
        ours = self.before.deleted_by_us.get(path, ())
        history, accepted_at = self.before.repository(path), self.before.accepted_at
        gone = find_absent(history, digest_rows(listed), digest_rows(ours), accepted_at)
        lost = self._planned(path) - {*listed, *ours} if gone.new else frozenset()
        if not lost:
            return
        try:
            there = opened.existing(path, sorted(lost))
        except RegistryError:
            return  # the images count as vanished: nothing proves that they exist
        with self._lock:
            self._there[path] = there

    def _planned(self, path: str) -> frozenset[str]:
        """The digests of a repository in the newest plan: the scan history has no whole digests."""
        if self.store is None:
            return frozenset()
        with self.store.read() as connection:
            return frozenset(image.digest for image in plans.newest_images_of(connection, self.registry.name, path))
