"""Reads a registry whole, at one instant: repositories side by side, what their manifests say of others resolved.

An inventory is spooled compressed, a repository at a time: each pass over it (survey, decide, write) holds only one.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime

from policies.image import Image, Repository, Unreadable
from worker.planning.spool import Spool
from worker.registries.errors import RegistryError, SignInError, UnservedNameError
from worker.registries.interface import Registry, ReportsReadErrors
from worker.store import plans
from worker.store.plans import Segment

Progress = Callable[[int, int], None]  # repositories listed, of how many
Reading = Callable[[Registry, str], tuple[Image, ...]]  # what is in a repository
Alive = Callable[[], None]  # raises ScanStoppedError where the work is no longer wanted


class ScanStoppedError(Exception):
    """The scan's lease was lost or its run aborted: whatever was read is thrown away."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was listed, at one instant: a compressed segment a repository, in order of their paths."""

    listed_at: datetime
    segments: Spool[Segment]
    unreadable: tuple[Unreadable, ...]
    unread: Mapping[str, str] = field(default_factory=dict)  # digest -> why its manifest could not be read
    signed_in: bool = True  # False: of several credentials some were refused

    def repositories(self, only: Collection[str] | None = None) -> Iterator[Repository]:
        """By their paths. `only`: those of these paths."""
        for segment in self.segments if only is None else map(self.segments.__getitem__, sorted(only)):
            yield Repository(path=segment.path, images=plans.decode_images(segment.images))


def take_inventory(
    registry: Registry,
    *,
    now: datetime,
    concurrency: int,
    read: Reading = lambda registry, path: registry.images(path),
    progress: Progress = lambda _done, _all: None,
    alive: Alive = lambda: None,
) -> Inventory:
    """List a registry whole, repositories side by side. One that cannot be listed is named in `unreadable`.

    `read`: how a repository is read.
    Raises ScanStoppedError, and any RegistryError that leaves nothing readable, unless only names are the reason.
    """
    paths = list(registry.repositories())
    progress(0, len(paths))
    segments = Spool(Segment)
    stopped = threading.Event()

    def list_one(path: str) -> None:
        if stopped.is_set():
            raise ScanStoppedError
        segments.add(path, Segment.of(path, read(registry, path)))

    with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="list") as pool:
        listed = {pool.submit(list_one, path): path for path in paths}
        try:
            refused = _collect(listed, progress, alive)
        except BaseException:
            stopped.set()
            raise
    on_the_way = [error for error in refused.values() if not isinstance(error, UnservedNameError)]
    sign_ins = [error for error in on_the_way if isinstance(error, SignInError)]
    if on_the_way and not segments:
        raise (sign_ins or on_the_way)[0]
    return Inventory(
        listed_at=now,
        segments=segments,
        unreadable=tuple(Unreadable(repository=path, reason=str(refused[path])) for path in sorted(refused)),
        unread=dict(registry.read_errors) if isinstance(registry, ReportsReadErrors) else {},
        signed_in=not sign_ins,
    )


def _collect(listed: "dict[Future[None], str]", progress: Progress, alive: Alive) -> dict[str, RegistryError]:
    refused: dict[str, RegistryError] = {}
    for number, future in enumerate(as_completed(listed), start=1):
        alive()
        try:
            future.result()
        except RegistryError as error:
            if isinstance(error, SignInError) and not error.partial:
                raise  # no other repository would fare better, and none of them is at fault
            refused[listed[future]] = error
        progress(number, len(listed))
    return refused
