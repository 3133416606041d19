"""Reads a registry whole, at one instant: repositories side by side, what their manifests say of others resolved.

An inventory is spooled compressed, a repository at a time: each pass over it (survey, decide, write) holds only one.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from policies.image import Image, Repository, Unreadable
from worker.registries.interface import Manifest, Registry, RegistryError, SignInError
from worker.spool import Spool
from worker.store import Store, plans
from worker.store.plans import Segment

SKEW = timedelta(minutes=5)  # more than this between our clock and the registry's: no age can be believed

Progress = Callable[[int, int], None]  # repositories listed, of how many
Alive = Callable[[], None]  # raises ScanStoppedError where the work is no longer wanted


class ScanStoppedError(Exception):
    """The scan's lease was lost or its run aborted: whatever was read is thrown away."""


class ClockError(Exception):
    """Our clock and the registry's disagree."""


class Manifests:
    """What is known of manifests, from the store or from nowhere; what was read is remembered there."""

    def __init__(self, store: Store | None, registry_key: str, *, remember: bool = True) -> None:
        self._store = store
        self._key = registry_key
        self._remember = remember

    def known(self, digests: Iterable[str]) -> dict[str, Manifest]:
        if self._store is None:
            return {}
        with self._store.read() as connection:
            return plans.known_manifests(connection, self._key, digests)

    def remember(self, manifests: Mapping[str, Manifest]) -> None:
        if self._store is not None and self._remember and manifests:
            with self._store.write() as connection:
                plans.remember_manifests(connection, self._key, manifests)


def resolve(registry: Registry, repository: str, images: tuple[Image, ...], manifests: Manifests) -> tuple[Image, ...]:
    """The same images with what their manifests say of others; one that cannot be read has `children` None."""
    wanted = [image.digest for image in images if registry.needs_manifest(image)]
    if not wanted:
        return images
    known = manifests.known(wanted)
    answers = dict(registry.manifests(repository, [digest for digest in wanted if digest not in known]))
    read = {digest: answer for digest, answer in answers.items() if isinstance(answer, Manifest)}
    manifests.remember(read)
    known |= read
    asked = set(wanted)
    return tuple(_resolved(image, known.get(image.digest)) if image.digest in asked else image for image in images)


def _resolved(image: Image, manifest: Manifest | None) -> Image:
    if manifest is None:
        return msgspec.structs.replace(image, children=None)
    children = msgspec.UNSET if manifest.children is None else manifest.children
    subject = msgspec.UNSET if manifest.subject is None else manifest.subject
    return msgspec.structs.replace(image, children=children, subject=subject, media_type=manifest.media_type)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was listed, at one instant: a compressed segment a repository, in order of their paths."""

    listed_at: datetime
    segments: Spool[Segment]
    unreadable: tuple[Unreadable, ...]

    def repositories(self) -> Iterator[Repository]:
        for segment in self.segments:
            yield Repository(path=segment.path, images=plans.decode_images(segment.images))


def take_inventory(
    registry: Registry,
    manifests: Manifests,
    *,
    now: datetime,
    concurrency: int,
    progress: Progress = lambda _done, _all: None,
    alive: Alive = lambda: None,
) -> Inventory:
    """List a registry whole, repositories side by side. One that cannot be listed is named in `unreadable`.

    Raises ClockError, ScanStoppedError, and any RegistryError that leaves nothing readable.
    """
    _check_clock(registry.clock(), now)
    paths = list(registry.repositories())
    progress(0, len(paths))
    segments = Spool(Segment)
    stopped = threading.Event()

    def list_one(path: str) -> None:
        if stopped.is_set():
            raise ScanStoppedError
        segments.add(path, Segment.of(path, resolve(registry, path, registry.images(path), manifests)))

    with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="list") as pool:
        listed = {pool.submit(list_one, path): path for path in paths}
        try:
            refused = _collect(listed, progress, alive)
        except BaseException:
            stopped.set()
            raise
    if refused and not segments:
        raise next(iter(refused.values()))
    return Inventory(
        listed_at=now,
        segments=segments,
        unreadable=tuple(Unreadable(repository=path, reason=str(refused[path])) for path in sorted(refused)),
    )


def _check_clock(theirs: datetime, ours: datetime) -> None:
    if abs(theirs - ours) > SKEW:
        raise ClockError(
            f"this machine's clock ({ours:%Y-%m-%dT%H:%M:%SZ}) is more than 5 minutes from the registry's "
            f"({theirs:%Y-%m-%dT%H:%M:%SZ}); ages cannot be believed, set the clock"
        )


def _collect(listed: "dict[Future[None], str]", progress: Progress, alive: Alive) -> dict[str, RegistryError]:
    refused: dict[str, RegistryError] = {}
    for number, future in enumerate(as_completed(listed), start=1):
        alive()
        try:
            future.result()
        except SignInError:
            raise  # no other repository would fare better, and none of them is at fault
        except RegistryError as error:
            refused[listed[future]] = error
        progress(number, len(listed))
    return refused
