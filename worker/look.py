"""Lists a repository again before anything in it is deleted, and settles what its plan did not know.

What an image pushed since the plan needs is skipped; where that cannot be known, or an image that the plan keeps is
gone, the whole repository is.
"""

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from policies.image import Image
from policies.references import blobs_of, subjects_of
from worker import events, outcomes, runs
from worker.checkpoints import reach
from worker.clocks import ClockError, check
from worker.config import RegistrySettings
from worker.config_watch import Watch, lease_now, permitted_now
from worker.inventory import dated
from worker.leases import Heartbeat
from worker.manifests import StoredManifests
from worker.outcomes import Outcome
from worker.registries import open_registry
from worker.registries.interface import (
    BadAnswerError,
    DeletesByParts,
    HidesSubjects,
    ListsTagsOnly,
    NotFoundError,
    Registry,
    RegistryError,
)
from worker.registries.limiter import Limiter, LimiterUnavailableError
from worker.registries.manifests import unreported
from worker.runs import Bell
from worker.spending import count_failure, spending
from worker.store import Store, StoreError, freed_bytes, holds, looks, plans, sweeping
from worker.store import runs as run_rows
from worker.store.looks import Undeleted
from worker.store.runs import Run

LEFT_FOR_A_BATCH = timedelta(minutes=1)  # of the time for which a look is good


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a second listing says against deletions in a repository."""

    cause: str = "still_needed"
    reason: str | None = None  # of a refusal of the whole repository
    needed: tuple[str, ...] = ()  # digests that an image unknown to the plan needs
    changed: Mapping[str, str] = field(default_factory=dict)  # digest -> what is different of it
    listed: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()  # digests of what the images unknown to the plan are made of


def look(
    store: Store, watch: Watch, run_id: str, repository: str, *, limiter: Limiter | None = None
) -> tuple[Bell, ...]:
    """List a repository again before its next batch, and settle what the plan did not know. Raises StoreError."""
    run = runs.deleting(store, run_id)
    if run is None or run.stop is not None:
        return runs.ring(store, run_id, datetime.now(UTC)) if run else ()
    lease = lease_now(watch)
    with store.write() as connection:
        began = store.now(connection)
        if not looks.claim(connection, run_id, repository, began, began + lease, began - runs.LOOK_IS_GOOD):
            return ()  # somebody looks, or has looked: who did rings

    reach("look_claimed")

    def renew() -> bool:
        with store.write() as connection:
            looks.renew(connection, run_id, repository, store.now(connection) + lease)
        return True

    try:
        with Heartbeat(lease, renew, forgiven=(StoreError,)):
            finding = _find(store, permitted_now(watch, run, repository), run, repository, limiter)
            if finding is None:
                return runs.ring(store, run_id, datetime.now(UTC)) if runs.is_stopped(store, run_id) else ()
            with store.read() as connection:
                took = store.now(connection) - began
            _settle(store, run, repository, _in_time(finding, took), began)
            reach("look_recorded")
    finally:
        with store.write() as connection:
            looks.release(connection, run_id, repository)
    return runs.ring(store, run_id, datetime.now(UTC))


def give_up(store: Store, run_id: str, repository: str) -> tuple[Bell, ...]:
    """Delete nothing in a repository that cannot be listed again in time. Raises StoreError."""
    run = runs.deleting(store, run_id)
    if run is not None:
        with store.read() as connection:
            now = store.now(connection)
        _settle(store, run, repository, _in_time(_Finding(), runs.LOOK_IS_GOOD), now)
    return runs.ring(store, run_id, datetime.now(UTC))


def _find(
    store: Store, registry: RegistrySettings | str, run: Run, path: str, limiter: Limiter | None
) -> _Finding | None:
    """`registry`: or why nothing may be deleted there. None: it cannot be said now; reconcile rings again."""
    if isinstance(registry, str):
        return _Finding("mode", registry)
    with store.read() as connection:
        pause = holds.paused(connection, run.registry, run.registry_key)
    if pause is not None:
        return _Finding("paused", pause.sentence())
    try:
        manifests = StoredManifests(store, registry.key)
        with open_registry(registry, limiter, manifests=manifests) as opened, spending(store, run.registry, opened):
            check(lambda: datetime.now(UTC), store, opened)
            return _look_again(store, opened, registry, run, path)
    except ClockError as error:
        with store.write() as connection:
            run_rows.ask_to_stop(connection, run.id, "failed", str(error))
    except RegistryError as error:
        count_failure(store, run, error)
    except LimiterUnavailableError:
        pass
    return None


def _look_again(store: Store, opened: Registry, registry: RegistrySettings, run: Run, path: str) -> _Finding:
    with store.read() as connection:
        planned = plans.images_of(connection, run.id, path)
        settled = looks.settled(connection, run.id, path)
        begun = looks.begun(connection, run.id, path) if isinstance(opened, DeletesByParts) else frozenset()
        decisions = plans.decisions_of(connection, run.id, path)
    kept = frozenset(one.digest for one in decisions if one.verdict == "keep")
    try:
        images = _listed(opened, registry, path, planned)
    except (NotFoundError, BadAnswerError) as error:
        if error.systemic:
            raise
        return _Finding("repository_changed", f"the repository cannot be listed again: {error}")
    listed = frozenset(image.digest for image in images)
    if lost := _lost(opened, path, kept - listed):
        return _Finding("repository_changed", f"{min(lost)}, which the plan keeps, is no longer there", listed=listed)
    # What this run deleted and is listed all the same, or is another instance, was pushed again: a new image.
    known = {_instance(image) for image in planned if image.digest not in settled}
    left = _left(planned, images, begun)
    new = tuple(image for image in images if _instance(image) not in known and image.digest not in left)
    new = _with_subjects(opened, path, new)
    if unread := [image.digest for image in new if image.children is None] + unreported(new):
        reason = f"{unread[0]}, pushed since the plan, could not be read: it may need anything"
        return _Finding("repository_changed", reason, listed=listed)
    needed = {digest for image in new for digest in _needs(image)}
    # The signatures of a new image belong to it, though they may have been orphans when the plan was made.
    pushed = {image.digest for image in new}
    needed |= {image.digest for image in planned if not pushed.isdisjoint(subjects_of(image))}
    changed = {digest: reason for digest, reason in _changed(planned, images).items() if digest not in left}
    blobs = frozenset(blob.digest for image in new for blob in blobs_of(image))
    return _Finding(needed=tuple(sorted(needed)), changed=changed, listed=listed, blobs=blobs)


def _listed(opened: Registry, registry: RegistrySettings, path: str, planned: Sequence[Image]) -> tuple[Image, ...]:
    """What is there now. Where a registry tells no push time, what the plan knows has the plan's."""
    images = opened.images(path)
    if registry.tells_push_time:
        return images
    known = {image.digest: image.created_at for image in planned if image.created_at is not None}
    return dated(images, known, datetime.now(UTC))


def _with_subjects(opened: Registry, path: str, new: tuple[Image, ...]) -> tuple[Image, ...]:
    """New images with the subjects that no listing reports: a planned image may be one of them."""
    if not (digests := unreported(new)) or not isinstance(opened, HidesSubjects):
        return new
    seconds = (runs.LOOK_IS_GOOD - LEFT_FOR_A_BATCH).total_seconds()
    return opened.read_subjects(path, new, digests, time.monotonic() + seconds).images


def _lost(opened: Registry, path: str, unlisted: frozenset[str]) -> frozenset[str]:
    """What is really gone of what no listing shows: where only tags are listed, one may have moved on."""
    if unlisted and isinstance(opened, ListsTagsOnly):
        return unlisted - opened.there(path, sorted(unlisted))
    return unlisted


def _left(planned: Sequence[Image], images: Sequence[Image], begun: Container[str]) -> frozenset[str]:
    """Digests of what a begun deletion has left some tags of: it is to be gone on with, and nothing new."""
    before = {image.digest: image for image in planned if image.digest in begun}
    return frozenset(
        image.digest for image in images if image.digest in before and outcomes.is_left_of(before[image.digest], image)
    )


def _changed(planned: Sequence[Image], images: Sequence[Image]) -> Mapping[str, str]:
    """By digest, what is different of an image that carries other tags now: the registry may not show that later."""
    now = {image.digest: image for image in images}
    pairs = ((image, now.get(image.digest)) for image in planned)
    return {
        before.digest: f"its tags are {outcomes.listed(after.tags)} now, planned {outcomes.listed(before.tags)}"
        for before, after in pairs
        if after is not None and set(after.tags) != set(before.tags)
    }


def _instance(image: Image) -> tuple[str, str, datetime | None]:
    """What makes it the image that was pushed then: its deletion may be done, and not recorded yet."""
    return image.digest, image.id, image.created_at


def _needs(image: Image) -> tuple[str, ...]:
    return (*(image.children or ()), *subjects_of(image))


def _in_time(finding: _Finding, took: timedelta) -> _Finding:
    """The finding, unless it took so long that it can speak for no deletion any more: it would always be too old."""
    if finding.reason is not None or took < runs.LOOK_IS_GOOD - LEFT_FOR_A_BATCH:
        return finding
    minutes = f"{took.total_seconds() / 60:.0f} minutes"
    reason = (
        f"listing it again took {minutes} or more, and is good for 10: too long for a deletion at this rate; raise"
        " the registry's rate.requests_per_second"
    )
    return _Finding("repository_changed", reason, listed=finding.listed)


def _settle(store: Store, run: Run, path: str, finding: _Finding, began: datetime) -> None:
    """Skip what a finding forbids, a portion a transaction, then write that the repository was listed again."""
    against = tuple(sorted({*finding.needed, *finding.changed}))
    for digests in looks.some(against) if finding.reason is None else [()]:
        after = -1
        while (last := _settle_some(store, run, path, finding, after, digests)) is not None:
            after = last
    with store.write() as connection:
        if not _goes_on(connection, run):
            return
        now = store.now(connection)
        looks.record(connection, run.id, path, began, now, finding.reason)
        freed_bytes.keep(connection, run.id, finding.blobs)
        if finding.cause not in ("mode", "paused"):  # else nobody talked to the registry
            run_rows.healthy(connection, run.id)


def _settle_some(
    store: Store, run: Run, path: str, finding: _Finding, after: int, digests: Sequence[str]
) -> int | None:
    """The number of the last item of this portion; None: there was none left."""
    with store.write() as connection:
        if not _goes_on(connection, run):
            return None
        now = store.now(connection)
        found = looks.undeleted(connection, run.id, path, now, after=after, digests=digests)
        settled = [(one.item, _settle_one(connection, one, finding, now)) for one in found]
    for item, outcome in settled:
        if outcome is not None:
            events.image_settled(run.registry, item, outcome)
    return found[-1].item.number if found else None


def _goes_on(connection: Connection, run: Run) -> bool:
    """Whether there is still something to settle: not in a run that was stopped meanwhile. Locks the run."""
    current = run_rows.get(connection, run.id, lock=True)
    return current is not None and current.state == "deleting" and current.stop is None


def _settle_one(connection: Connection, one: Undeleted, finding: _Finding, now: datetime) -> Outcome | None:
    """A planned one is skipped. One that was begun and is still there must not be asked for again, not even by the
    worker that holds it; one that is not listed is left to the next claim, which may only read it.
    """
    changed = None if finding.reason else finding.changed.get(one.item.digest)
    reason = finding.reason or changed or "an image pushed since the plan needs it"
    if one.item.state == "planned":
        outcome = Outcome("skipped", "changed" if changed else finding.cause, reason)
    elif one.item.digest not in finding.listed:
        if finding.cause not in ("mode", "paused"):  # which are asked with each intent
            sweeping.bar(connection, one.item, reason)  # it was not seen to be gone: the listing may have failed
        return None
    elif one.held:
        sweeping.bar(connection, one.item, reason)
        return None
    else:
        outcome = outcomes.still_there(reason)
    settled = sweeping.record_outcome(connection, one.item, outcome.state, outcome.cause, outcome.message, now)
    return outcome if settled else None
