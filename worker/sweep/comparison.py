"""Compares a new listing of a repository with its plan: what speaks against the planned deletions?

`recheck` compares once before the batches of a repository, `live_check` compares again around each deletion.
"""

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from policies.blobs import blobs_of
from policies.image import Image
from policies.push_times import with_first_seen
from policies.subjects import subjects_in
from worker.config.settings import RegistrySettings
from worker.registries.docker.manifest_cache import unreported
from worker.registries.errors import PermissionDeniedError, RateLimitedError, RegistryError
from worker.registries.interface import DeletesByParts, ListsTagsOnly, ReadsSubjects, Registry
from worker.store import Store, plans, rechecks
from worker.store.runs import Run
from worker.store.sweeping import Outcome
from worker.sweep import outcomes


@dataclass(frozen=True, slots=True)
class Comparison:
    """The objections of a new listing to the planned deletions of a repository."""

    cause: str = "still_needed"
    reason: str | None = None  # of an objection to all deletions in the repository
    needed: tuple[str, ...] = ()  # digests that an image unknown to the plan needs
    changed: Mapping[str, str] = field(default_factory=dict)  # digest -> how it differs from the plan
    listed: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()  # digests of the blobs of the images unknown to the plan

    def refusal(self, digest: str) -> Outcome | None:
        """The objection to the deletion of one image that is still planned; None: none."""
        if self.reason is not None:
            return Outcome("skipped", self.cause, self.reason)
        if (changed := self.changed.get(digest)) is not None:
            return Outcome("skipped", "changed", changed)
        if digest in self.needed:
            return Outcome("skipped", "still_needed", "an image pushed since the plan needs it")
        return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository as its plan saw it, and what the run has deleted there so far."""

    path: str
    planned: tuple[Image, ...]
    kept: frozenset[str]  # digests that the plan keeps
    deleted: frozenset[str]  # digests that are deleted or gone by this run: if they are listed, they were pushed again
    begun: frozenset[str]  # digests that the run may have deleted some tags of
    ignored: Container[str] = ()  # digests of images that may be unreadable

    @property
    def tags(self) -> Mapping[str, str]:
        """Every tag that the plan knows, and its digest."""
        return {tag: image.digest for image in self.planned for tag in image.tags}

    def with_children(self, image: Image) -> tuple[Image, ...]:
        """An image and all images that it lists, at any depth, as far as the plan knows them."""
        if not isinstance(image.children, tuple):
            return (image,)
        by_digest = {planned.digest: planned for planned in self.planned}
        images = {image.digest: image}
        todo = [*image.children]
        for digest in todo:  # grows while it is read
            if digest not in images and (child := by_digest.get(digest)) is not None:
                images[digest] = child
                todo += child.children or ()
        return tuple(images.values())

    def unknown(self, images: Iterable[Image]) -> tuple[Image, ...]:
        """The images that the plan does not know. A deleted image that is listed again is a new image."""
        images = tuple(images)
        known = {_instance(image) for image in self.planned if image.digest not in self.deleted}
        left = self._left(images)
        return tuple(image for image in images if _instance(image) not in known and image.digest not in left)

    def compare(self, opened: Registry, images: Sequence[Image], seconds: float) -> Comparison:
        """Compare a listing, whose images have what their manifests say. Raises RegistryError.

        `seconds`: the longest that reading the subjects of new images may take.
        """
        listed = frozenset(image.digest for image in images)
        if lost := _lost(opened, self.path, self.kept - listed):
            reason = f"{min(lost)}, which the plan keeps, is no longer there"
            return Comparison("repository_changed", reason, listed=listed)
        new = _with_subjects(opened, self.path, self.unknown(images), time.monotonic() + seconds)
        if unread := self._unreadable(new) + unreported(new):
            reason = f"{unread[0]}, pushed since the plan, could not be read: it may need anything"
            return Comparison("repository_changed", reason, listed=listed)
        about = subjects_in((*self.planned, *images, *new))
        needed = {digest for image in new for digest in (*(image.children or ()), *about.get(image.digest, ()))}
        # The signatures of a new image belong to it, though they may have been orphans when the plan was made.
        pushed = {image.digest for image in new}
        needed |= {image.digest for image in self.planned if not pushed.isdisjoint(about.get(image.digest, ()))}
        left = self._left(images)
        changed = {digest: reason for digest, reason in _changed(self.planned, images).items() if digest not in left}
        blobs = frozenset(blob.digest for image in new for blob in blobs_of(image))
        return Comparison(needed=tuple(sorted(needed)), changed=changed, listed=listed, blobs=blobs)

    def _unreadable(self, images: Iterable[Image]) -> list[str]:
        return [image.digest for image in images if image.children is None and image.digest not in self.ignored]

    def _left(self, images: Iterable[Image]) -> Container[str]:
        """Digests of images that a begun deletion has partly deleted: its deletion goes on, they are not new."""
        before = {image.digest: image for image in self.planned if image.digest in self.begun}
        pairs = ((before.get(image.digest), image) for image in images)
        return {now.digest for then, now in pairs if then is not None and outcomes.is_partly_deleted(then, now)}


def snapshot(
    store: Store, run: Run, registry: RegistrySettings, path: str, opened: Registry, *, deleting: bool = False
) -> Snapshot:
    """A repository as the plan of a run saw it.

    `deleting`: other batches may begin a deletion at any moment, so that every planned image counts as begun.
    """
    with store.read() as connection:
        planned = tuple(plans.images_of(connection, run.id, path))
        deleted = rechecks.digests_in_states(connection, run.id, path, ("deleted", "gone"))
        begun = rechecks.digests_in_states(connection, run.id, path, ("intent", "accepted"))
        decisions = plans.decisions_of(connection, run.id, path)
    kept = frozenset(decision.digest for decision in decisions if decision.verdict == "keep")
    if not isinstance(opened, DeletesByParts):
        begun = frozenset()
    elif deleting:
        begun = frozenset(image.digest for image in planned) - kept
    return Snapshot(path, planned, kept, deleted, begun, registry.ignore_unreadable)


def listed_again(opened: Registry, registry: RegistrySettings, known: Snapshot) -> tuple[Image, ...]:
    """The images that exist now. Raises RegistryError, NotFoundError if the repository no longer exists."""
    return dated_as_planned(registry, known, opened.images(known.path))


def dated_as_planned(registry: RegistrySettings, known: Snapshot, images: Sequence[Image]) -> tuple[Image, ...]:
    """The images; where the registry reports no push time, with the plan's push times. There, an image without a time
    in the plan gets this process's time; aware, UTC.
    """
    if registry.reports_push_time:
        return tuple(images)
    times = {image.digest: image.created_at for image in known.planned if image.created_at is not None}
    return with_first_seen(images, times, datetime.now(UTC))


def unlistable(error: RegistryError, path: str) -> Comparison:
    """The comparison of a repository that cannot be listed again. Raises an error that is systemic or temporary.

    Such an error says nothing of this repository. The refusal of one manifest does.
    """
    about = error.request.partition(" ")[2]
    of_one_image = isinstance(error, PermissionDeniedError) and about.startswith((f"{path}@", f"{path}:"))
    if isinstance(error, RateLimitedError) or (error.systemic and not of_one_image):
        raise error
    return Comparison("repository_changed", f"the repository cannot be listed again: {error}")


def _with_subjects(opened: Registry, path: str, new: tuple[Image, ...], deadline: float) -> tuple[Image, ...]:
    """New images with their subjects, which no listing reports: a subject may be a planned image."""
    if not (digests := unreported(new)) or not isinstance(opened, ReadsSubjects):
        return new
    return opened.read_subjects(path, new, digests, deadline).images


def _lost(opened: Registry, path: str, unlisted: frozenset[str]) -> frozenset[str]:
    """The unlisted digests that do not exist: where only tags are listed, an untagged image may exist."""
    if unlisted and isinstance(opened, ListsTagsOnly):
        return unlisted - opened.existing(path, sorted(unlisted))
    return unlisted


def _changed(planned: Sequence[Image], images: Sequence[Image]) -> Mapping[str, str]:
    """By digest, how the tags of an image differ from the plan: the registry may not show that later."""
    now = {image.digest: image for image in images}
    pairs = ((image, now.get(image.digest)) for image in planned)
    return {
        before.digest: f"its tags are {outcomes.tags_text(after.tags)} now, planned {outcomes.tags_text(before.tags)}"
        for before, after in pairs
        if after is not None and set(after.tags) != set(before.tags)
    }


def _instance(image: Image) -> tuple[str, str, datetime | None]:
    """The identity of one push of an image: the deletion of an earlier push may not be recorded yet."""
    return image.digest, image.id, image.created_at
