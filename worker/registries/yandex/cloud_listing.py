"""All artifacts of a registry in one listing, in windows of time side by side where there are many.

A window is half-open, so windows miss nothing and repeat nothing. That a server keeps to them is not taken for granted:
what was listed without a window must come again in one, and nothing may come that its window has not.
"""

import os
import tempfile
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import msgspec
from msgspec.structs import replace

from worker.registries.errors import BadAnswerError, RegistryError
from worker.registries.yandex.cloud_places import Place, nearest, place_of, settled
from worker.registries.yandex.cloud_protocol import Artifact, WireArtifact, artifact_of, is_there
from worker.registries.yandex.cloud_windows import WHOLE, Window, cut

FIRST_PAGES = 8  # listed one after the other: who has no more needs no windows
WINDOW_FACTOR = 2  # a window may have that many times as many pages before it is cut, and is cut in as many parts

Pages = Callable[[Window], Iterator[Sequence[WireArtifact]]]  # of a listing of what was created in a window


class _LeakError(Exception):
    """The server does not keep to windows of time."""


class Pile:
    """Artifacts by folder in a temporary file, which goes with the last reference. Safe to use from several threads."""

    def __init__(self, registry_id: str) -> None:
        self._registry_id = registry_id
        self._file = tempfile.TemporaryFile(prefix="registry-gc-")  # noqa: SIM115 - lives as long as the pile
        self._end = 0
        self._lock = threading.Lock()
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
                self._leave(row)
                continue
            try:
                place = place_of(artifact.path, artifact.name, self._registry_id)
            except BadAnswerError as error:
                with self._lock:
                    self._odd[artifact.id] = replace(artifact, broken=error.message)
                continue
            with self._lock:
                self._keep(place, artifact)

    def _leave(self, row: WireArtifact) -> None:
        with self._lock:
            if row.id and row.id not in self._seen and row.kind in ("ARTIFACT", None):
                self._seen.add(row.id)
                self.left_alone["without Docker content" if is_there(row) else "deleted or being made"] += 1

    def _keep(self, place: Place, artifact: Artifact) -> None:
        if place.as_full is None:
            self._parents.add(place.as_parent or "")
        elif place.as_parent is None:
            self._some_full = True
        of = self._perhaps if place.only is None else self._surely
        key = place.as_full if place.only is None else place.only
        self._write(of.setdefault(key or "", array("Q")), artifact)

    def _write(self, places: "array[int]", artifact: Artifact) -> None:
        record = msgspec.msgpack.encode(artifact)
        self._file.write(record)
        places.extend((self._end, len(record)))
        self._end += len(record)

    def settle(self) -> None:
        """Say of each artifact where it lies, now that all have been seen."""
        with self._lock:
            self._file.flush()
            for folder, places in self._perhaps.items():
                if not self._parents:  # as a rule: nothing need be read again
                    self._surely.setdefault(folder, array("Q")).extend(places)
                    continue
                for artifact, offset, length in self._read(places):
                    place = place_of(artifact.path, artifact.name, self._registry_id)
                    where = settled(place, self._parents, some_full=self._some_full)
                    self._surely.setdefault(where, array("Q")).extend((offset, length))
            self._perhaps = {}
            self._settle_odd()
        if rootless := self._surely.pop("", None):
            self.left_alone["in no repository"] += len(rootless) // 2

    def _settle_odd(self) -> None:
        """Put what has an impossible path where it may belong, if there is such a repository."""
        for artifact in self._odd.values():
            folder = nearest(artifact.path, artifact.name, self._registry_id)
            if folder and folder in self._surely:
                self._write(self._surely[folder], artifact)
            else:
                self.left_alone["with an impossible path"] += 1
        self._file.flush()

    def folders(self) -> list[str]:
        return sorted(self._surely)

    def take(self, folder: str) -> list[Artifact] | None:
        """A folder's artifacts, those that came twice the later way; None: they were taken before, or are none."""
        with self._lock:
            places = self._surely.pop(folder, None)
        return None if places is None else [artifact for artifact, _, _ in self._read(places)]

    def _read(self, places: "array[int]") -> Iterator[tuple[Artifact, int, int]]:
        for offset, length in zip(places[::2], places[1::2], strict=True):
            record = os.pread(self._file.fileno(), length, offset)
            yield msgspec.msgpack.decode(record, type=Artifact), offset, length


@dataclass(slots=True)
class _Side:
    """Listing in windows, side by side."""

    pages: Pages
    pile: Pile
    waited_for: set[str]  # ids that must come again
    most_pages: int  # of a window
    lock: threading.Lock = field(default_factory=threading.Lock)

    def list(self, windows: Sequence[Window], threads: int) -> None:
        """Raises _LeakError, and any RegistryError."""
        pool = ThreadPoolExecutor(threads, "windows")
        try:
            open_ = {pool.submit(self.one, window) for window in windows}
            while open_:
                done, open_ = wait(open_, return_when=FIRST_COMPLETED)
                open_ |= {pool.submit(self.one, part) for ended in done for part in ended.result()}
        finally:
            pool.shutdown(cancel_futures=True)

    def one(self, window: Window) -> Sequence[Window]:
        """List a window to its end; where that is far, the windows to be listed instead."""
        seen: list[datetime] = []
        for number, rows in enumerate(self.pages(window), start=1):
            for row in rows:
                if row.created_at is None or not window.has(row.created_at):
                    raise _LeakError
                seen.append(row.created_at.astimezone(UTC))
            self.pile.add(rows)
            with self.lock:
                self.waited_for.difference_update(row.id for row in rows)
            if number == self.most_pages and (parts := cut(window, seen, datetime.now(UTC), number)):
                return parts
        return ()


def list_all(pages: Pages, pile: Pile, threads: int, first_pages: int) -> None:
    """Put all artifacts of a registry on the pile. Raises any RegistryError: then the pile is worth nothing."""
    whole = pages(WHOLE)
    times: list[datetime | None] = []
    ids: set[str] = set()
    for rows in islice(whole, first_pages):
        pile.add(rows)
        times += [row.created_at.astimezone(UTC) if row.created_at else None for row in rows]
        ids |= {row.id or "" for row in rows}
    following = next(whole, None)
    if following is not None:
        pile.add(following)
        known = [at for at in times if at is not None]
        windows = cut(WHOLE, known, datetime.now(UTC), WINDOW_FACTOR * first_pages) if len(known) == len(times) else ()
        side = _Side(pages, pile, ids, WINDOW_FACTOR * first_pages)
        if not windows or not _in_windows(side, windows, threads):
            for rows in whole:
                pile.add(rows)
    pile.settle()


def _in_windows(side: _Side, windows: Sequence[Window], threads: int) -> bool:
    """Whether everything was listed in windows; False: they cannot be relied on. Raises RegistryError."""
    try:
        side.list(windows, threads)
    except _LeakError:
        return False
    except RegistryError as error:
        if error.status != 400:  # it may not know the parameters
            raise
        return False
    return not side.waited_for
