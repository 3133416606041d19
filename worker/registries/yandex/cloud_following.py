"""Follows the deletion of a Cloud Registry image to its end, then lists the folder to see the effect.

The vendor does not document what the deletion of an artifact removes (its tag, or the manifest with all its tags), nor
whether the deletion of the last tag leaves an untagged artifact. So only a listing after the operations is trusted.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from policies.image import Image
from worker.registries.docker.manifests import about
from worker.registries.errors import (
    MaybeProtectedError,
    NotFoundError,
    OperationFailedError,
    OperationUnknownError,
    ProtectedError,
    RegistryError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.http.loops import FIRST_POLL, LONGEST_POLL
from worker.registries.interface import Deletion
from worker.registries.yandex import api
from worker.registries.yandex.client import YandexRegistry
from worker.registries.yandex.cloud_deleting import ArtifactDeleter, CloudDeletion
from worker.registries.yandex.cloud_images import Folder
from worker.registries.yandex.cloud_listing import FolderListings
from worker.registries.yandex.cloud_protocol import Artifact


@dataclass(frozen=True, slots=True)
class DeletionEffect:
    """What is left of an image after its deletion, and which tags were removed or moved besides."""

    artifacts: Sequence[Artifact]  # of the digest
    tags: tuple[str, ...]  # planned tags that are still on the image
    new_tags: tuple[str, ...]  # tags on the image that were not planned
    pushed_again: bool  # an artifact is newer than the planned image
    raced: tuple[str, ...]  # planned tags that now name another image
    collateral_tags: tuple[str, ...]  # tags of other images (untagged children: digests) that are gone


class DeletionFollower:
    """Follows the deletions of one registry, started by any process. Safe to use from several threads."""

    def __init__(self, registry: YandexRegistry, folders: FolderListings, deletions: ArtifactDeleter) -> None:
        self._registry, self._folders, self._deletions = registry, folders, deletions

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        """See `Registry.follow`."""
        if deletion.done:
            return deletion
        started = deletion
        if not isinstance(started, CloudDeletion):  # another process started it
            started = CloudDeletion(deletion.operation_id, done=False, target=deletion.target)
        try:
            return self._result(started, deadline) or deletion
        except UnavailableError as error:
            if time.monotonic() < deadline or error.collateral_tags:
                raise
            return deletion

    def _result(self, deletion: CloudDeletion, deadline: float) -> Deletion | None:
        """The completed deletion; None: the outcome is still unknown. Raises the error of a failed deletion."""
        errors = self._operation_errors(deletion, deadline)
        if errors is None:
            return None
        if deletion.target is None:
            unknown = ("the image that it was about is unknown", self._registry.http.registry)
            raise next(iter(errors), OperationUnknownError(*unknown, maybe_done=True))
        requested, wait = set(deletion.requested), FIRST_POLL
        path, image = deletion.target
        while True:
            effect = self._read_effect(deletion, path, image)
            if not effect.artifacts:
                missing = [error for error in errors if isinstance(error, NotFoundError)]
                if missing and len(missing) == len(deletion.operation_id.split(",")) + len(deletion.errors):
                    missing[-1].collateral_tags = effect.collateral_tags
                    raise missing[-1]  # another client deleted it first
                result = Deletion(deletion.operation_id, done=True, raced=effect.raced, target=deletion.target)
                return replace(result, collateral_tags=effect.collateral_tags)
            if (error := self._failure(image, effect, errors)) is not None:
                error.collateral_tags = effect.collateral_tags
                raise error
            if leftovers := untagged_leftovers(image, effect, requested):
                if not self._delete_leftovers(deletion, path, image, leftovers, errors, requested, deadline):
                    return None
            elif time.monotonic() >= deadline:
                return None
            else:
                time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
                wait = min(wait * 2, LONGEST_POLL)

    def _operation_errors(self, deletion: CloudDeletion, deadline: float) -> list[RegistryError] | None:
        """The errors of the operations; None: some have not ended."""
        known = {operation.id: operation for operation in deletion.ended}
        errors = list(deletion.errors)
        for operation_id in deletion.operation_id.split(","):
            try:
                operation = known.get(operation_id) or self._registry.wait_for_operation(operation_id, deadline)
            except OperationUnknownError as error:
                errors.append(error)
                continue
            if operation is None:
                return None
            if (failed := self._registry.operation_failure(operation, f"GET operation {operation_id}")) is not None:
                errors.append(failed)
        return errors

    def _read_effect(self, deletion: CloudDeletion, path: str, image: Image) -> DeletionEffect:
        try:
            after = self._folders.since(path, time.monotonic())
        except NotFoundError:
            after = Folder(path, ())  # a folder may disappear with its last artifact
        except RegistryError as error:
            error.maybe_done = True
            raise
        return effect_of(image, deletion.before, after, self._deletions.requested(path).copy())

    def _failure(self, image: Image, effect: DeletionEffect, errors: Sequence[RegistryError]) -> RegistryError | None:
        """Why a remaining image will not be deleted; None: it may still be deleted."""
        if effect.new_tags or effect.pushed_again:
            what = f"tagged {', '.join(effect.new_tags)}" if effect.new_tags else "pushed again"
            words = f"the image still exists: it was {what} during the deletion"
            return OperationFailedError(words, self._registry.http.registry, about("", image.digest))
        error = next((failed for failed in errors if not isinstance(failed, NotFoundError)), None)
        if error is None or isinstance(error, OperationUnknownError) or set(effect.tags) == set(image.tags):
            return error
        gone, left = sorted(set(image.tags) - set(effect.tags)), effect.tags or ("its manifest",)
        # These errors would say that the whole image was left.
        untouched = isinstance(error, UsedByImageListsError | ProtectedError | MaybeProtectedError)
        kind = OperationFailedError if untouched else type(error)
        words = f"deleted {', '.join(gone)}, but not {', '.join(left)}: {error.message}"
        return kind(words, error.registry, error.request, error.status, error.request_id, error.maybe_done)

    def _delete_leftovers(
        self,
        deletion: CloudDeletion,
        path: str,
        image: Image,
        leftovers: Sequence[Artifact],
        errors: list[RegistryError],
        requested: set[tuple[str, bool]],
        deadline: float,
    ) -> bool:
        """Delete the untagged artifacts that the last tag left behind; False: a deletion has not ended."""
        for artifact in leftovers:
            requested.add((artifact.id, False))
            try:
                if self._deletions.change(artifact, path, image):
                    continue  # the next listing shows its state
                key = f"{deletion.operation_id}/{artifact.id}/untagged"
                operation: api.Operation | None = self._deletions.delete_artifact(artifact, key, artifact.digest)
                if operation is not None and not operation.done:
                    operation = self._registry.wait_for_operation(operation.id or "", deadline)
            except NotFoundError:
                continue
            except RegistryError as error:
                errors.append(error)
                continue
            if operation is None:
                return False
            if (failed := self._registry.operation_failure(operation, f"DELETE {artifact.digest}")) is not None:
                errors.append(failed)
        return True


def effect_of(image: Image, before: Folder | None, after: Folder, requested: Collection[str] = ()) -> DeletionEffect:
    """The effect of a deletion, from listings before (None: unknown) and after it.

    `requested`: digests whose deletion was requested too: they may be gone.
    """
    now = after.tags.get(image.digest, set())
    owner = {tag: digest for digest, tags in after.tags.items() for tag in tags}
    return DeletionEffect(
        artifacts=after.artifacts(image.digest),
        tags=tuple(sorted(now & set(image.tags))),
        new_tags=tuple(sorted(now - set(image.tags))),
        pushed_again=any(not _is_not_newer(part, image) for part in after.artifacts(image.digest) if part.created_at),
        raced=tuple(sorted(tag for tag in image.tags if owner.get(tag, image.digest) != image.digest)),
        collateral_tags=_collateral_tags(image, before, after, requested) if before is not None else (),
    )


def untagged_leftovers(
    image: Image, effect: DeletionEffect, requested: Collection[tuple[str, bool]]
) -> Sequence[Artifact]:
    """Untagged artifacts that the deletion of the last tag left, and whose own deletion was not requested yet.

    `requested`: artifact ids, and whether the artifact had a tag; empty: another process requested the whole image.
    """
    if effect.tags:
        return ()
    known = requested or {(part.id, bool(image.tags)) for part in effect.artifacts}
    return [part for part in effect.artifacts if (part.id, False) not in known and _is_not_newer(part, image)]


def _is_not_newer(artifact: Artifact, image: Image) -> bool:
    """Whether an artifact is certainly no newer than the image. A newer one was pushed during the deletion."""
    times = (artifact.created_at, image.created_at)
    return times[0] is not None and times[1] is not None and times[0] <= times[1]


def _collateral_tags(image: Image, before: Folder, after: Folder, requested: Collection[str]) -> tuple[str, ...]:
    """Names of other images that are gone. An untagged image counts only if the deleted index lists it."""
    there = {tag for tags in after.tags.values() for tag in tags} | after.by_digest.keys()
    below = before.below(image.digest)
    return tuple(
        sorted(
            name
            for name, digest in before.names(without=image.digest).items()
            if name not in there and digest not in requested and (name != digest or digest in below)
        )
    )
