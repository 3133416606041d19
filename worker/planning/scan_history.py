"""Compares a scan with the scan history: images that vanished, and the new rows of the history."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from policies.blobs import digest_rows
from policies.image import Unreadable
from policies.limits import Exceeded
from policies.plan import Survey
from policies.scan_history import (
    VANISHED_SHARE,
    TaggedDigest,
    Vanished,
    add_up_absent,
    find_absent,
    update_history,
)
from worker.store import scan_history as rows
from worker.store.scan_history import LastScan, RegistryHistory

_NOTHING = digest_rows([])


@dataclass(frozen=True)
class HistoryComparison:
    """A complete scan compared with the scan history."""

    before: RegistryHistory = field(default_factory=RegistryHistory)
    listed: frozenset[str] = frozenset()  # paths of completely listed repositories
    unreadable: frozenset[str] = frozenset()
    vanished: Vanished = field(default_factory=Vanished)
    unasked: frozenset[str] = frozenset()  # in the history, and no longer in the configuration file

    @property
    def exceeded(self) -> tuple[Exceeded, ...]:
        """The limit `vanished`, if the scan exceeds it. Its value and the allowed value are shares from 0 to 1. Empty:
        not exceeded.
        """
        if not self.vanished.suspicious_absence:
            return ()
        return (Exceeded("vanished", self.vanished.share, VANISHED_SHARE),)


def compare(
    before: RegistryHistory,
    surveys: Iterable[Survey],
    unreadable: Iterable[Unreadable],
    asks_for: Callable[[str], bool] = lambda _path: True,
) -> HistoryComparison:
    """Find vanished images. All images of a vanished repository count, those of an unlistable one do not.

    `asks_for`: whether the file includes a repository. A repository that it no longer includes is forgotten.
    """
    listed = {survey.path: survey.digests for survey in surveys}
    failed = frozenset(failure.repository for failure in unreadable)
    unasked = frozenset(path for path in before.seen if not asks_for(path))
    ours = {path: digest_rows(before.deleted_by_us.get(path, ())) for path in before.seen}
    parts = (
        find_absent(before.seen[path], listed.get(path, _NOTHING), ours[path], before.accepted_at)
        for path in before.seen
        if path not in failed and path not in unasked
    )
    return HistoryComparison(before, frozenset(listed), failed, add_up_absent(parts), unasked)


@dataclass(frozen=True)
class ScanHistoryRows:
    """Makes the changed rows of a registry's scan history."""

    compared: HistoryComparison
    now: datetime

    def repository_rows(self, path: str, images: Iterable[TaggedDigest]) -> tuple[tuple[str, bytes], ...]:
        """The row of a repository with these images, or none if its history did not change."""
        compared, before = self.compared, self.compared.before
        old = before.repository(path)
        new = update_history(
            old,
            tuple(images),
            self.now,
            deleted=digest_rows(before.deleted_by_us.get(path, ())),
            gone=digest_rows(sorted(before.gone.get(path, ()))),
            accepted_at=before.accepted_at,
            suspicious_absence=compared.vanished.suspicious_absence,
        )
        return () if new.pack() == old.pack() else ((path, rows.pack_repository(new)),)

    def remaining_rows(self, suspicion: str) -> Iterator[tuple[str, bytes]]:
        """The rows of repositories that do not exist any more, then the row of the registry."""
        compared, before = self.compared, self.compared.before
        for path in before.seen:
            if path not in compared.listed and path not in compared.unreadable:
                yield from ((path, rows.REMOVED),) if path in compared.unasked else self.repository_rows(path, ())
        last = before.last_scan
        lagging = {path: last.listed_at(path) for path in before.seen if path in compared.unreadable} if last else {}
        new = LastScan(self.now, lagging, suspicion, last.returned if last else ())
        yield rows.LAST_SCAN_PATH, rows.pack_last_scan(new)
