"""The blobs of the in-memory registry: stored as distribution stores them, until its collector runs."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.oci.manifests import Descriptor, digest_of


@dataclass
class MemoryBlobs:
    """Stored blobs, and the repositories that link them.

    `cached`: a cache hides the collector's work until `restart`: freed blobs still seem to exist, and a put of a freed
    manifest succeeds without an effect.
    """

    cached: bool = False
    stored: set[str] = field(default_factory=set)
    linked: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # by repository
    deleted: set[str] = field(default_factory=set)  # manifests
    remembered: set[str] = field(default_factory=set)  # manifests and blobs that were freed behind the cache's back
    freed_at_once: set[str] = field(
        default_factory=set
    )  # blobs that a collector frees right after the next push of a manifest

    def push(self, path: str, data: bytes, media_type: str) -> Descriptor:
        digest = digest_of(data)
        self.stored.add(digest)
        self.linked[path].add(digest)
        return Descriptor(digest, len(data), media_type)

    def collect(self, named: set[str]) -> None:
        """Free every blob that no manifest names."""
        if self.cached:
            self.remembered |= self.deleted | (self.stored - named)
        self.stored &= named

    def free_at_once(self) -> None:
        self.stored -= self.freed_at_once

    def restart(self) -> None:
        """Empty the cache."""
        self.remembered.clear()

    def lost(self, path: str, digests: Iterable[str]) -> tuple[str, ...]:
        """The digests that cannot be fetched from the repository."""
        return tuple(digest for digest in digests if digest not in self.linked[path] or digest not in self.stored)

    def unknown(self, path: str, digests: Iterable[str]) -> list[str]:
        """The digests that the registry reports as missing; its cache may be wrong."""
        present = self.linked[path] & (self.stored | self.remembered)
        return [digest for digest in digests if digest not in present]

    def mount(self, path: str, digest: str, source: str) -> bool:
        """Link a blob that another repository has; whether it has it."""
        if self.lost(source, [digest]):
            return False
        self.linked[path].add(digest)
        return True
