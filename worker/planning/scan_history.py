"""What a scan makes of what earlier ones have seen: what vanished since, and what is to be remembered from now on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from policies.blobs import digest_rows
from policies.image import Unreadable
from policies.limits import Exceeded
from policies.plan import Survey
from policies.scan_history import (
    VANISHED_SHARE,
    RepositoryHistory,
    TaggedDigest,
    Vanished,
    add_up_absent,
    find_absent,
    update_history,
)
from worker.store.scan_history import (
    LAST_SCAN_PATH,
    REMOVED,
    LastScan,
    RegistryHistory,
    pack_last_scan,
    pack_repository,
)

_NOTHING = digest_rows([])


@dataclass(frozen=True)
class Comparison:
    """A complete scan beside what earlier ones have seen."""

    before: RegistryHistory = field(default_factory=RegistryHistory)
    listed: frozenset[str] = frozenset()  # paths of what was listed whole
    unreadable: frozenset[str] = frozenset()
    vanished: Vanished = field(default_factory=Vanished)
    unasked: frozenset[str] = frozenset()  # remembered, and no longer among the repositories that the file names

    @property
    def exceeded(self) -> tuple[Exceeded, ...]:
        """The limit that it is over, if it is."""
        if not self.vanished.suspicious_absence:
            return ()
        return (Exceeded("vanished", self.vanished.share, VANISHED_SHARE),)

    def paths_gone(self) -> Iterator[str]:
        """Repositories that are remembered and no longer there."""
        return (path for path in self.before.seen if path not in self.listed and path not in self.unreadable)


def compare(
    before: RegistryHistory,
    surveys: Iterable[Survey],
    unreadable: Iterable[Unreadable],
    asks_for: Callable[[str], bool] = lambda _path: True,
) -> Comparison:
    """What vanished. A repository that is gone counts whole, one that could not be listed does not.

    `asks_for`: whether the file asks for a repository. One that it asked for before is forgotten.
    """
    listed = {one.path: one.digests for one in surveys}
    failed = frozenset(one.repository for one in unreadable)
    unasked = frozenset(path for path in before.seen if not asks_for(path))
    parts = (
        find_absent(
            before.seen[path],
            listed.get(path, _NOTHING),
            digest_rows(before.deleted_by_us.get(path, ())),
            before.accepted_at,
        )
        for path in before.seen
        if path not in failed and path not in unasked
    )
    return Comparison(before, frozenset(listed), failed, add_up_absent(parts), unasked)


@dataclass(frozen=True)
class ScanHistoryRows:
    """Makes the rows of a registry's new memory; those of repositories that did not change are left out."""

    compared: Comparison
    now: datetime

    def of(self, path: str, images: Iterable[TaggedDigest]) -> tuple[tuple[str, bytes], ...]:
        """The row of a repository of which a complete scan saw these images, or none."""
        before = self.compared.before.repository(path)
        after = self._after(path, before, tuple(images))
        return () if after.pack() == before.pack() else ((path, pack_repository(after)),)

    def rest(self, suspicion: str) -> Iterator[tuple[str, bytes]]:
        """The rows of repositories that are gone, then that of the registry."""
        for path in self.compared.paths_gone():
            yield from ((path, REMOVED),) if path in self.compared.unasked else self.of(path, ())
        before = self.compared.before
        unread = self.compared.unreadable
        lagging = (
            {path: before.last_scan.listed_at(path) for path in before.seen if path in unread}
            if before.last_scan
            else {}
        )
        yield (
            LAST_SCAN_PATH,
            pack_last_scan(
                LastScan(self.now, lagging, suspicion, before.last_scan.returned if before.last_scan else ())
            ),
        )

    def _after(self, path: str, before: RepositoryHistory, images: tuple[TaggedDigest, ...]) -> RepositoryHistory:
        return update_history(
            before,
            images,
            self.now,
            deleted=digest_rows(self.compared.before.deleted_by_us.get(path, ())),
            gone=digest_rows(sorted(self.compared.before.gone.get(path, ()))),
            accepted_at=self.compared.before.accepted_at,
            suspicious_absence=self.compared.vanished.suspicious_absence,
        )
