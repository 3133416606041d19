"""Restores deleted images: finds them in the store, and restores them repository by repository.

Reads the store, deletes nothing, and leaves every tag that somebody has pushed since. Safe to repeat.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

from sqlalchemy import Connection

from policies.blobs import blobs_of
from policies.subjects import subjects_in
from worker.config import kinds
from worker.config.settings import RegistrySettings, Settings
from worker.logs import Log
from worker.registries.errors import PermissionDeniedError, RegistryError
from worker.registries.interface import Registry, Restores
from worker.restore.images import ImageRestorer, RestoredImage, WantedImage, needs_of, restore_order
from worker.runs.lifecycle import AlreadyRunningError, registry_named
from worker.store import Store, plans, runs, undo
from worker.store.runs import Run
from worker.store.undo import UndoRecord

SIDE_BY_SIDE = 8  # repositories
MOST_SOURCES = 4  # repositories from which a blob may be mounted

log = Log(__name__)

Progress = Callable[[int, int], None]  # restored images, all images


class NothingToRestoreError(Exception):
    """No image that can be restored has this name."""

    exit_code = 2


class RestoreUnsupportedError(Exception):
    """A registry of a kind that cannot restore deleted images."""

    exit_code = 2

    def __init__(self, what: RegistrySettings | str) -> None:
        kind = "" if isinstance(what, str) else f"{what.name} is a {what.kind}, which cannot restore deleted images"
        super().__init__(kind or what)


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What to restore, and where: all that a run deleted, or one image."""

    registry: RegistrySettings
    run_id: str
    repositories: Mapping[str, int]  # number of images in each
    image: UndoRecord | None = None  # None: the whole run
    unsaved: int = 0  # images that the run deleted without a saved manifest
    who: str | None = None  # requests it
    partly: bool = False  # restore the tags of an index even if listed images are missing


def resolve_request(store: Store, settings: Settings, text: str, registry: str | None = None) -> RestoreRequest:
    """The request for a run's id, `path:tag`, `path@sha256:…`, a digest or an image's id, in a registry or in any.

    The newest of several deletions of an image counts. Raises NothingKeptError, TakesNothingBackError,
    UnknownRegistryError, StoreError; AlreadyRunningError: a run may be deleting there.
    """
    with store.read() as connection:
        run = runs.get(connection, text)
        request = _of_image(connection, settings, text, registry) if run is None else _of_run(connection, settings, run)
        if registry not in (None, request.registry.name):
            raise NothingToRestoreError(f"run {text} is not a run of {registry}, but of {request.registry.name}")
        active = runs.active(connection, request.registry.key)
    if active is not None and active.mode == "delete":
        raise AlreadyRunningError(request.registry.name, active.id)
    return request


def _of_run(connection: Connection, settings: Settings, run: Run) -> RestoreRequest:
    registry = next((entry for entry in settings.registries.values() if entry.key == run.registry_key), None)
    if registry is None:
        key = run.registry_key.replace("|", " ").strip()
        registry_text = f"{run.registry} ({key})"
        raise NothingToRestoreError(f"run {run.id} deleted from {registry_text}, which {settings.path} does not have")
    if not _can_restore(registry):
        raise RestoreUnsupportedError(registry)
    if repositories := undo.repositories_of(connection, run.id):
        return RestoreRequest(registry, run.id, repositories, unsaved=undo.count_unsaved(connection, run.id))
    if run.deleted or run.gone or (run.forgotten and run.failed):  # then an `unconfirmed` image is among the failures
        unsaved = f"no manifest that run {run.id} deleted is saved (any more)"
        raise NothingToRestoreError(f"{unsaved}; {_retention(settings)}")
    raise NothingToRestoreError(f"run {run.id} deleted nothing: there is nothing to restore")


def _retention(settings: Settings) -> str:
    return f"the last {settings.retention.plans} runs that deleted anything have saved manifests (retention.plans)"


def _of_image(connection: Connection, settings: Settings, text: str, name: str | None) -> RestoreRequest:
    candidates = list(settings.registries.values()) if name is None else [registry_named(settings, name)]
    registries = [registry for registry in candidates if _can_restore(registry)]
    if not registries and name is not None:
        raise RestoreUnsupportedError(candidates[0])
    if not registries:
        raise RestoreUnsupportedError(f"no registry of {settings.path} is of a kind that can restore deleted images")
    newest: dict[tuple[str, str], tuple[RegistrySettings, UndoRecord]] = {}  # by registry and repository
    for registry in registries:
        for record in undo.find_by_reference(connection, registry.key, text):
            newest.setdefault((registry.name, record.repository), (registry, record))
    if not newest:
        where = name or ", ".join(registry.name for registry in registries)
        missing = f"{text!r} is no run's id, and no deleted image of {where} has that reference"
        raise NothingToRestoreError(f"{missing}; {_retention(settings)}")
    names = sorted({registry for registry, _ in newest})
    if len(names) > 1:
        raise NothingToRestoreError(f"{text!r} was deleted from {', '.join(names)}; choose with --registry")
    if len(newest) > 1:
        images = ", ".join(sorted(f"{record.repository}@{record.manifest.digest}" for _, record in newest.values()))
        raise NothingToRestoreError(f"{text!r} was deleted from several repositories; choose: {images}")
    ((registry, record),) = newest.values()
    return RestoreRequest(registry, record.run_id, {record.repository: 1}, record)


def _can_restore(registry: RegistrySettings) -> bool:
    """Whether the registry's kind can restore images. For a kind that a program has added, its driver decides."""
    return registry.kind not in kinds.KINDS or bool(kinds.kind_of(registry.kind).to_restore)


def restore(
    store: Store, request: RestoreRequest, opened: Registry, progress: Progress = lambda _done, _all: None
) -> list[RestoredImage]:
    """Restore the requested images and what they need; by repository, each image after those that it lists.

    Raises RestoreUnsupportedError, StoreError, LimiterUnavailableError. Refusals of the registry are in the results.
    """
    if not isinstance(opened, Restores):
        raise RestoreUnsupportedError(request.registry)
    work = _Restoration(store, request, opened, progress)
    threads = min(SIDE_BY_SIDE, request.registry.rate.concurrency, len(request.repositories))
    with ThreadPoolExecutor(threads, "restore") as pool:
        try:
            return list(chain.from_iterable(pool.map(work.repository, request.repositories)))
        except BaseException:
            work.halted = "stopped"
            raise


@dataclass(slots=True)
class _Restoration:
    """The work of one request: several threads, each with one repository at a time."""

    store: Store
    request: RestoreRequest
    registry: Restores
    progress: Progress
    halted: str = ""  # why no further image is tried, in any repository
    _done: int = 0
    _sources: dict[str, list[str]] = field(default_factory=dict)  # a blob's digest -> repositories that have it
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sources_lock: threading.Lock = field(default_factory=threading.Lock)

    def repository(self, path: str) -> list[RestoredImage]:
        """Restore the requested images of one repository. Raises StoreError."""
        with self.store.read() as connection:
            wanted = _wanted(connection, self.request, path)
        restorer = ImageRestorer(self.registry, path, self._sources_of, self.request.partly)
        results: list[RestoredImage] = []
        refused = ""  # why no further image of this repository is tried
        for image in wanted:
            if why := refused or self.halted:
                results.append(RestoredImage.of(image.undo, "unfinished", message=f"not tried: {why}"))
                continue
            try:
                results.append(restorer.restore(image))
            except RegistryError as error:
                refused = self._refusal(path, error)
                results.append(RestoredImage.of(image.undo, "unfinished", message=refused))
            self._report(results[-1])
        return results

    def _sources_of(self, blob: str) -> Sequence[str]:
        """Repositories that have a blob in the registry's newest plan, which is read once for the whole run."""
        with self._sources_lock:
            if blob not in self._sources:
                with self.store.read() as connection:
                    self._find_sources(connection, blob)
            return self._sources[blob]

    def _find_sources(self, connection: Connection, blob: str) -> None:
        deleted = undo.images_of_run(connection, self.request.run_id)
        wanted = {blob}.union(part.digest for image in deleted for part in blobs_of(image))
        self._sources = {digest: [] for digest in wanted | self._sources.keys()}
        for path, images in plans.newest_images(connection, self.request.registry.name):
            for part in chain.from_iterable(map(blobs_of, images)):
                paths = self._sources.get(part.digest)
                if paths is not None and path not in paths and len(paths) < MOST_SOURCES:
                    paths.append(path)

    def _refusal(self, path: str, error: RegistryError) -> str:
        """The message for an error after which the next image would fail alike."""
        if isinstance(error, PermissionDeniedError):  # the credentials may have access to other repositories
            needs = kinds.kind_of(self.request.registry.kind).to_restore or "pull and push"
            return f"{error}; restoring needs the right to {needs} in {path}"
        self.halted = str(error)
        return self.halted

    def _report(self, result: RestoredImage) -> None:
        facts = {"registry": self.request.registry.name, "run": result.run, "repository": result.repository}
        facts |= {"by": self.request.who} if self.request.who else {}
        log.info("image_restored", **facts, digest=result.digest, answer=result.answer, tags=result.tags)
        with self._lock:
            self._done += 1
            self.progress(self._done, max(self._done, sum(self.request.repositories.values())))


def _wanted(connection: Connection, request: RestoreRequest, path: str) -> list[WantedImage]:
    """The images to restore in a repository, in order: the requested ones, and deleted children that they need."""
    of_run = undo.find_by_run(connection, request.run_id, path)
    chosen = of_run if request.image is None else _with_referrers(request.image, of_run)
    wanted = {record.manifest.digest: WantedImage(record) for record in chosen}
    needs: dict[str, tuple[str, ...]] = {}
    unread = list(wanted)
    for digest in unread:  # grows in the loop
        needs[digest] = needs_of(wanted[digest].undo.manifest).manifests
        for child in needs[digest]:
            if child in wanted:
                continue
            if records := undo.find_by_digest(connection, request.registry.key, child, path):
                wanted[child] = WantedImage(records[0], tagged=False)
                unread.append(child)
    subjects = subjects_in(image.undo.image for image in wanted.values())
    return restore_order(wanted.values(), needs, subjects)


def _with_referrers(image: UndoRecord, of_run: Iterable[UndoRecord]) -> list[UndoRecord]:
    """An image with its signatures and other referrers, and those of what it lists, that the same run deleted."""
    others = {record.manifest.digest: record for record in of_run}
    subjects = subjects_in(record.image for record in (*others.values(), image))
    chosen, family, needed = [image], {image.manifest.digest}, {image.manifest.digest}
    unread = [image]
    for member in unread:  # grows in the loop
        needed.update((member.manifest.digest, *needs_of(member.manifest).manifests))
        for digest, other in others.items():
            refers = not needed.isdisjoint(subjects.get(digest, ()))
            if digest in family or not (refers or digest in needed):
                continue
            family.add(digest)
            unread.append(other)
            if refers:
                chosen.append(other)
    return chosen
