"""Listings of Cloud Registry: of the whole registry, page by page, and of single folders that are listed again."""

import os
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from worker.registries.errors import BadResponseError
from worker.registries.yandex.cloud_images import Folder, likely_folder, possible_folders, resolve_folder
from worker.registries.yandex.cloud_protocol import Artifact, WireArtifact, is_active, to_artifact


class ArtifactsByFolder:
    """Artifacts by folder, in a temporary file that is deleted with this object.

    One thread calls `add` and `finish`; then several threads may call `take`.
    """

    def __init__(self, registry_id: str) -> None:
        self._registry_id = registry_id
        self._file = tempfile.TemporaryFile(prefix="registry-gc-")  # noqa: SIM115 - lives as long as this object
        self._end = 0
        self._certain: dict[str, array[int]] = {}  # folder -> offset, length, offset, length, …
        self._ambiguous: dict[str, array[int]] = {}  # by the folder if the path is a full one, which is uncertain
        self._parent_paths: set[str] = set()  # paths that are certainly those of folders
        self._has_full_paths = False
        self._misplaced: dict[str, Artifact] = {}  # by id: artifacts with an invalid path
        self.ignored_counts: Counter[str] = Counter()  # kind of a row that is no image -> count
        self._ignored_ids: set[str] = set()  # a listing may repeat a row

    def add(self, rows: Sequence[WireArtifact]) -> None:
        """Sort rows into folders. An artifact with an invalid path makes only its likely folder unreadable."""
        for row in rows:
            artifact = to_artifact(row)
            if artifact is None:
                if row.id and row.id not in self._ignored_ids and row.kind in ("ARTIFACT", None):
                    self._ignored_ids.add(row.id)
                    self.ignored_counts["without Docker content" if is_active(row) else "deleted or being created"] += 1
                continue
            try:
                candidates = possible_folders(artifact.path, artifact.name, self._registry_id)
            except BadResponseError as error:
                self._misplaced[artifact.id] = replace(artifact, broken=error.message)
                continue
            if candidates.as_full is None:
                self._parent_paths.add(candidates.as_parent or "")
            elif candidates.as_parent is None:
                self._has_full_paths = True
            group = self._certain if candidates.as_full is None or candidates.as_parent is None else self._ambiguous
            folder = candidates.as_parent if candidates.as_full is None else candidates.as_full
            self._write(group.setdefault(folder or "", array("Q")), artifact)

    def _write(self, positions: "array[int]", artifact: Artifact) -> None:
        record = msgspec.msgpack.encode(artifact)
        self._file.write(record)
        positions.extend((self._end, len(record)))
        self._end += len(record)

    def finish(self) -> None:
        """Assign the artifacts with an uncertain folder, after all rows were added."""
        self._file.flush()
        for full_folder, positions in self._ambiguous.items():
            if not self._parent_paths:  # usually: no record has to be read again
                self._certain.setdefault(full_folder, array("Q")).extend(positions)
                continue
            for artifact, offset, length in self._read(positions):
                candidates = possible_folders(artifact.path, artifact.name, self._registry_id)
                folder = resolve_folder(candidates, self._parent_paths, has_full_paths=self._has_full_paths)
                self._certain.setdefault(folder, array("Q")).extend((offset, length))
        self._ambiguous = {}
        for artifact in self._misplaced.values():
            folder = likely_folder(artifact.path, artifact.name, self._registry_id)
            if folder and folder in self._certain:
                self._write(self._certain[folder], artifact)
            else:
                self.ignored_counts["with an invalid path"] += 1
        self._file.flush()
        if outside := self._certain.pop("", None):
            self.ignored_counts["in no repository"] += len(outside) // 2

    def folders(self) -> list[str]:
        return sorted(self._certain)

    def take(self, folder: str) -> list[Artifact] | None:
        """The artifacts of a folder, the newer copy of a repeated row last; None: no artifacts, or taken before. Call
        `finish` before. An artifact that is `broken` is included.
        """
        positions = self._certain.pop(folder, None)
        return None if positions is None else [artifact for artifact, _, _ in self._read(positions)]

    def _read(self, positions: "array[int]") -> Iterator[tuple[Artifact, int, int]]:
        for offset, length in zip(positions[::2], positions[1::2], strict=True):
            record = os.pread(self._file.fileno(), length, offset)
            yield msgspec.msgpack.decode(record, type=Artifact), offset, length


@dataclass(slots=True)
class _CachedListing:
    lock: threading.Lock = field(default_factory=threading.Lock)
    folder: Folder | None = None
    started_at: float = 0.0  # time.monotonic()


class FolderListings:
    """The newest listing of each requested folder. Safe to use from several threads."""

    def __init__(self, read: Callable[[str], Folder]) -> None:
        self._read = read
        self._cache: dict[str, _CachedListing] = {}
        self._lock = threading.Lock()

    def since(self, path: str, moment: float) -> Folder:
        """A listing that started at `moment` (`time.monotonic()`) or later. Raises RegistryError."""
        with self._lock:
            cached = self._cache.setdefault(path, _CachedListing())
        with cached.lock:
            if cached.folder is None or cached.started_at < moment:
                started_at = time.monotonic()
                cached.folder, cached.started_at = self._read(path), started_at
            return cached.folder

    def forget(self, path: str) -> None:
        """Drop the listing of a folder: the next caller lists it again."""
        with self._lock:
            self._cache.pop(path, None)
