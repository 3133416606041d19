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
from worker.store.scan_history import GONE, HEAD, Head, RegistryHistory, pack_head, pack_seen

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
            before.seen[path], listed.get(path, _NOTHING), digest_rows(before.ours.get(path, ())), before.accepted_at
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
        before = self.compared.before.known(path)
        after = self._after(path, before, tuple(images))
        return () if after.pack() == before.pack() else ((path, pack_seen(after)),)

    def rest(self, suspicion: str) -> Iterator[tuple[str, bytes]]:
        """The rows of repositories that are gone, then that of the registry."""
        for path in self.compared.paths_gone():
            yield from ((path, GONE),) if path in self.compared.unasked else self.of(path, ())
        before = self.compared.before
        unread = self.compared.unreadable
        lagging = {path: before.head.scanned(path) for path in before.seen if path in unread} if before.head else {}
        yield HEAD, pack_head(Head(self.now, lagging, suspicion, before.head.returned if before.head else ()))

    def _after(self, path: str, before: RepositoryHistory, images: tuple[TaggedDigest, ...]) -> RepositoryHistory:
        return update_history(
            before,
            images,
            self.now,
            ours=digest_rows(self.compared.before.ours.get(path, ())),
            went=digest_rows(sorted(self.compared.before.went.get(path, ()))),
            accepted_at=self.compared.before.accepted_at,
            suspicious_absence=self.compared.vanished.suspicious_absence,
        )
