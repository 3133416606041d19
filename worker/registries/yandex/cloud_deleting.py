"""Asks for deletions in Cloud Registry, artifact by artifact; `cloud_following` sees what becomes of them."""

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
from worker.registries.yandex.cloud_images import Folder, in_folder, tags_of
from worker.registries.yandex.cloud_listing import FolderListings
from worker.registries.yandex.cloud_protocol import Artifact

READ_LATELY = 3.0  # seconds: a listing that was begun no longer ago is what `get` has read, as a rule
ROLES = "deleting needs the role cloud-registry.artifacts.pusher, and cloud-registry.admin if that is refused"


@dataclass(frozen=True, slots=True)
class StartedDeletion(Deletion):
    """A deletion as the process knows it that began it."""

    before: Folder | None = None  # the folder as it was
    ended: tuple[api.Operation, ...] = ()  # operations that were at their end at once
    errors: tuple[RegistryError, ...] = ()  # of artifacts whose deletion was not accepted
    asked: frozenset[tuple[str, bool]] = frozenset()  # artifacts by id, and whether they had a tag


class ArtifactDeleter:
    """The deletions of one registry that this process asks for. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, registry: YandexRegistry, folders: FolderListings) -> None:
        self._id, self._root = settings.id, settings.endpoints.cloud_registry
        self._transitional = settings.transitional
        self._registry, self._folders = registry, folders
        self._lock = threading.Lock()
        self._suitable = False
        self._digests: dict[str, set[str]] = {}  # by path

    def delete(self, path: str, image: Image, key: str, not_after: float | None) -> Deletion:
        """As the interface has it. What is accepted of an image is followed, whatever became of the rest."""
        began = time.monotonic()
        self._insist()
        before = self._folders.since(path, began - READ_LATELY)
        label = about(path, image.digest)
        if not before.of(image.digest):
            raise NotFoundError("no artifact has this digest", self._registry.http.registry, f"DELETE {label}")
        if new := before.tags[image.digest] - set(image.tags):
            raise TooLateError(f"it is tagged {', '.join(sorted(new))} by now", self._registry.http.registry, label)
        self._going(path).add(image.digest)
        try:
            return self._ask_for(before, image, key, not_after)
        except RegistryError as error:
            if not error.maybe_done:
                self._going(path).discard(image.digest)
            raise

    def _insist(self) -> None:
        """Raises UnsuitableError for a registry in which nothing may be deleted; asked once."""
        with self._lock:
            if self._suitable:
                return
            request = protocol.get_registry(self._root, self._id)
            found = self._registry.call(request, lambda response: protocol.registry(response, self._id))
            if found.type == "TRANSITIONAL" and not self._transitional:
                raise UnsuitableError(
                    f"registry {self._id} is of the type TRANSITIONAL: nothing is deleted there unless the file says"
                    " transitional: true",
                    self._registry.http.registry,
                )
            self._suitable = True

    def going(self, path: str) -> frozenset[str]:
        """Digests of a folder whose deletion was asked for here: they may be gone at any moment."""
        return frozenset(self._going(path).copy())

    def _going(self, path: str) -> set[str]:
        with self._lock:
            return self._digests.setdefault(path, set())

    def _ask_for(self, before: Folder, image: Image, key: str, not_after: float | None) -> StartedDeletion:
        """Once the first artifact was asked for, the others are as well, if they are still what they were.

        Raises RegistryError where nothing at all was accepted, TooLateError where what was read has grown too old.
        """
        path, label = before.path, about(before.path, image.digest)
        operations: list[api.Operation] = []
        missing: list[NotFoundError] = []
        errors: list[RegistryError] = []
        asked: set[tuple[str, bool]] = set()
        for artifact in sorted(before.of(image.digest), key=lambda one: (not tags_of(one), one.name, one.id)):
            first = not operations
            try:
                if change := self.change(artifact, path, image, as_listed=first):
                    self._folders.forget(path)  # whoever looks again is to see it
                    if not first:
                        continue
                    doubt = any(error.maybe_done for error in missing)
                    raise TooLateError(change, self._registry.http.registry, f"DELETE {label}", maybe_done=doubt)
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
            asked.add((artifact.id, bool(tags_of(artifact))))
        if not operations:
            raise self._nothing_accepted(before, image, missing)
        return StartedDeletion(
            ",".join(operation.id or "" for operation in operations),
            done=False,
            target=(path, image),
            before=before,
            ended=tuple(operation for operation in operations if operation.done),
            errors=(*missing, *errors),
            asked=frozenset(asked),
        )

    def change(self, artifact: Artifact, path: str, image: Image, *, as_listed: bool = False) -> str:
        """What speaks against deleting an artifact as part of this image, looked at once more; "": nothing does.

        A tag that has moved on may be the same artifact, so an id says nothing of what goes with it. `as_listed`: it
        may not have been modified either. Raises NotFoundError for what is gone or going, and any other RegistryError.
        """
        label = about(path, image.digest)
        request = protocol.get_artifact(self._root, artifact.id, label)

        def read(response: Response) -> str:
            now = protocol.one_artifact(response, artifact.id)
            if now is None:
                return f"{artifact.name} is no image by now, or is being pushed"
            if not in_folder(now.path, now.name, self._id, path):
                return f"{artifact.name} lies in {now.path} by now"
            return _change(artifact, now, image, as_listed=as_listed)

        return self._registry.call(request, read)

    def delete_artifact(
        self, artifact: Artifact, key: str, label: str, not_after: float | None = None
    ) -> api.Operation:
        """Raises RegistryError, with `maybe_done`."""
        request = protocol.delete_artifact(self._root, artifact.id, label, str(uuid5(NAMESPACE_URL, key)), not_after)
        try:
            return self._registry.deletion(request, artifact.id)
        except PermissionDeniedError as error:
            error.message = f"{error.message}; {ROLES}"
            raise

    def _nothing_accepted(self, before: Folder, image: Image, missing: Sequence[NotFoundError]) -> RegistryError:
        """What it means that no artifact was found: a registry may hide what it does not allow."""
        first = missing[0]
        first.maybe_done = any(error.maybe_done for error in missing)
        there = {one.id for one in self._folders.since(before.path, time.monotonic()).of(image.digest)}
        if first.maybe_done or there.isdisjoint(one.id for one in before.of(image.digest)):
            return first
        return PermissionDeniedError(
            f"{first.message}, though it is listed: {ROLES}", first.registry, first.request, first.status
        )


def _change(listed: Artifact, now: Artifact, image: Image, *, as_listed: bool) -> str:
    """What became of an artifact since it was listed, as far as it matters for the image it is to be deleted with."""
    if now.broken:
        return f"{listed.name} cannot be read: {now.broken}"
    if now.digest != image.digest:
        return f"{listed.name} is {now.digest} by now"
    if now.name != listed.name:
        return f"{listed.name} is named {now.name} by now"
    if new := set(tags_of(now)) - set(image.tags):
        return f"it is tagged {', '.join(sorted(new))} by now"
    if as_listed and (now.created_at, now.modified_at) != (listed.created_at, listed.modified_at):
        return f"{listed.name} was modified at {now.modified_at or now.created_at}"
    return ""
