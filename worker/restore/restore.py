"""Restores what was deleted: finds what is asked for in the store, and has it put back, repository by repository.

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
from worker.restore.images import ImageRestorer, RestoredImage, WantedImage, in_order, needs_of
from worker.runs.lifecycle import AlreadyRunningError, registry_named
from worker.store import Store, plans, runs, undo
from worker.store.runs import Run
from worker.store.undo import UndoRecord

SIDE_BY_SIDE = 8  # repositories
MOST_SOURCES = 4  # repositories that a blob is tried to be taken over from

log = Log(__name__)

Tell = Callable[[int, int], None]


class NothingToRestoreError(Exception):
    """Nothing that could be put back goes by that name."""

    exit_code = 2


class RestoreUnsupportedError(Exception):
    """A registry of a kind that takes no deleted image back."""

    exit_code = 2

    def __init__(self, what: RegistrySettings | str) -> None:
        said = what if isinstance(what, str) else f"{what.name} is a {what.kind}, which takes no deleted image back"
        super().__init__(said)


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What is to be put back, and where: all that a run deleted, or one image."""

    registry: RegistrySettings
    run_id: str
    repositories: Mapping[str, int]  # how many images of each
    image: UndoRecord | None = None  # None: the whole run
    unsaved: int = 0  # images that the run deleted of which nothing was kept
    who: str | None = None  # asks for it
    partly: bool = False  # indexes get their tags back, though images that they list are not there


def resolve_request(store: Store, settings: Settings, words: str, registry: str | None = None) -> RestoreRequest:
    """What a run's id, `path:tag`, `path@sha256:…`, a digest or an image's id asks for, in a registry or in any.

    Of several deletions of an image it is the newest. Raises NothingKeptError, TakesNothingBackError,
    UnknownRegistryError, StoreError; AlreadyRunningError: a run may be deleting there.
    """
    with store.read() as connection:
        run = runs.get(connection, words)
        asked = _image(connection, settings, words, registry) if run is None else _run(connection, settings, run)
        if registry not in (None, asked.registry.name):
            raise NothingToRestoreError(f"run {words} is not one of {registry}, but of {asked.registry.name}")
        active = runs.active(connection, asked.registry.key)
    if active is not None and active.mode == "delete":
        raise AlreadyRunningError(asked.registry.name, active.id)
    return asked


def _run(connection: Connection, settings: Settings, run: Run) -> RestoreRequest:
    registry = next((one for one in settings.registries.values() if one.key == run.registry_key), None)
    if registry is None:
        key = run.registry_key.replace("|", " ").strip()
        raise NothingToRestoreError(
            f"run {run.id} deleted from {run.registry} ({key}), which {settings.path} has no more"
        )
    if not _may_take_back(registry):
        raise RestoreUnsupportedError(registry)
    if repositories := undo.repositories_of(connection, run.id):
        return RestoreRequest(registry, run.id, repositories, unsaved=undo.count_unsaved(connection, run.id))
    if run.deleted or run.gone or (run.forgotten and run.failed):  # what was `unconfirmed` is then among the failures
        raise NothingToRestoreError(f"nothing is kept (any more) of what run {run.id} deleted; {_how_long(settings)}")
    raise NothingToRestoreError(f"run {run.id} deleted nothing: there is nothing to restore")


def _how_long(settings: Settings) -> str:
    return f"kept is what the last {settings.retention.plans} runs that deleted anything took (retention.plans)"


def _image(connection: Connection, settings: Settings, words: str, name: str | None) -> RestoreRequest:
    asked = list(settings.registries.values()) if name is None else [registry_named(settings, name)]
    registries = [one for one in asked if _may_take_back(one)]
    if not registries and name is not None:
        raise RestoreUnsupportedError(asked[0])
    if not registries:
        raise RestoreUnsupportedError(f"no registry of {settings.path} is of a kind that takes deleted images back")
    newest: dict[tuple[str, str], tuple[RegistrySettings, UndoRecord]] = {}  # by registry and repository
    for registry in registries:
        for one in undo.find_by_reference(connection, registry.key, words):
            newest.setdefault((registry.name, one.repository), (registry, one))
    if not newest:
        where = name or ", ".join(one.name for one in registries)
        missing = f"no run has the id {words!r}, and no deleted image of {where} is known by it"
        raise NothingToRestoreError(f"{missing}; {_how_long(settings)}")
    names = sorted({registry for registry, _ in newest})
    if len(names) > 1:
        raise NothingToRestoreError(f"{words!r} was deleted from {', '.join(names)}; say from which with --registry")
    if len(newest) > 1:
        paths = ", ".join(sorted(f"{one.repository}@{one.kept.digest}" for _, one in newest.values()))
        raise NothingToRestoreError(f"{words!r} was deleted from several repositories; say which: {paths}")
    ((registry, one),) = newest.values()
    return RestoreRequest(registry, one.run_id, {one.repository: 1}, one)


def _may_take_back(registry: RegistrySettings) -> bool:
    """Of a kind that a program has added by itself its driver tells."""
    return registry.kind not in kinds.KINDS or bool(kinds.kind_of(registry.kind).to_restore)


def restore(
    store: Store, asked: RestoreRequest, opened: Registry, tell: Tell = lambda _done, _all: None
) -> list[RestoredImage]:
    """Put back what is asked for, and what that needs; by repository, each image after all that it lists.

    Raises TakesNothingBackError, StoreError, LimiterUnavailableError. What a registry refuses is in the answers.
    """
    if not isinstance(opened, Restores):
        raise RestoreUnsupportedError(asked.registry)
    work = _Restoring(store, asked, opened, tell)
    threads = min(SIDE_BY_SIDE, asked.registry.rate.concurrency, len(asked.repositories))
    with ThreadPoolExecutor(threads, "restore") as pool:
        try:
            return [one for found in pool.map(work.repository, asked.repositories) for one in found]
        except BaseException:
            work.halted = "stopped"
            raise


@dataclass(slots=True)
class _Restoring:
    """A restoration at work: several threads, each with one repository at a time."""

    store: Store
    asked: RestoreRequest
    registry: Restores
    tell: Tell
    halted: str = ""  # why nothing further is begun, in any repository
    _done: int = 0
    _sources: dict[str, list[str]] = field(default_factory=dict)  # repositories that have a blob, by its digest
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looking: threading.Lock = field(default_factory=threading.Lock)  # while sources are looked up

    def repository(self, path: str) -> list[RestoredImage]:
        """Put back what is asked for of one repository. Raises StoreError."""
        with self.store.read() as connection:
            wanted = _wanted(connection, self.asked, path)
        work = ImageRestorer(self.registry, path, self._sources_of, self.asked.partly)
        found: list[RestoredImage] = []
        refused = ""  # why nothing further is begun in this repository
        for one in wanted:
            if why := refused or self.halted:
                found.append(RestoredImage.of(one.undo, "unfinished", message=f"not tried: {why}"))
                continue
            try:
                found.append(work.restore(one))
            except RegistryError as error:
                refused = self._refusal(path, error)
                found.append(RestoredImage.of(one.undo, "unfinished", message=refused))
            self._note(found[-1])
        return found

    def _sources_of(self, blob: str) -> Sequence[str]:
        """Where the registry's newest plan saw a blob: gone through once for all that the run deleted."""
        with self._looking:
            if blob not in self._sources:
                with self.store.read() as connection:
                    self._look_up_sources(connection, blob)
            return self._sources[blob]

    def _look_up_sources(self, connection: Connection, blob: str) -> None:
        deleted = undo.images_of_run(connection, self.asked.run_id)
        wanted = {blob}.union(one.digest for image in deleted for one in blobs_of(image))
        self._sources = {digest: [] for digest in wanted | self._sources.keys()}
        for path, images in plans.newest_images(connection, self.asked.registry.name):
            for one in chain.from_iterable(map(blobs_of, images)):
                known = self._sources.get(one.digest)
                if known is not None and path not in known and len(known) < MOST_SOURCES:
                    known.append(path)

    def _refusal(self, path: str, error: RegistryError) -> str:
        """What a person reads of an error after which the next image would fare no better."""
        if isinstance(error, PermissionDeniedError):  # another repository may be open to these credentials
            needs = kinds.kind_of(self.asked.registry.kind).to_restore or "pull and push"
            return f"{error}; restoring needs the right to {needs} in {path}"
        self.halted = str(error)
        return self.halted

    def _note(self, one: RestoredImage) -> None:
        facts = {"registry": self.asked.registry.name, "run": one.run, "repository": one.repository}
        facts |= {"by": self.asked.who} if self.asked.who else {}
        log.info("image_restored", **facts, digest=one.digest, answer=one.answer, tags=one.tags)
        with self._lock:
            self._done += 1
            self.tell(self._done, max(self._done, sum(self.asked.repositories.values())))


def _wanted(connection: Connection, asked: RestoreRequest, path: str) -> list[WantedImage]:
    """What is to be put back into a repository, in order: what was asked for, and deleted children that it needs."""
    of_run = undo.find_by_run(connection, asked.run_id, path)
    chosen = of_run if asked.image is None else _with_referrers(asked.image, of_run)
    wanted = {one.kept.digest: WantedImage(one) for one in chosen}
    needs: dict[str, tuple[str, ...]] = {}
    unread = list(wanted)
    for digest in unread:  # grows while it is read
        needs[digest] = needs_of(wanted[digest].undo.kept).manifests
        for child in needs[digest]:
            found = [] if child in wanted else undo.find_by_digest(connection, asked.registry.key, child, path)
            if found:
                wanted[child] = WantedImage(found[0], tagged=False)
                unread.append(child)
    subjects = subjects_in(one.undo.image for one in wanted.values())
    return in_order(wanted.values(), needs, subjects)


def _with_referrers(image: UndoRecord, of_run: Iterable[UndoRecord]) -> list[UndoRecord]:
    """An image with the signatures and other referrers of it, and of what it lists, that went in the same run."""
    others = {one.kept.digest: one for one in of_run}
    subjects = subjects_in(one.image for one in (*others.values(), image))
    chosen, family, about = [image], {image.kept.digest}, {image.kept.digest}
    unread = [image]
    for one in unread:  # grows while it is read
        about.update((one.kept.digest, *needs_of(one.kept).manifests))
        for digest, other in others.items():
            refers = not about.isdisjoint(subjects.get(digest, ()))
            if digest in family or not (refers or digest in about):
                continue
            family.add(digest)
            unread.append(other)
            if refers:
                chosen.append(other)
    return chosen
