"""Reads repositories for a scan, beside what the store remembers: push times and tags that a registry does not tell."""

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
    """The repositories of one registry as one scan reads them. Safe to use from several threads."""

    store: Store | None
    registry: RegistrySettings
    before: RegistryHistory  # what earlier scans have seen
    now: datetime
    _there: dict[str, frozenset[str]] = field(default_factory=dict)  # path -> digests that are there without a tag
    _returned: threading.Event = field(default_factory=threading.Event)  # images are there that had been missing
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, opened: Registry, path: str) -> tuple[Image, ...]:
        """What is in a repository. Raises RegistryError, StoreError."""
        images = opened.images(path)
        if isinstance(opened, ListsTagsOnly):
            self._look_for(opened, path, images)
        if self.registry.reports_push_time:
            return images
        seen, digests = self.before.repository(path), [image.digest for image in images]
        known = seen.lookup(digests)
        went = self.before.gone.get(path, frozenset())  # and was pushed again
        if len(seen.lookup(digests, include_missing=True)) > len(known):
            self._returned.set()
        times = {digest: one.first_seen for digest, one in known.items() if digest not in went}
        return with_first_seen(images, times, self.now)

    @property
    def recalled(self) -> RegistryHistory:
        """What earlier scans have seen; what lost its tag and is there all the same has not vanished."""
        accounted = dict(self.before.deleted_by_us)
        for path, digests in self._there.items():
            accounted[path] = (*accounted.get(path, ()), *sorted(digests))
        head = self.before.last_scan
        if head is not None and self._returned.is_set():
            head = structs.replace(head, returned=(*head.returned, self.now))
        return replace(self.before, deleted_by_us=accounted, last_scan=head)

    def _look_for(self, opened: ListsTagsOnly, path: str, images: Sequence[Image]) -> None:
        """Ask by its digest for whatever the last scan saw here and no tag leads to any more."""
        listed = [image.digest for image in images]
        ours = self.before.deleted_by_us.get(path, ())
        gone = find_absent(
            self.before.repository(path), digest_rows(listed), digest_rows(ours), self.before.accepted_at
        )
        lost = self._planned(path) - {*listed, *ours} if gone.new else frozenset()
        if not lost:
            return
        try:
            there = opened.existing(path, sorted(lost))
        except RegistryError:
            return  # it counts as vanished: what cannot be asked for is no proof of anything
        with self._lock:
            self._there[path] = there

    def _planned(self, path: str) -> frozenset[str]:
        """The digests that the newest plan saw in a repository: memory keeps no whole ones."""
        if self.store is None:
            return frozenset()
        with self.store.read() as connection:
            return frozenset(one.digest for one in plans.newest_images_of(connection, self.registry.name, path))
