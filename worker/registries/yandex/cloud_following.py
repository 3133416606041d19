"""Follows the deletion of an image of Cloud Registry to its end, and then looks at what really went.

What goes with an artifact (its tag, or the manifest with all its tags), and whether an untagged artifact is left when
the last tag goes, is not documented. So nothing is believed but a listing of the folder after the operations.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

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
from worker.registries.yandex.cloud_deleting import ArtifactDeleter, StartedDeletion
from worker.registries.yandex.cloud_images import Folder
from worker.registries.yandex.cloud_listing import FolderListings
from worker.registries.yandex.cloud_protocol import Artifact


@dataclass(frozen=True, slots=True)
class DeletionEffect:
    """What is left of an image, and what went or moved beside it."""

    artifacts: Sequence[Artifact]  # of its digest
    tags: tuple[str, ...]  # of the image as it was planned, still on it
    new_tags: tuple[str, ...]  # on it, and not planned
    pushed_again: bool  # some artifact is younger than the image was
    raced: tuple[str, ...]  # of the image as it was planned, on another by now
    collateral_tags: tuple[str, ...]  # tags, and digests of untagged children, of other images that are gone


class DeletionFollower:
    """The deletions of one registry, whoever has asked for them. Safe to use from several threads."""

    def __init__(self, registry: YandexRegistry, folders: FolderListings, deletions: ArtifactDeleter) -> None:
        self._registry, self._folders, self._deletions = registry, folders, deletions

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        """As the interface has it."""
        if deletion.done:
            return deletion
        begun = (
            deletion
            if isinstance(deletion, StartedDeletion)
            else StartedDeletion(deletion.operation_id, done=False, target=deletion.target)
        )
        try:
            found = self._followed(begun, deadline)
        except UnavailableError as error:
            if time.monotonic() < deadline or error.collateral_tags:
                raise
            found = None
        return found or deletion

    def _followed(self, begun: StartedDeletion, deadline: float) -> Deletion | None:
        """None: it is not known yet how it ended."""
        errors = self._ended(begun, deadline)
        if errors is None:
            return None
        if begun.target is None:
            unknown = ("what it was about is not known", self._registry.http.registry)
            raise next(iter(errors), OperationUnknownError(*unknown, maybe_done=True))
        asked, wait = set(begun.asked), FIRST_POLL
        while True:
            path, image = begun.target
            left = self._left(begun, path, image)
            if not left.artifacts:
                return self._gone(begun, left, errors)
            if (error := self._failure(image, left, errors)) is not None:
                error.collateral_tags = left.collateral_tags
                raise error
            if rest := untagged_leftovers(image, left, asked):
                if not self._delete_rest(begun, path, image, rest, errors, asked, deadline):
                    return None
            elif time.monotonic() >= deadline:
                return None
            else:
                time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
                wait = min(wait * 2, LONGEST_POLL)

    def _ended(self, begun: StartedDeletion, deadline: float) -> list[RegistryError] | None:
        """What the operations did not do; None: they have not all ended."""
        known = {operation.id: operation for operation in begun.ended}
        errors = list(begun.errors)
        for operation_id in begun.operation_id.split(","):
            try:
                operation = known.get(operation_id) or self._registry.ended(operation_id, deadline)
            except OperationUnknownError as error:
                errors.append(error)
                continue
            if operation is None:
                return None
            if (failed := self._registry.failure(operation, f"GET operation {operation_id}")) is not None:
                errors.append(failed)
        return errors

    def _left(self, begun: StartedDeletion, path: str, image: Image) -> DeletionEffect:
        try:
            after = self._folders.since(path, time.monotonic())
        except NotFoundError:
            after = Folder(path, ())  # with its last artifact a folder may go
        except RegistryError as error:
            error.maybe_done = True
            raise
        return effect_of(image, begun.before, after, self._deletions.going(path))

    def _gone(self, begun: StartedDeletion, left: DeletionEffect, errors: Sequence[RegistryError]) -> Deletion:
        missing = [error for error in errors if isinstance(error, NotFoundError)]
        if missing and len(missing) == len(begun.operation_id.split(",")) + len(begun.errors):
            missing[-1].collateral_tags = left.collateral_tags
            raise missing[-1]  # somebody else was faster
        return Deletion(
            begun.operation_id, done=True, raced=left.raced, collateral_tags=left.collateral_tags, target=begun.target
        )

    def _failure(self, image: Image, left: DeletionEffect, errors: Sequence[RegistryError]) -> RegistryError | None:
        """Why an image that is still there will not go; None: it may yet."""
        if left.new_tags or left.pushed_again:
            what = f"tagged {', '.join(left.new_tags)}" if left.new_tags else "pushed again"
            words = f"it is still there: it was {what} meanwhile"
            return OperationFailedError(words, self._registry.http.registry, about("", image.digest))
        error = next((one for one in errors if not isinstance(one, NotFoundError)), None)
        if error is None or isinstance(error, OperationUnknownError) or set(left.tags) == set(image.tags):
            return error
        gone, there = sorted(set(image.tags) - set(left.tags)), left.tags or ("its manifest",)
        # These are said of images that stay whole.
        spared = isinstance(error, UsedByImageListsError | ProtectedError | MaybeProtectedError)
        kind = OperationFailedError if spared else type(error)
        words = f"only {', '.join(gone)} went, {', '.join(there)} stayed: {error.message}"
        return kind(words, error.registry, error.request, error.status, error.request_id, error.maybe_done)

    def _delete_rest(
        self,
        begun: StartedDeletion,
        path: str,
        image: Image,
        rest: Sequence[Artifact],
        errors: list[RegistryError],
        asked: set[tuple[str, bool]],
        deadline: float,
    ) -> bool:
        """Delete what the last tag has left of an image; False: that has not ended."""
        for artifact in rest:
            asked.add((artifact.id, False))
            try:
                if self._deletions.change(artifact, path, image):
                    continue  # the next listing tells
                key = f"{begun.operation_id}/{artifact.id}/untagged"
                operation: api.Operation | None = self._deletions.delete_artifact(artifact, key, artifact.digest)
                if operation is not None and not operation.done:
                    operation = self._registry.ended(operation.id or "", deadline)
            except NotFoundError:
                continue
            except RegistryError as error:
                errors.append(error)
                continue
            if operation is None:
                return False
            if (failed := self._registry.failure(operation, f"DELETE {artifact.digest}")) is not None:
                errors.append(failed)
        return True


def effect_of(image: Image, before: Folder | None, after: Folder, asked: Collection[str] = ()) -> DeletionEffect:
    """`before` None: not known. `asked`: digests whose deletion was asked for as well: they may be gone."""
    now = after.tags.get(image.digest, set())
    owner = {tag: digest for digest, tags in after.tags.items() for tag in tags}
    return DeletionEffect(
        artifacts=after.of(image.digest),
        tags=tuple(sorted(now & set(image.tags))),
        new_tags=tuple(sorted(now - set(image.tags))),
        pushed_again=any(not _is_of(one, image) for one in after.of(image.digest) if one.created_at),
        raced=tuple(sorted(tag for tag in image.tags if owner.get(tag, image.digest) != image.digest)),
        collateral_tags=_collateral_tags(image, before, after, asked) if before is not None else (),
    )


def untagged_leftovers(image: Image, left: DeletionEffect, asked: Collection[tuple[str, bool]]) -> Sequence[Artifact]:
    """Untagged artifacts that the last tag's deletion has left, and whose own was not asked for yet.

    `asked`: by id, and whether it had a tag then; empty: another process has asked, and for the image as it was.
    """
    if left.tags:
        return ()
    known = asked or {(one.id, bool(image.tags)) for one in left.artifacts}
    return [one for one in left.artifacts if (one.id, False) not in known and _is_of(one, image)]


def _is_of(artifact: Artifact, image: Image) -> bool:
    """Whether an artifact surely is no younger than the image: what is was pushed meanwhile."""
    times = (artifact.created_at, image.created_at)
    return times[0] is not None and times[1] is not None and times[0] <= times[1]


def _collateral_tags(image: Image, before: Folder, after: Folder, asked: Collection[str]) -> tuple[str, ...]:
    """An untagged image goes for many reasons; one that the image listed went with it."""
    there = {tag for tags in after.tags.values() for tag in tags} | after.by_digest.keys()
    below = before.below(image.digest)
    return tuple(
        sorted(
            name
            for name, digest in before.names(without=image.digest).items()
            if name not in there and digest not in asked and (name != digest or digest in below)
        )
    )
