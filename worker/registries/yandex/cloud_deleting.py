"""Requests deletions in Cloud Registry, artifact by artifact; `cloud_following` follows them to their outcome."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from policies.image import Image
from worker.config.settings import RegistrySettings
from worker.registries.docker.manifests import about
from worker.registries.errors import (
    NotFoundError,
    PermissionDeniedError,
    RegistryError,
    TooLateError,
    UnsuitableError,
)
from worker.registries.http.messages import Response
from worker.registries.interface import Deletion
from worker.registries.yandex import api
from worker.registries.yandex import cloud_protocol as protocol
from worker.registries.yandex.client import YandexRegistry
from worker.registries.yandex.cloud_images import Folder, is_in_folder, tags_of
from worker.registries.yandex.cloud_listing import FolderListings
from worker.registries.yandex.cloud_protocol import Artifact

RECENT = 3.0  # seconds: a listing that started within this time is usually the one that `get` used
ROLES = "deletion needs the role cloud-registry.artifacts.pusher, or cloud-registry.admin if that is refused"


@dataclass(frozen=True, slots=True)
class CloudDeletion(Deletion):
    """A deletion in Cloud Registry, with what only the process that started it knows."""

    before: Folder | None = None  # the folder before the deletion
    ended: tuple[api.Operation, ...] = ()  # operations that ended at once
    errors: tuple[RegistryError, ...] = ()  # of deletions that were not accepted
    requested: frozenset[tuple[str, bool]] = frozenset()  # artifact ids, and whether the artifact had a tag


class ArtifactDeleter:
    """Requests the deletions of this process in one registry. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, registry: YandexRegistry, folders: FolderListings) -> None:
        self._id, self._root = settings.id, settings.endpoints.cloud_registry
        self._transitional = settings.transitional
        self._registry, self._folders = registry, folders
        self._lock = threading.Lock()
        self._suitable = False
        self._digests: dict[str, set[str]] = {}  # path of a folder -> digests of requested deletions

    def delete(self, path: str, image: Image, key: str, not_after: float | None) -> Deletion:
        """See `Registry.delete`. An image of which some artifacts were accepted for deletion counts as accepted."""
        now = time.monotonic()
        self._check_type()
        before = self._folders.since(path, now - RECENT)
        label = about(path, image.digest)
        if not before.artifacts(image.digest):
            raise NotFoundError("no artifact has this digest", self._registry.http.registry, f"DELETE {label}")
        if new := before.tags[image.digest] - set(image.tags):
            raise TooLateError(f"the image is now tagged {', '.join(sorted(new))}", self._registry.http.registry, label)
        self.requested(path).add(image.digest)
        try:
            return self._request_deletions(before, image, key, not_after)
        except RegistryError as error:
            if not error.maybe_done:
                self.requested(path).discard(image.digest)
            raise

    def _check_type(self) -> None:
        """Check the registry's type once. Raises UnsuitableError if deletions are not allowed in it."""
        with self._lock:
            if self._suitable:
                return
            request = api.get_registry(f"{self._root}{protocol.API}/registries", self._id)
            wire = self._registry.call(request, lambda response: protocol.registry(response, self._id))
            if wire.type == "TRANSITIONAL" and not self._transitional:
                raise UnsuitableError(
                    f"registry {self._id} has the type TRANSITIONAL; to delete images there, write transitional: true",
                    self._registry.http.registry,
                )
            self._suitable = True

    def requested(self, path: str) -> set[str]:
        """The live set of digests in a folder whose deletion this process requested: they may be gone at any moment.
        All threads share it: copy it before a loop. `delete` removes a digest again if nothing can have been deleted.
        """
        with self._lock:
            return self._digests.setdefault(path, set())

    def _request_deletions(self, before: Folder, image: Image, key: str, not_after: float | None) -> CloudDeletion:
        """Request the deletion of every artifact of an image. Each artifact is reread right before its request.

        After the first accepted request, a changed artifact is left out instead of stopping the deletion. Raises
        RegistryError if no request was accepted, TooLateError if the image has changed or `not_after` has passed.
        """
        path, label = before.path, about(before.path, image.digest)
        operations: list[api.Operation] = []
        missing: list[NotFoundError] = []
        errors: list[RegistryError] = []
        requested: set[tuple[str, bool]] = set()
        for artifact in sorted(
            before.artifacts(image.digest), key=lambda part: (not tags_of(part), part.name, part.id)
        ):
            first = not operations
            try:
                if change := self.change(artifact, path, image, as_listed=first):
                    self._folders.forget(path)  # the next read must see the change
                    if not first:
                        continue
                    maybe_done = any(error.maybe_done for error in missing)
                    raise TooLateError(change, self._registry.http.registry, f"DELETE {label}", maybe_done=maybe_done)
                operation = self.delete_artifact(artifact, f"{key}/{artifact.id}", label, not_after if first else None)
            except NotFoundError as error:
                missing.append(error)
                continue
            except RegistryError as error:
                if first:
                    raise
                errors.append(error)
                break
            operations.append(operation)
            requested.add((artifact.id, bool(tags_of(artifact))))
        if not operations:
            raise self._error_of_no_request(before, image, missing)
        return CloudDeletion(
            ",".join(operation.id or "" for operation in operations),
            done=False,
            target=(path, image),
            before=before,
            ended=tuple(operation for operation in operations if operation.done),
            errors=(*missing, *errors),
            requested=frozenset(requested),
        )

    def change(self, artifact: Artifact, path: str, image: Image, *, as_listed: bool = False) -> str:
        """Reread an artifact: why it must not be deleted with this image; "" if it may be.

        A moved tag may keep its artifact's id, so the id does not prove what the deletion removes. `as_listed`: refuse
        a modified artifact too. Raises RegistryError: NotFoundError if the artifact is deleted or being deleted.
        """
        label = about(path, image.digest)
        request = protocol.get_artifact(self._root, artifact.id, label)

        def read(response: Response) -> str:
            now = protocol.parse_artifact(response, artifact.id)
            if now is None:
                return f"{artifact.name} is no longer an image, or is being pushed"
            if not is_in_folder(now.path, now.name, self._id, path):
                return f"{artifact.name} is now in {now.path}"
            return _change(artifact, now, image, as_listed=as_listed)

        return self._registry.call(request, read)

    def delete_artifact(
        self, artifact: Artifact, key: str, label: str, not_after: float | None = None
    ) -> api.Operation:
        """Request the deletion of one artifact. Raises RegistryError, with `maybe_done`."""
        request = protocol.delete_artifact(self._root, artifact.id, label, str(uuid5(NAMESPACE_URL, key)), not_after)
        try:
            return self._registry.start_deletion(request, artifact.id)
        except PermissionDeniedError as error:
            error.message = f"{error.message}; {ROLES}"
            raise

    def _error_of_no_request(self, before: Folder, image: Image, missing: Sequence[NotFoundError]) -> RegistryError:
        """The error if every artifact was missing: a registry may answer "not found" instead of "forbidden"."""
        first = missing[0]
        first.maybe_done = any(error.maybe_done for error in missing)
        current = self._folders.since(before.path, time.monotonic()).artifacts(image.digest)
        before_ids = {artifact.id for artifact in before.artifacts(image.digest)}
        if first.maybe_done or before_ids.isdisjoint(artifact.id for artifact in current):
            return first
        return PermissionDeniedError(
            f"{first.message}, although the registry lists it: {ROLES}", first.registry, first.request, first.status
        )


def _change(listed: Artifact, now: Artifact, image: Image, *, as_listed: bool) -> str:
    """How an artifact changed since its listing, as far as the deletion of this image is concerned; "": it did not."""
    if now.broken:
        return f"{listed.name} cannot be read: {now.broken}"
    if now.digest != image.digest:
        return f"{listed.name} now has the digest {now.digest}"
    if now.name != listed.name:
        return f"{listed.name} is now named {now.name}"
    if new := set(tags_of(now)) - set(image.tags):
        return f"the image is now tagged {', '.join(sorted(new))}"
    if as_listed and (now.created_at, now.modified_at) != (listed.created_at, listed.modified_at):
        return f"{listed.name} was modified at {now.modified_at or now.created_at}"
    return ""
