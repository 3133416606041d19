"""What was listed of Cloud Registry: the whole registry, page after page, and the folders that are listed anew."""

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
from worker.registries.yandex.cloud_images import Folder, nearest, possible_folders, settled
from worker.registries.yandex.cloud_protocol import Artifact, WireArtifact, artifact_of, is_there


class ArtifactsByFolder:
    """Artifacts by folder in a temporary file, which goes with the last reference.

    Filled and settled by one thread; then several may take folders from it.
    """

    def __init__(self, registry_id: str) -> None:
        self._registry_id = registry_id
        self._file = tempfile.TemporaryFile(prefix="registry-gc-")  # noqa: SIM115 - lives as long as this object
        self._end = 0
        self._surely: dict[str, array[int]] = {}  # folder -> offset, length, offset, length, …
        self._perhaps: dict[str, array[int]] = {}  # by the folder in a full path, where that is not certain
        self._parents: set[str] = set()  # folders of those whose path certainly is one
        self._some_full = False
        self._odd: dict[str, Artifact] = {}  # by id: what has an impossible path
        self.left_alone: Counter[str] = Counter()  # what is no image of ours -> how many
        self._seen: set[str] = set()  # ids of those, which may come twice

    def add(self, rows: Sequence[WireArtifact]) -> None:
        """An artifact that lies nowhere makes unreadable what it may belong to, and nothing else."""
        for row in rows:
            artifact = artifact_of(row)
            if artifact is None:
                if row.id and row.id not in self._seen and row.kind in ("ARTIFACT", None):
                    self._seen.add(row.id)
                    self.left_alone["without Docker content" if is_there(row) else "deleted or being made"] += 1
                continue
            try:
                place = possible_folders(artifact.path, artifact.name, self._registry_id)
            except BadResponseError as error:
                self._odd[artifact.id] = replace(artifact, broken=error.message)
                continue
            if place.as_full is None:
                self._parents.add(place.as_parent or "")
            elif place.as_parent is None:
                self._some_full = True
            of = self._surely if place.as_full is None or place.as_parent is None else self._perhaps
            folder = place.as_parent if place.as_full is None else place.as_full
            self._write(of.setdefault(folder or "", array("Q")), artifact)

    def _write(self, places: "array[int]", artifact: Artifact) -> None:
        record = msgspec.msgpack.encode(artifact)
        self._file.write(record)
        places.extend((self._end, len(record)))
        self._end += len(record)

    def settle(self) -> None:
        """Say of each artifact where it lies, now that all have been seen."""
        self._file.flush()
        for folder, places in self._perhaps.items():
            if not self._parents:  # as a rule: nothing need be read again
                self._surely.setdefault(folder, array("Q")).extend(places)
                continue
            for artifact, offset, length in self._read(places):
                place = possible_folders(artifact.path, artifact.name, self._registry_id)
                where = settled(place, self._parents, some_full=self._some_full)
                self._surely.setdefault(where, array("Q")).extend((offset, length))
        self._perhaps = {}
        for artifact in self._odd.values():  # where each may belong, if there is such a repository
            folder = nearest(artifact.path, artifact.name, self._registry_id)
            if folder and folder in self._surely:
                self._write(self._surely[folder], artifact)
            else:
                self.left_alone["with an impossible path"] += 1
        self._file.flush()
        if rootless := self._surely.pop("", None):
            self.left_alone["in no repository"] += len(rootless) // 2

    def folders(self) -> list[str]:
        return sorted(self._surely)

    def take(self, folder: str) -> list[Artifact] | None:
        """A folder's artifacts, those that came twice the later way; None: they were taken before, or are none."""
        places = self._surely.pop(folder, None)
        return None if places is None else [artifact for artifact, _, _ in self._read(places)]

    def _read(self, places: "array[int]") -> Iterator[tuple[Artifact, int, int]]:
        for offset, length in zip(places[::2], places[1::2], strict=True):
            record = os.pread(self._file.fileno(), length, offset)
            yield msgspec.msgpack.decode(record, type=Artifact), offset, length


@dataclass(slots=True)
class _CachedListing:
    lock: threading.Lock = field(default_factory=threading.Lock)
    folder: Folder | None = None
    begun: float = 0.0  # time.monotonic()


class FolderListings:
    """The newest listing of each folder that was asked for. Safe to use from several threads."""

    def __init__(self, read: Callable[[str], Folder]) -> None:
        self._read = read
        self._held: dict[str, _CachedListing] = {}
        self._lock = threading.Lock()

    def since(self, path: str, moment: float) -> Folder:
        """A listing that was begun at `moment` (`time.monotonic()`) or later. Raises what reading raises."""
        with self._lock:
            held = self._held.setdefault(path, _CachedListing())
        with held.lock:
            if held.folder is None or held.begun < moment:
                begun = time.monotonic()
                held.folder, held.begun = self._read(path), begun
            return held.folder

    def forget(self, path: str) -> None:
        """Whoever asks for this folder from now on is told of what is there now."""
        with self._lock:
            self._held.pop(path, None)
