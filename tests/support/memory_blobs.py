"""The blobs of the registry in memory: kept as distribution keeps them, until its collector runs."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.oci.manifests import Descriptor, digest_of


@dataclass
class MemoryBlobs:
    """What is stored, and which repositories may show it.

    `cached`: the collector's work goes unnoticed until `restart`: blobs that were freed are thought to be there, and a
    manifest whose bytes were freed is taken, and not there.
    """

    cached: bool = False
    stored: set[str] = field(default_factory=set)
    linked: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # by repository
    deleted: set[str] = field(default_factory=set)  # manifests
    remembered: set[str] = field(default_factory=set)  # manifests and blobs that were freed behind the cache's back
    freed_at_once: set[str] = field(default_factory=set)  # what a collector frees just after the next manifest is put

    def push(self, path: str, data: bytes, media_type: str) -> Descriptor:
        digest = digest_of(data)
        self.stored.add(digest)
        self.linked[path].add(digest)
        return Descriptor(digest, len(data), media_type)

    def collect(self, named: set[str]) -> None:
        """Free every blob but these, which manifests name."""
        if self.cached:
            self.remembered |= self.deleted | (self.stored - named)
        self.stored &= named

    def free_at_once(self) -> None:
        self.stored -= self.freed_at_once

    def restart(self) -> None:
        """Empty the cache."""
        self.remembered.clear()

    def lost(self, path: str, digests: Iterable[str]) -> tuple[str, ...]:
        """Those that cannot be fetched from this repository."""
        return tuple(digest for digest in digests if digest not in self.linked[path] or digest not in self.stored)

    def unknown(self, path: str, digests: Iterable[str]) -> list[str]:
        """Those that the registry itself thinks it lacks: the cache may be wrong."""
        there = self.linked[path] & (self.stored | self.remembered)
        return [digest for digest in digests if digest not in there]

    def mount(self, path: str, digest: str, source: str) -> bool:
        """Link a blob that another repository has; whether it has it."""
        if self.lost(source, [digest]):
            return False
        self.linked[path].add(digest)
        return True
