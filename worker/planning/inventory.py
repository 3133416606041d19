"""Lists a whole registry, its repositories in parallel.

An inventory is a compressed spool: each pass over it (survey, decide, write) has one repository in memory.
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

Progress = Callable[[int, int], None]  # listed repositories, all repositories
Reading = Callable[[Registry, str], tuple[Image, ...]]  # reads the images of a repository
Alive = Callable[[], None]  # raises ScanStoppedError if the scan must stop


class ScanStoppedError(Exception):
    """The scan's lease was lost or its run aborted: the inventory is discarded."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was listed at one instant: a compressed segment for each repository, in the order of paths."""

    listed_at: datetime
    segments: Spool[Segment]
    unreadable: tuple[Unreadable, ...]
    unread: Mapping[str, str] = field(default_factory=dict)  # digest -> why its manifest could not be read
    signed_in: bool = True  # False: some of several credentials were refused

    def repositories(self, only: Collection[str] | None = None) -> Iterator[Repository]:
        """The repositories, in the order of paths; only those with a path in `only`, if given. Decodes one repository
        at a time. Raises KeyError: a path in `only` was not listed, or could not be.
        """
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
    """List a whole registry, its repositories in parallel; those that cannot be listed are in `unreadable`. `read`:
    reads a repository. Raises ScanStoppedError, and a RegistryError if no repository could be listed, unless only their
    names are the reason.
    """
    paths = list(registry.repositories())
    progress(0, len(paths))
    segments = Spool(Segment)
    stopped = threading.Event()

    def list_repository(path: str) -> None:
        """List one repository, in a thread of the pool. Raises ScanStoppedError: the listing was ended meanwhile.
        Raises the errors of `read`.
        """
        if stopped.is_set():
            raise ScanStoppedError
        segments.add(path, Segment.of(path, read(registry, path)))

    with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="list") as pool:
        listed = {pool.submit(list_repository, path): path for path in paths}
        try:
            refused = _collect(listed, progress, alive)
        except BaseException:
            stopped.set()
            raise
    failures = [error for error in refused.values() if not isinstance(error, UnservedNameError)]
    sign_ins = [error for error in failures if isinstance(error, SignInError)]
    if failures and not segments:
        raise (sign_ins or failures)[0]
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
                raise  # every repository would fail like this, through no fault of its own
            refused[listed[future]] = error
        progress(number, len(listed))
    return refused
