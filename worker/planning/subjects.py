"""Reads, for a plan, the subjects of selected untagged images, which no listing reports.

The plan keeps such an image until its manifest was read. Each manifest is read only once, and a later scan reads those
that one scan does not reach in its time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import replace

from policies.warnings import PlanWarning
from worker.config.kinds import kind_of
from worker.planning.inventory import Alive, ScanStoppedError
from worker.planning.planner import Planned
from worker.registries.errors import RegistryError
from worker.registries.interface import ReadsSubjects, Registry
from worker.store import plans
from worker.store.plans import Segment

SECONDS = 600.0  # for reading manifests in one scan

Reopened = Callable[[], AbstractContextManager[Registry]]


def plan_with_subjects(
    make: Callable[[], Planned], opened_again: Reopened, alive: Alive = lambda: None, seconds: float = SECONDS
) -> Planned:
    """The plan, after the unreported subjects that it depends on were read. Raises ScanStoppedError.

    `make`: plans the same inventory, which changes in place.
    """
    planned = make()
    if not planned.unread:
        return planned
    with opened_again() as opened:
        planned, refusal = _resolve(planned, opened, make, alive, time.monotonic() + seconds)
    return replace(planned, warnings=(*planned.warnings, *warning_of(planned, refusal)))


def _resolve(
    planned: Planned, opened: Registry, make: Callable[[], Planned], alive: Alive, not_after: float
) -> tuple[Planned, RegistryError | None]:
    """The plan after the necessary manifests were read, and the first refusal.

    A subject may change which images a count selects, so a new plan may need more manifests.
    """
    refusal: RegistryError | None = None
    if not isinstance(opened, ReadsSubjects):
        return planned, refusal
    asked: set[tuple[str, str]] = set()
    while True:
        wanted = {
            path: new
            for path, digests in planned.unread.items()
            if (new := [digest for digest in digests if (path, digest) not in asked])
        }
        if not wanted:
            return planned, refusal
        refused = _read(opened, planned, wanted, not_after, alive)
        refusal = refusal or refused
        asked.update((path, digest) for path, digests in wanted.items() for digest in digests)
        planned = make()
        if time.monotonic() >= not_after:
            return planned, refusal


def _read(
    opened: ReadsSubjects, planned: Planned, wanted: Mapping[str, Sequence[str]], not_after: float, alive: Alive
) -> RegistryError | None:
    """Read subjects, several repositories in parallel; return the first refusal. Raises ScanStoppedError."""
    segments = planned.inventory.segments
    stopped = False

    def read_repository(path: str) -> RegistryError | None:
        if stopped:
            raise ScanStoppedError
        images = plans.decode_images(segments[path].images)
        read = opened.read_subjects(path, images, wanted[path], not_after)
        if read.images != images:
            segments.add(path, Segment.of(path, read.images))
        return read.refusal

    refusals = []
    with ThreadPoolExecutor(planned.registry.rate.concurrency, "subjects") as pool:
        try:
            for future in as_completed([pool.submit(read_repository, path) for path in sorted(wanted)]):
                alive()
                refusals.append(future.result())
        except BaseException:
            stopped = True
            raise
    return next(filter(None, refusals), None)


def warning_of(planned: Planned, refusal: RegistryError | None) -> tuple[PlanWarning, ...]:
    """A warning about the images whose subject is still unknown."""
    count = sum(map(len, planned.unread.values()))
    if not count:
        return ()
    images = "1 untagged image is kept" if count == 1 else f"{count:,} untagged images are kept"
    their, they_refer = ("its manifest", "it refers") if count == 1 else ("their manifests", "they refer")
    message = f"{images} because {their} could not be read yet: whether {they_refer} to an image that stays is unknown"
    role = kind_of(planned.registry.kind).to_read
    if refusal is not None:
        message += f"; the first refusal: {refusal}" + (
            f"; reading needs the role {role} on the registry" if role else ""
        )
    else:
        message += f"; each scan reads for {SECONDS / 60:.0f} minutes and never reads a manifest twice"
    return (PlanWarning("subjects_unknown", message),)
