"""Yandex Cloud Registry: lists artifacts and makes images of them, deletes images artifact by artifact.

This adapter only sends; what goes over the wire and what comes back is in `cloud_protocol`, where artifacts lie and
what images they are in `cloud_images`. A scan lists the registry once; whatever is asked later is
listed anew, folder by folder.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from msgspec import UNSET
from msgspec.structs import replace

from policies.image import Image
from worker.config.settings import RegistrySettings
from worker.logs import Log
from worker.registries.docker.manifest_cache import (
    read_through,
    resolved,
    size_of,
    with_known_subjects,
)
from worker.registries.docker.manifests import about
from worker.registries.errors import NotFoundError, RegistryError
from worker.registries.http.messages import Request, Response, Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.http.responses import server_time
from worker.registries.interface import Deletion, Manifest, ManifestCache, Registry
from worker.registries.yandex import cloud_protocol as protocol
from worker.registries.yandex.api import PAGE_SIZE
from worker.registries.yandex.client import YandexRegistry
from worker.registries.yandex.cloud_deleting import ArtifactDeleter
from worker.registries.yandex.cloud_following import DeletionFollower
from worker.registries.yandex.cloud_images import Folder, disagrees, image_of, images_of, in_folder
from worker.registries.yandex.cloud_listing import ArtifactsByFolder, FolderListings
from worker.registries.yandex.cloud_protocol import Artifact, WireArtifact

SHARED = 1.0  # seconds: a listing of a folder that was begun no longer ago serves every image that is read again

log = Log(__name__)


def open_driver(settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache) -> Registry:
    """A registry of this kind; nothing is sent yet."""
    return YandexCloudRegistry(settings, limiter, retries, manifests)


class YandexCloudRegistry(YandexRegistry):
    """One registry, by its id. Safe to use from several threads."""

    by_parts: Literal[True] = True
    page_size = PAGE_SIZE

    def __init__(
        self, settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache
    ) -> None:
        super().__init__(settings, limiter, retries, manifests)
        self._root = settings.endpoints.cloud_registry
        self._folders = FolderListings(self._read_folder)
        self._deletions = ArtifactDeleter(settings, self, self._folders)
        self._follower = DeletionFollower(self, self._folders, self._deletions)
        self._pile: ArtifactsByFolder | None = None  # what the last `repositories` has listed
        self._told: set[str] = set()  # folders whose own artifacts their listing shows, if there are any
        self._lock = threading.Lock()

    def clock(self) -> datetime:
        """As the interface has it. Raises UnsuitableError, too: it is no Docker registry, or keeps nothing itself."""

        def read(response: Response) -> datetime:
            protocol.registry(response, self._id)
            return server_time(response)

        return self.call(protocol.get_registry(self._root, self._id), read)

    # Listing

    def repositories(self) -> Iterator[str]:
        pile = self._listed_whole()
        with self._lock:
            self._pile = pile
        yield from pile.folders()

    def images(self, repository: str) -> tuple[Image, ...]:
        with self._lock:
            scanned = self._pile.take(repository) if self._pile else None
        if scanned is None:
            folder = self._folders.since(repository, time.monotonic())
        else:
            with self._located(repository):
                folder = Folder(repository, scanned)
        return self._complete(folder)

    def plain_listing(self, repository: str, since: float) -> tuple[Image, ...]:
        return tuple(images_of(self._folders.since(repository, since), self._id).values())

    def _pages(self, path: str | None) -> Iterator[Sequence[WireArtifact]]:
        """Of what lies in a folder; None: in the whole registry."""

        def request(token: str) -> Request:
            if path is None:
                return protocol.list_artifacts(self._root, self._id, token, self.page_size)
            return protocol.list_level(self._root, self._id, path, token, self.page_size)

        return self.pages(request, lambda response: protocol.page(response, self._id), lambda row: row.id or "")

    def _listed_whole(self) -> ArtifactsByFolder:
        pile = ArtifactsByFolder(self._id)
        with self._located("artifacts"):
            for rows in self._pages(None):
                pile.add(rows)
            pile.settle()
        if pile.left_alone:
            told = ", ".join(f"{count} {what}" for what, count in sorted(pile.left_alone.items()))
            log.info("artifacts_not_listed", registry_id=self._id, kinds=told)
        return pile

    def _read_folder(self, path: str) -> Folder:
        """What lies in a folder now. One that shows nothing but folders is looked for in the whole registry.

        Not when it has shown artifacts before, and not again when the registry has shown none for it either.
        """
        rows: list[WireArtifact] = [row for rows in self._pages(path) for row in rows]
        artifacts: Iterable[Artifact] = filter(None, map(protocol.artifact_of, rows))
        folders_only = bool(rows) and all(row.kind in ("FOLDER", "PACKAGE") for row in rows)
        if folders_only and path not in self._told:
            hidden = self._listed_whole().take(path)
            artifacts, folders_only = hidden or (), hidden is not None
        with self._located(path):
            found = [one for one in artifacts if in_folder(one.path, one.name, self._id, path)]
            if rows and not folders_only:
                self._told.add(path)
            return Folder(path, found)

    @contextmanager
    def _located(self, what: str) -> Iterator[None]:
        """An error knows what it was about: those who read rows need not."""
        try:
            yield
        except RegistryError as error:
            error.registry, error.request = error.registry or self.http.registry, error.request or f"GET {what}"
            raise

    # What is not told with artifacts

    def _complete(self, folder: Folder) -> tuple[Image, ...]:
        """The images of a folder, and what they lead to that no artifact stands for."""
        read = self._read(folder.path)
        images = dict(images_of(folder, self._id))
        untold = [one for one in images if images[one].children is None and not disagrees(folder.of(one))]
        found = read_through(self._manifests, untold, read)
        images |= {digest: _filled(images[digest], found.get(digest)) for digest in untold}
        listed = with_known_subjects(self._manifests, tuple(images.values()), read)
        return (*listed, *self._unlisted(folder.path, listed))

    def _unlisted(self, repository: str, images: Sequence[Image]) -> Sequence[Image]:
        """What the Docker API has of those. What is remembered of one is no proof that it is there."""
        found: dict[str, Image] = {}
        asked = {image.digest for image in images}
        wanted = _named(images) - asked
        while wanted:
            new = {}
            for digest, manifest in self._asked_for(repository, sorted(wanted)).items():
                if not isinstance(manifest, NotFoundError):
                    image = Image(digest=digest, name=self._name(repository))
                    new[digest] = _filled(image, manifest if isinstance(manifest, Manifest) else None)
            found |= new
            asked |= wanted
            wanted = _named(new.values()) - asked
        return tuple(found.values())

    def _asked_for(self, repository: str, digests: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        known = self._manifests.load(digests)
        answers = dict(self.manifests(repository, [digest for digest in digests if digest not in known]))
        self._manifests.save({one: response for one, response in answers.items() if isinstance(response, Manifest)})

        def ask(digest: str) -> Manifest | RegistryError:
            try:
                self._insist_that_it_is_there(repository, digest)
            except RegistryError as error:
                return error
            return known[digest]

        return {**answers, **self._each(ask, list(known))}

    # One image

    def get(self, repository: str, image: Image, _known_tags: Mapping[str, str] | None = None) -> Image:
        folder = self._folders.since(repository, time.monotonic() - SHARED)
        same = folder.of(image.digest)
        if same:
            found = image_of(same, folder.tags[image.digest], self._name(repository))
            return replace(image, id=found.id, tags=found.tags, created_at=found.created_at)  # a manifest never changes
        if image.id:
            label = f"GET {about(repository, image.digest)}"
            raise NotFoundError("no artifact has this digest", self.http.registry, label)
        self._insist_that_it_is_there(repository, image.digest)  # an index led to it: no artifact stands for it
        return image

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        return self._deletions.delete(repository, image, idempotency_key, not_after)

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        return self._follower.follow(deletion, deadline)


def _named(images: Iterable[Image]) -> set[str]:
    """The children and subjects of images."""
    named = {child for image in images for child in image.children or ()}
    return named | {image.subject for image in images if isinstance(image.subject, str)}


def _filled(image: Image, manifest: Manifest | None) -> Image:
    """The image with what its manifest says; `children` None: it could not be read."""
    found = resolved(image, manifest)
    if manifest is None or manifest.config is None or image.config is not None:
        return found
    size = size_of(manifest.config, manifest.layers) if found.children is UNSET else None
    return replace(found, config=manifest.config, layers=manifest.layers, compressed_size=size)
