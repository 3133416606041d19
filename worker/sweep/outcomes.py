"""What a registry's answer means for one planned deletion. Pure: the sweep asks, the store records.

After some errors the deletion may have been carried out all the same. The next claim then reads the image
again; after enough claims the outcome is `unconfirmed`.
"""

from dataclasses import dataclass
from typing import Literal

from policies.image import Image
from worker.registries.errors import (
    NotFoundError,
    OperationUnknownError,
    PermissionDeniedError,
    ProtectedError,
    RegistryError,
    TagsStillServedError,
    UsedByImageListsError,
)
from worker.registries.interface import Deletion
from worker.store.sweeping import Item, Outcome

Phase = Literal["read", "delete", "follow"]

ATTEMPTS = 3  # intents of one item whose outcome stayed unknown


@dataclass(frozen=True, slots=True)
class Missing:
    """The registry did not find the image. A listing decides whether it is gone."""

    ours: bool  # an earlier attempt of ours may have deleted it: then it is `deleted`, else `gone`


def after_error(item: Item, phase: Phase, error: RegistryError, *, last: bool) -> Outcome | Missing | None:
    """What an error of a phase means for an item as it was claimed; None: unknown, and the next claim finds out.

    `last`: there is no next claim, or there were enough claims.
    """
    begun = item.state in ("intent", "accepted")  # an earlier attempt may have deleted it
    if isinstance(error, NotFoundError) and not (phase == "follow" and error.maybe_done):
        return Missing(ours=_was_ours(item, phase, error))
    if isinstance(error, OperationUnknownError):
        return Missing(ours=True)
    if phase == "read":
        maybe_deleted = begun
    elif phase == "delete":
        maybe_deleted = error.maybe_done or (begun and not isinstance(error, UsedByImageListsError | ProtectedError))
    else:
        maybe_deleted = error.maybe_done
    if maybe_deleted and not isinstance(error, TagsStillServedError):  # it deleted the digest, and not its tags
        return unconfirmed(f"whether it was deleted is not known: {error}") if last else None
    if isinstance(error, UsedByImageListsError):
        return Outcome("skipped", "used_by_image_lists", str(error))
    if isinstance(error, ProtectedError):
        return Outcome("skipped", "locked", str(error))
    return Outcome("failed", error.cause, str(error))


def is_refusal(item: Item, phase: Phase, error: RegistryError) -> bool:
    """Whether the registry refused a deletion, to these credentials or to all, and surely did not carry it out. `item`:
    as it was claimed. False in the phase `read`, and for an item in the state `intent`: it may be deleted.
    """
    surely = not error.maybe_done and phase != "read" and item.state != "intent"
    return surely and isinstance(error, PermissionDeniedError)


def _was_ours(item: Item, phase: Phase, error: RegistryError) -> bool:
    """Whether an earlier attempt may have deleted the image: one of an earlier claim, or one whose reply was lost."""
    if phase == "follow" and item.state == "accepted":
        return item.attempts > 1
    return item.state == "intent" or error.maybe_done


def unconfirmed(message: str) -> Outcome:
    return Outcome("failed", "unconfirmed", message)


def after_listing(missing: Missing, *, listed: bool) -> Outcome:
    """The outcome of an image that was not found, after a listing of its repository."""
    if listed:
        return unconfirmed("it was not found, and yet it is listed")
    return Outcome("deleted" if missing.ours else "gone")


def after_rereading(item: Item, image: Image, *, by_parts: bool = False) -> Outcome | None:
    """The outcome of an image that differs from its plan when it is read again; None: it does not differ.

    `by_parts`: the registry deletes an image tag by tag, so that a begun deletion may have deleted some tags.
    """
    if by_parts and item.state == "intent" and is_partly_deleted(item.image, image):
        return None
    planned, difference = item.image, None
    if image.digest != planned.digest:
        difference = f"its digest is {image.digest} now"
    elif set(image.tags) != set(planned.tags):
        difference = f"its tags are {tags_text(image.tags)} now, planned {tags_text(planned.tags)}"
    elif image.created_at != planned.created_at:
        difference = f"its push time is {image.created_at} now, planned {planned.created_at}"
    if difference is None:
        return None
    if item.state == "intent":
        return unconfirmed(f"{difference}, after its deletion was begun; whether that was accepted is not known")
    return Outcome("skipped", "changed", difference)


def is_partly_deleted(planned: Image, image: Image) -> bool:
    """Whether an image is what a begun deletion may have left: fewer tags, and no newer push. True also with every tag:
    the deletion has removed none yet. False if the digest is another one.
    """
    if image.created_at is not None and (planned.created_at is None or image.created_at > planned.created_at):
        return False
    return image.digest == planned.digest and set(image.tags) <= set(planned.tags)


def after_objection(item: Item, objection: Outcome) -> Outcome:
    """The outcome of an item, as it was claimed, that must not be deleted; a begun deletion may still take effect."""
    return objection if item.state == "planned" else still_there(objection.message or "")


def still_there(reason: str) -> Outcome:
    """The outcome of a begun deletion that must not be sent again."""
    return unconfirmed(f"its deletion was begun; it is still there, and may yet be deleted: {reason}")


def deleted(deletion: Deletion) -> Outcome:
    """The outcome of a deletion that is done, with the tags that were pushed meanwhile."""
    if not deletion.raced:
        return Outcome("deleted")
    return Outcome("deleted", message=f"while it was deleted, another image was pushed as {tags_text(deletion.raced)}")


def collateral_tags_text(item: Item, collateral_tags: tuple[str, ...]) -> str:
    """Why a run stops: with an image the registry deleted tags that the plan keeps."""
    image = f"{item.repository}@{item.digest}"
    return (
        f"stopped: with {image} the registry deleted {tags_text(collateral_tags)} of the same repository, which the"
        " plan keeps; check whether it must be pushed again"
    )


def tags_text(tags: tuple[str, ...]) -> str:
    """Tags as a sentence has them."""
    return ", ".join(sorted(tags)) or "none"
