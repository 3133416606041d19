"""What an answer of the registry means for one planned deletion. Pure: the sweep asks, this decides, the store records.

An error leaves doubt when a deletion may have been carried out all the same. Doubt is never an outcome at once: the
next claim reads the image again. It becomes `unconfirmed` when there was enough of that.
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
    """The registry says that the image is not there: a listing decides, then it is `deleted` if it was our doing."""

    ours: bool


def after_error(item: Item, phase: Phase, error: RegistryError, *, last: bool) -> Outcome | Missing | None:
    """What an error of this phase means for an item as it was claimed; None: doubt, for the next claim to resolve.

    `last`: there will be no next claim, or there were enough of them.
    """
    begun = item.state in ("intent", "accepted")  # an earlier attempt may have deleted it
    if isinstance(error, NotFoundError) and not (phase == "follow" and error.maybe_done):
        return Missing(ours=_was_ours(item, phase, error))
    if isinstance(error, OperationUnknownError):
        return Missing(ours=True)
    if phase == "read":
        doubt = begun
    elif phase == "delete":
        doubt = error.maybe_done or (begun and not isinstance(error, UsedByImageListsError | ProtectedError))
    else:
        doubt = error.maybe_done
    if doubt and not isinstance(error, TagsStillServedError):  # whose digest is gone for good, and not its tags
        return _unconfirmed(f"whether it was deleted is not known: {error}") if last else None
    if isinstance(error, UsedByImageListsError):
        return Outcome("skipped", "used_by_image_lists", str(error))
    if isinstance(error, ProtectedError):
        return Outcome("skipped", "locked", str(error))
    return Outcome("failed", error.cause, str(error))


def is_refusal(item: Item, phase: Phase, error: RegistryError) -> bool:
    """Whether a deletion was surely not done because the registry does not permit it: to us, or to anybody."""
    surely = not error.maybe_done and phase != "read" and item.state != "intent"
    return surely and isinstance(error, PermissionDeniedError)


def _was_ours(item: Item, phase: Phase, error: RegistryError) -> bool:
    """An attempt before the one that was told so: the item's own, as it was claimed, or one lost within the call."""
    if phase == "follow" and item.state == "accepted":
        return item.attempts > 1
    return item.state == "intent" or error.maybe_done


def _unconfirmed(message: str) -> Outcome:
    return Outcome("failed", "unconfirmed", message)


def after_listing(missing: Missing, *, listed: bool) -> Outcome:
    """What a listing of the repository makes of an image that was not found."""
    if listed:
        return _unconfirmed("it was not found, and yet it is listed")
    return Outcome("deleted" if missing.ours else "gone")


def without_listing(why: str) -> Outcome:
    return _unconfirmed(f"it was not found, and listing its repository failed: {why}")


def unbelievable(why: str) -> Outcome:
    return _unconfirmed(f"it was not found, which is not believed: {why}")


def not_as_planned(item: Item, now: Image, *, by_parts: bool = False) -> Outcome | None:
    """What a second reading that differs from the plan means; None: it does not differ.

    `by_parts`: its registry deletes an image tag by tag, so that what was begun may have lost some of them.
    """
    if by_parts and item.state == "intent" and is_left_of(item.image, now):
        return None
    difference = _difference(item.image, now)
    if difference is None:
        return None
    if item.state == "intent":
        return _unconfirmed(f"{difference}, after its deletion was begun; whether that was accepted is not known")
    return Outcome("skipped", "changed", difference)


def is_left_of(planned: Image, now: Image) -> bool:
    """Whether this is what a begun deletion may have left: fewer tags, and none pushed since, which is newer."""
    if now.created_at is not None and (planned.created_at is None or now.created_at > planned.created_at):
        return False
    return now.digest == planned.digest and set(now.tags) <= set(planned.tags)


def of_state(item: Item, found: Outcome) -> Outcome:
    """What an objection makes of an item as it was claimed: what was begun may go all the same."""
    return found if item.state == "planned" else still_there(found.message or "")


def still_there(reason: str) -> Outcome:
    """Of a begun deletion that must not be asked for again."""
    return _unconfirmed(f"its deletion was begun; it is still there, and may yet go: {reason}")


def deleted(deletion: Deletion) -> Outcome:
    """The outcome of a deletion that is done, with what was pushed over it meanwhile."""
    if not deletion.raced:
        return Outcome("deleted")
    return Outcome("deleted", message=f"while it was deleted, another image was pushed as {listed(deletion.raced)}")


def has_collateral_tags(item: Item, collateral_tags: tuple[str, ...]) -> str:
    """Why a run stops: the registry took tags along that nobody had planned to delete."""
    image = f"{item.repository}@{item.digest}"
    return (
        f"stopped: with {image} the registry deleted {listed(collateral_tags)} of the same repository, which the plan"
        " keeps; see whether it is to be pushed again"
    )


def protected(refusal: str) -> Outcome:
    """Of a refused image whose registry deletes others."""
    return Outcome("skipped", "locked", f"{refusal}; the registry deletes other images: it protects this one")


def forbidden(refusal: str) -> Outcome:
    """Of a refused image whose registry deletes none."""
    return Outcome("failed", "permission_denied", refusal)


def not_tried(tries: int) -> Outcome:
    """Of an image of a repository that has refused so many others, and deleted none."""
    return Outcome("failed", "permission_denied", f"not tried: the registry refused {tries} others of its repository")


def never_asked(reason: str) -> Outcome:
    """Of a begun deletion whose registry nobody may ask about it."""
    return _unconfirmed(f"its deletion was begun, and how it ended could not be asked: {reason}")


def _difference(planned: Image, now: Image) -> str | None:
    if now.digest != planned.digest:
        return f"its digest is {now.digest} now"
    if set(now.tags) != set(planned.tags):
        return f"its tags are {listed(now.tags)} now, planned {listed(planned.tags)}"
    if now.created_at != planned.created_at:
        return f"its push time is {now.created_at} now, planned {planned.created_at}"
    return None


def listed(tags: tuple[str, ...]) -> str:
    """Tags as a sentence has them."""
    return ", ".join(sorted(tags)) or "none"
