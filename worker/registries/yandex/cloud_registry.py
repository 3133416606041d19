"""Yandex Cloud Registry: lists artifacts, groups them into images, deletes images artifact by artifact.

The driver only sends: `cloud_protocol` builds requests and parses responses, `cloud_images` finds the folder and the
image of an artifact. A scan lists the registry once; later reads list single folders again.
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
from worker.registries.http.loops import call_in_threads
from worker.registries.http.messages import Response, Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.http.responses import server_time
from worker.registries.interface import Deletion, Manifest, ManifestCache, Registry
from worker.registries.yandex import api
from worker.registries.yandex import cloud_protocol as protocol
from worker.registries.yandex.api import PAGE_SIZE
from worker.registries.yandex.client import YandexRegistry
from worker.registries.yandex.cloud_deleting import ArtifactDeleter
from worker.registries.yandex.cloud_following import DeletionFollower
from worker.registries.yandex.cloud_images import Folder, have_conflicting_manifests, image_of, images_of, is_in_folder
from worker.registries.yandex.cloud_listing import ArtifactsByFolder, FolderListings
from worker.registries.yandex.cloud_protocol import Artifact, WireArtifact

SHARED = 1.0  # seconds: `get` shares a listing of a folder that started within this time

log = Log(__name__)


def open_driver(settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache) -> Registry:
    """A registry of this kind. Sends nothing."""
    return YandexCloudRegistry(settings, limiter, retries, manifests)


class YandexCloudRegistry(YandexRegistry):
    """One registry. Safe to use from several threads."""

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
        self._listing: ArtifactsByFolder | None = None  # the listing of the last `repositories`
        self._complete_folders: set[str] = set()  # folders whose listing includes their own artifacts
        self._lock = threading.Lock()

    def clock(self) -> datetime:
        """See `Registry.clock`. Also raises UnsuitableError: it is no Docker registry, or stores no images itself."""

        def read(response: Response) -> datetime:
            protocol.registry(response, self._id)
            return server_time(response)

        return self.call(api.get_registry(f"{self._root}{protocol.API}/registries", self._id), read)

    # Listing

    def repositories(self) -> Iterator[str]:
        """As in the interface. Lists the whole registry, for the next `images` of each repository as well."""
        listing = self._list_all()
        with self._lock:
            self._listing = listing
        yield from listing.folders()

    def images(self, repository: str) -> tuple[Image, ...]:
        with self._lock:
            scanned = self._listing.take(repository) if self._listing else None
        if scanned is None:
            folder = self._folders.since(repository, time.monotonic())
        else:
            with self._with_request_label(repository):
                folder = Folder(repository, scanned)
        read = self._manifest_reader(repository)
        images = dict(images_of(folder, self._id))
        unknown = [
            digest
            for digest, image in images.items()
            if image.children is None and not have_conflicting_manifests(folder.artifacts(digest))
        ]
        manifests = read_through(self._manifests, unknown, read)
        images |= {digest: _with_manifest(images[digest], manifests.get(digest)) for digest in unknown}
        listed = with_known_subjects(self._manifests, tuple(images.values()), read)
        return (*listed, *self._unlisted_images(repository, listed))

    def plain_listing(self, repository: str, since: float) -> tuple[Image, ...]:
        return tuple(images_of(self._folders.since(repository, since), self._id).values())

    def _pages(self, path: str | None) -> Iterator[Sequence[WireArtifact]]:
        """The artifacts of a folder; None: of the whole registry."""
        return self.pages(
            lambda token: protocol.list_artifacts(self._root, self._id, path, token, self.page_size),
            lambda response: protocol.page(response, self._id),
            lambda row: row.id or "",
        )

    def _list_all(self) -> ArtifactsByFolder:
        listing = ArtifactsByFolder(self._id)
        with self._with_request_label("artifacts"):
            for rows in self._pages(None):
                listing.add(rows)
            listing.finish()
        if listing.ignored_counts:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(listing.ignored_counts.items()))
            log.info("artifacts_not_listed", registry_id=self._id, kinds=kinds)
        return listing

    def _read_folder(self, path: str) -> Folder:
        """The current content of a folder.

        A folder's listing may show only its subfolders. Then the listing of the whole registry decides, unless the
        folder has shown artifacts before, or the registry has shown none for it.
        """
        rows: list[WireArtifact] = [row for rows in self._pages(path) for row in rows]
        artifacts: Iterable[Artifact] = filter(None, map(protocol.to_artifact, rows))
        folders_only = bool(rows) and all(row.kind in ("FOLDER", "PACKAGE") for row in rows)
        if folders_only and path not in self._complete_folders:
            hidden = self._list_all().take(path)
            artifacts, folders_only = hidden or (), hidden is not None
        with self._with_request_label(path):
            own = [artifact for artifact in artifacts if is_in_folder(artifact.path, artifact.name, self._id, path)]
            if rows and not folders_only:
                self._complete_folders.add(path)
            return Folder(path, own)

    @contextmanager
    def _with_request_label(self, label: str) -> Iterator[None]:
        """Add the registry and the request to the errors of parsers, which know neither."""
        try:
            yield
        except RegistryError as error:
            error.registry, error.request = error.registry or self.http.registry, error.request or f"GET {label}"
            raise

    # Images without an artifact

    def _unlisted_images(self, repository: str, images: Sequence[Image]) -> Sequence[Image]:
        """Children and subjects of these images that only the Docker API has."""
        unlisted: dict[str, Image] = {}
        checked = {image.digest for image in images}
        wanted = _linked_digests(images) - checked
        while wanted:
            new = {}
            for digest, manifest in self._read_existing(repository, sorted(wanted)).items():
                if not isinstance(manifest, NotFoundError):
                    image = Image(digest=digest, name=self._full_name(repository))
                    new[digest] = _with_manifest(image, manifest if isinstance(manifest, Manifest) else None)
            unlisted |= new
            checked |= wanted
            wanted = _linked_digests(new.values()) - checked
        return tuple(unlisted.values())

    def _read_existing(self, repository: str, digests: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        """The manifests of these digests. A cached manifest is no proof that the image still exists."""
        known = self._manifests.load(digests)
        results = dict(self.manifests(repository, [digest for digest in digests if digest not in known]))
        self._manifests.save({digest: result for digest, result in results.items() if isinstance(result, Manifest)})

        def check(digest: str) -> Manifest | RegistryError:
            try:
                self._require_manifest(repository, digest)
            except RegistryError as error:
                return error
            return known[digest]

        return {**results, **call_in_threads(check, list(known), self._concurrency)}

    # One image

    def get(self, repository: str, image: Image, _known_tags: Mapping[str, str] | None = None) -> Image:
        folder = self._folders.since(repository, time.monotonic() - SHARED)
        if artifacts := folder.artifacts(image.digest):
            current = image_of(artifacts, folder.tags[image.digest], self._full_name(repository))
            # The manifest of a digest never changes.
            return replace(image, id=current.id, tags=current.tags, created_at=current.created_at)
        if image.id:
            label = f"GET {about(repository, image.digest)}"
            raise NotFoundError("no artifact has this digest", self.http.registry, label)
        self._require_manifest(repository, image.digest)  # an index lists it; it has no artifact
        return image

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        return self._deletions.delete(repository, image, idempotency_key, not_after)

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        return self._follower.follow(deletion, deadline)


def _linked_digests(images: Iterable[Image]) -> set[str]:
    """The children and subjects of images."""
    children = {child for image in images for child in image.children or ()}
    return children | {image.subject for image in images if isinstance(image.subject, str)}


def _with_manifest(image: Image, manifest: Manifest | None) -> Image:
    """The image with the facts of its manifest; `children` None: the manifest could not be read."""
    linked = resolved(image, manifest)
    if manifest is None or manifest.config is None or image.config is not None:
        return linked
    size = size_of(manifest.config, manifest.layers) if linked.children is UNSET else None
    return replace(linked, config=manifest.config, layers=manifest.layers, compressed_size=size)
