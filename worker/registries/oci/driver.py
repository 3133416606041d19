"""Any registry that speaks the OCI distribution specification: lists, reads, deletes and restores images.

A deletion goes by digest, never by tag, and what became of it is looked at: the registry's word alone is not enough.
"""

import dataclasses
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from urllib.parse import urlsplit

from msgspec.structs import replace as changed

from policies.image import Image
from policies.patterns import Patterns
from worker.config.settings import RegistrySettings, namespace_of
from worker.registries.docker import manifests
from worker.registries.docker.manifests import about
from worker.registries.errors import (
    NotFoundError,
    OperationUnknownError,
    RateLimitedError,
    RegistryError,
    TagsStillServedError,
    UnavailableError,
    UnservedNameError,
    UsedByImageListsError,
)
from worker.registries.http.client import HttpDriver
from worker.registries.http.loops import polls
from worker.registries.http.messages import Request, Response, Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.interface import Deletion, ManifestCache, Registry, SavedManifest
from worker.registries.oci import blobs, deletion, protocol
from worker.registries.oci.client import Client
from worker.registries.oci.current_tags import CurrentTags
from worker.registries.oci.listing import Listing
from worker.text import one_line

DELETE_SECONDS = 25.0  # of the 30 s of one image: the server reads all tags of the repository
GLOB = frozenset("*?[\\")


def open_driver(settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache) -> Registry:
    """A driver for this kind. Sends no request."""
    return Oci(settings, limiter, retries, manifests)


@dataclasses.dataclass(frozen=True, slots=True)
class StartedDeletion:
    """A deletion that was sent: the tags of the image, and all tags of the repository before it."""

    tags: tuple[str, ...] = ()
    before: frozenset[str] = frozenset()


class Oci(HttpDriver):
    """The driver of one registry. Safe to use from several threads."""

    def __init__(
        self, settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache
    ) -> None:
        self._globs = settings.repositories
        self._ignored = settings.ignore_unreadable
        self._configs = settings.push_time == "image"  # only push times need configs: no condition has labels
        self._host = "/".join(filter(None, (urlsplit(settings.url).netloc, namespace_of(settings.url))))
        self._manifests = manifests
        self._client = Client(settings, limiter, retries)
        super().__init__(self._client.http)
        self.read_errors: dict[str, str] = {}  # digest -> why the manifest could not be read
        self._listed: frozenset[str] | None = None  # the catalog, once it was read
        self._few = int(settings.rate.requests_per_second)  # tags that can be resolved in a second
        self._tags_by_repository: dict[str, CurrentTags] = {}  # by repository
        self._started: dict[str, StartedDeletion] = {}  # by operation
        self._lock = threading.Lock()

    def clock(self) -> datetime:
        return self._client.time()

    def repositories(self) -> Iterator[str]:
        """As in the interface. Paths that are all configured without wildcards need no request; they may not exist.
        Otherwise raises NotFoundError if there is no catalog. A glob whose credentials were refused is yielded like a
        path; `images` then raises the refusal.
        """
        if self._globs and not any(GLOB.intersection(text) for text in self._globs):
            yield from sorted(self._globs)  # every repository is named, so no catalog is needed
            return
        match = Patterns(self._globs or ("**",), paths=True).match
        listed = {path for path in self._catalog(needed=True) if match(path) is not None}
        yield from sorted(listed | self._client.refused.keys())  # a refused glob is an unreadable repository

    def images(self, repository: str) -> tuple[Image, ...]:
        return self.relist(repository, {})

    def relist(self, repository: str, known: Mapping[str, Image]) -> tuple[Image, ...]:
        if refused := self._client.refused.get(repository):
            raise refused
        tags = self._tags_of(repository)
        if tags is None and repository not in self._catalog():
            raise self._not_found("the registry does not know this repository", f"GET {repository}")
        listing = Listing(self._client, self._manifests, self._host, repository, configs=self._configs, known=known)
        try:
            return listing.images(tags or ())  # no tags: empty, or pushed to by digest only
        finally:
            self.read_errors |= listing.read_errors

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None) -> Image:
        label = f"HEAD {about(repository, image.digest)}"
        if self._client.resolve(repository, image.digest, seen=True) is None:
            self._check_no_tag_serves(repository, image.digest, image.tags)
            raise self._not_found("HTTP 404: no such manifest", label)
        named = self._client.tag_digests(repository, image.tags)
        known = known_tags or {}
        others = self._current_tags(repository).tag_digests(frozenset({*known, *image.tags}))
        if known:
            self._check_nothing_needs(repository, image, others, known)
        named |= {tag: digest for tag, digest in others.items() if tag not in image.tags}
        tags = tuple(sorted(tag for tag, digest in named.items() if digest == image.digest))
        return changed(image, tags=image.tags if set(tags) == set(image.tags) else tags)

    def delete(
        self, repository: str, image: Image, _idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        """As in the interface. The key is not needed: a second deletion of a digest has no effect."""
        operation = f"{repository}@{image.digest}"
        self._started[operation] = StartedDeletion(image.tags, self._current_tags(repository).last())
        try:
            root, tags = self._client.root, image.tags
            request = deletion.delete_manifest(self._client.api, repository, image.digest, DELETE_SECONDS, not_after)
            self._client.call(
                request,
                lambda response: deletion.check_deletion(response, root, repository, tags),
                repository,
                "delete",
            )
        except RegistryError as error:
            if isinstance(error, NotFoundError):
                self._check_no_tag_serves(repository, image.digest, image.tags)
            # Whatever the error: a server may have deleted the image and then failed on one of its tags.
            if not error.maybe_done or not self._is_gone(repository, image.digest):
                raise
        try:
            state = self._read_state(operation)
        except RegistryError:
            return Deletion(operation, done=False)  # accepted; `follow` reads its state
        return dataclasses.replace(state, operation_id="") if state.done else state  # done at once: nothing to follow

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        if deletion.target is not None and not deletion.done:  # another process may have sent it
            repository, image = deletion.target
            deletion = dataclasses.replace(deletion, operation_id=f"{repository}@{image.digest}")
            self._started.setdefault(deletion.operation_id, StartedDeletion(image.tags))
        for _ in () if deletion.done else polls(deadline):
            try:
                deletion = self._read_state(deletion.operation_id)
            except RegistryError as error:
                if isinstance(error, UnavailableError) and time.monotonic() >= deadline:
                    return deletion
                error.maybe_done = True
                raise
            if deletion.done:
                break
        return deletion

    def existing(self, repository: str, digests: Iterable[str]) -> frozenset[str]:
        resolved = self._client.call_in_threads(
            lambda digest: self._client.resolve(repository, digest, seen=True), digests
        )
        return frozenset(digest for digest, manifest in resolved.items() if manifest is not None)

    def was_challenged(self) -> bool:
        return any(sign_in.challenged for sign_in in self._client.sign_ins.all)

    def share_credentials(self, first: str, second: str) -> bool:
        return self._client.sign_ins.sign_in_for(first) is self._client.sign_ins.sign_in_for(second)

    def allows_deletion(self, repository: str, digest: str) -> bool | None:
        request = manifests.manifest_request("OPTIONS", self._client.api, repository, digest)
        return self._client.call(request, deletion.allows_deletion, repository)

    # Restoring.

    def save(self, repository: str, digest: str) -> SavedManifest:
        fetched = self._client.fetch(repository, digest)
        return SavedManifest(digest, fetched.media_type, fetched.body)

    def resolve_tag(self, repository: str, tag: str) -> str | None:
        manifest = self._client.resolve(repository, tag)
        return None if manifest is None else manifest.digest

    def push_manifest(self, repository: str, manifest: SavedManifest, tag: str = "") -> None:
        reference = tag or manifest.digest
        request = blobs.put_manifest(self._client.api, repository, reference, manifest.media_type, manifest.body)
        self._client.call(
            request, lambda response: blobs.check_pushed(response, manifest.digest), repository, "pull,push"
        )

    def missing_blobs(self, repository: str, digests: Iterable[str]) -> tuple[str, ...]:
        served = self._client.call_in_threads(lambda digest: self._client.serves_blob(repository, digest), digests)
        return tuple(digest for digest, is_served in served.items() if not is_served)

    def mount(self, repository: str, blob: str, source: str) -> bool:
        full = "/".join(filter(None, (self._client.namespace, source)))
        request = blobs.mount_blob(self._client.api, repository, blob, full)

        def read(response: Response) -> tuple[bool, Request | None]:
            return blobs.was_mounted(response), blobs.cancel_upload(request, response)

        mounted, cancellation = self._client.call(request, read, repository, "pull,push", source)
        if cancellation is not None:
            with suppress(RegistryError):  # otherwise the upload expires
                self._client.call(cancellation, protocol.accepted, repository, "delete")
        return mounted

    def _tags_of(self, repository: str) -> tuple[str, ...] | None:
        """As Client.tags. Raises UnservedNameError: the name is the reason. Raises any other RegistryError."""
        name = one_line(repository, 100)
        if not protocol.is_name(repository):
            message = f"the catalog lists an invalid repository name: {name!r}"
            raise UnservedNameError(message, self._client.http.registry, "GET /v2/_catalog")
        try:
            return self._client.tags(repository)
        except RegistryError as error:
            allowed = protocol.STANDARD_NAME.fullmatch(repository) is not None
            if error.systemic or isinstance(error, RateLimitedError) or allowed:
                raise
            message = f"no specification allows the repository name {name!r}, and its tags cannot be listed: "
            message += error.message
            raise UnservedNameError(message, error.registry, error.request, error.status, error.request_id) from error

    def _catalog(self, *, needed: bool = False) -> frozenset[str]:
        """All repositories that the registry lists; empty if it has no catalog. Raises RegistryError."""
        with self._lock:
            if self._listed is None:
                listed = self._client.catalog()
                if listed is None and needed:
                    remedy = "name each of them under repositories, without * and ?"
                    raise self._not_found(
                        f"the registry does not list its repositories, or not to us; {remedy}",
                        "GET /v2/_catalog",
                    )
                if listed is None:
                    return frozenset()
                self._listed = frozenset(listed)
            return self._listed

    def _current_tags(self, repository: str) -> CurrentTags:
        with self._lock:
            if repository not in self._tags_by_repository:
                self._tags_by_repository[repository] = CurrentTags(self._client, self._manifests, repository, self._few)
            return self._tags_by_repository[repository]

    def _check_nothing_needs(
        self, repository: str, image: Image, others: Mapping[str, str], known: Mapping[str, str]
    ) -> None:
        """Raises UsedByImageListsError: an image that was pushed since the plan needs it. Raises any RegistryError."""
        around = self._current_tags(repository)
        for tag, digest in others.items():
            if digest in (image.digest, known.get(tag), *self._ignored) or tag in image.tags:
                continue
            if image.digest in around.below(digest) or around.refers(tag, digest, image.digest):
                raise UsedByImageListsError(f"{tag}, which was pushed since the plan, needs it")

    def _check_no_tag_serves(self, repository: str, digest: str, tags: Iterable[str]) -> None:
        """Raises TagsStillServedError: a tag serves a digest that does not exist. Raises any other RegistryError."""
        if error := self._tags_still_served(repository, digest, self._client.tag_digests(repository, tags)):
            raise error

    def _tags_still_served(self, repository: str, digest: str, named: Mapping[str, str]) -> TagsStillServedError | None:
        """The error of a missing digest that these tags name; None: no tag names it, or it exists now."""
        serving = sorted(tag for tag, other in named.items() if other == digest)
        if not serving or self._client.resolve(repository, digest, seen=True) is not None:
            return None
        return TagsStillServedError(
            f"HTTP 404, but {one_line(', '.join(serving), 200)} still serves it: this registry keeps the tags"
            " of deleted images, so no image can be deleted by its digest; set mode: dry-run",
            self._client.http.registry,
            f"HEAD {about(repository, digest)}",
        )

    def _collateral_tags(self, repository: str, started: StartedDeletion) -> tuple[str, ...]:
        """The tags of other images that no longer exist: they were moved to the image during its deletion."""
        if not (expected := started.before - frozenset(started.tags)):
            return ()
        try:
            remaining = self._current_tags(repository).since(time.monotonic())
        except RegistryError:
            return ()  # the next recheck compares all tags
        return tuple(sorted(expected - remaining))

    def _is_gone(self, repository: str, digest: str) -> bool:
        try:
            return self._client.resolve(repository, digest, seen=True) is None
        except RegistryError:
            return False  # unknown

    def _read_state(self, operation: str) -> Deletion:
        """The state of a deletion, by its digest and its former tags. Raises RegistryError."""
        repository, separator, digest = operation.partition("@")
        if not separator:
            raise OperationUnknownError(f"no deletion has the id {operation!r}", self._client.http.registry)
        if self._client.resolve(repository, digest, seen=True) is not None:
            return Deletion(operation, done=False)
        started = self._started.get(operation, StartedDeletion())
        named = self._client.tag_digests(repository, started.tags)
        raced = tuple(sorted(tag for tag, other in named.items() if other != digest))
        if digest in named.values():
            return Deletion(
                operation, done=False, raced=raced, failing=self._tags_still_served(repository, digest, named)
            )
        return Deletion(operation, done=True, raced=raced, collateral_tags=self._collateral_tags(repository, started))

    def _not_found(self, message: str, request: str) -> NotFoundError:
        return NotFoundError(message, self._client.http.registry, request)
