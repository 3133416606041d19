"""Verifies a sweep: deleted images are gone, and kept images that share something with them exist.

It only reads. A difference, or a repository that cannot be read, makes the run partial; `show` lists them.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from policies.blobs import blobs_of
from policies.image import Image
from policies.subjects import subjects_in
from worker.config.settings import RegistrySettings
from worker.logs import Log
from worker.registries import open_registry
from worker.registries.errors import LimiterUnavailableError, NotFoundError, RegistryError
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.interface import ListsTagsOnly, Registry
from worker.runs import lifecycle
from worker.runs.checkpoints import reach
from worker.runs.circuit_breaker import saving_usage
from worker.runs.leases import Heartbeat, identity
from worker.runs.lifecycle import TaskCall
from worker.runs.terms import Watch, current_lease, current_registry, last_known_registry, why_unconfigured_now
from worker.store import Store, leases, plans
from worker.store import verification as rows
from worker.store.manifests import StoredManifests
from worker.store.runs import Run
from worker.store.verification import DELETED_STATES, DeletionState, Difference

log = Log(__name__)

READERS = 4  # repositories read at once: each is held whole in memory


class LostError(Exception):
    """The lease was lost, or the run has ended: another worker verifies it."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The images of a repository that should be gone, and those that should exist."""

    path: str
    gone: Mapping[str, Image]  # digest -> the image as it was planned
    there: frozenset[str]
    emptied: bool = False  # the run deleted every image that the plan knows


@dataclass(frozen=True, slots=True)
class Verification:
    """The differences of one repository, or of all."""

    differences: tuple[Difference, ...] = ()
    emptied: tuple[str, ...] = ()  # repositories without an image, which had some before the sweep


def verify(store: Store, watch: Watch, run_id: str, *, limiter: Limiter | None = None) -> tuple[TaskCall, ...]:
    """Verify what a sweep has left, and finish the run. Safe to call twice, late, or never. Raises StoreError."""
    lease = current_lease(watch)
    with store.write() as connection:
        now = store.now(connection)
        run = rows.claim(connection, run_id, owner=identity(), now=now, until=now + lease)
    if run is None:
        return ()
    reach("verification_claimed")
    registry = current_registry(watch, run) or last_known_registry(watch, run)
    try:
        if registry is None:
            verification = _not_verified(why_unconfigured_now(watch, run))
        else:
            verification = _verify(store, registry, run, limiter, lease)
    except (LostError, LimiterUnavailableError):
        return ()
    except RegistryError as error:
        if run.verifications < lifecycle.VERIFICATIONS:
            with store.write() as connection:
                leases.release(connection, rows.lease_of(run))
            return ()  # reconcile publishes it again
        verification = _not_verified(f"the registry could not be read: {error}")
    with store.write() as connection:
        now = store.now(connection)
        if not rows.record(connection, rows.lease_of(run), verification.differences, now, verification.emptied):
            return ()
    level = logging.WARNING if verification.differences else logging.INFO
    log.log(level, "verified", run=run_id, registry=run.registry, differences=len(verification.differences))
    for difference in verification.differences:
        where = {"repository": difference.repository, "digest": difference.digest}
        log.warning("difference", run=run_id, registry=run.registry, **where, reason=difference.difference)
    reach("verified")
    return lifecycle.next_task_calls(store, run_id, datetime.now(UTC))


def _not_verified(difference: str) -> Verification:
    """No repository was read."""
    return Verification((Difference("", None, difference),))


def _verify(
    store: Store, registry: RegistrySettings, run: Run, limiter: Limiter | None, lease: timedelta
) -> Verification:
    """In order of repositories. Raises LostError, LimiterUnavailableError, RegistryError: nothing was verified."""
    with (
        Heartbeat(store, rows.lease_of(run), lease) as heartbeat,
        open_registry(
            registry, limiter, Retries(waits_for_restarts=True), StoredManifests(store, registry.key)
        ) as opened,
        saving_usage(store, run.registry, opened),
    ):
        opened.clock()  # an unreachable registry is no difference: it is tried again

        def verify_repository(path: str) -> Verification:
            if heartbeat.lost.is_set():
                raise LostError
            expected = expectation(store, run, path, shared)
            return Verification() if expected is None else _compared(opened, expected)

        with store.read() as connection:  # hashes of digests: a collision only verifies more images
            deleted = rows.deleted_images(connection, run.id)
            shared = frozenset(hash(blob.digest) for image in deleted for blob in blobs_of(image))
            paths = plans.repositories(connection, run.id)
        readers = min(READERS, registry.rate.concurrency)
        pool = ThreadPoolExecutor(max_workers=readers, thread_name_prefix="verify")
        try:
            results = list(pool.map(verify_repository, paths))
            return Verification(
                tuple(difference for result in results for difference in result.differences),
                tuple(path for result in results for path in result.emptied),
            )
        finally:
            pool.shutdown(cancel_futures=True)  # after an error no further repository is read


def expectation(store: Store, run: Run, path: str, shared: frozenset[int]) -> Expectation | None:
    """What a repository should have; None: nothing was deleted there, and no image shares a blob with a deletion."""
    with store.read() as connection:
        images = tuple(plans.images_of(connection, run.id, path))
        planned = rows.deletion_states(connection, run.id, path)
    gone = {digest: left.image for digest, left in planned.items() if left.state in DELETED_STATES}
    there = frozenset(_related(images, planned, gone, shared))
    emptied = bool(gone) and all(image.digest in gone for image in images)
    return Expectation(path, gone, there, emptied) if gone or there else None


def _related(
    images: Iterable[Image], planned: Mapping[str, DeletionState], gone: Mapping[str, Image], shared: frozenset[int]
) -> Iterator[str]:
    """Digests of kept images that share an index, a subject or a blob with a deleted image."""
    images = tuple(images)
    about = subjects_in((*images, *gone.values()))
    relations = {digest: _names(image, about) for digest, image in gone.items()}
    touched = {name for names in relations.values() for name in names} | gone.keys()
    for index in images:  # whose children share it
        if isinstance(index.children, tuple) and not gone.keys().isdisjoint(index.children):
            touched.update(index.children)
    for image in images:
        left = planned.get(image.digest)
        if image.digest in gone or (left is not None and left.attempted):
            continue
        names = {image.digest, *_names(image, about)}
        if not touched.isdisjoint(names) or any(hash(blob.digest) in shared for blob in blobs_of(image)):
            yield image.digest


def _names(image: Image, about: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The digests that an image names: its children and subjects. `about`: digest -> subjects, of its repository."""
    return (*(image.children or ()), *about.get(image.digest, ()))


def _compared(registry: Registry, expected: Expectation) -> Verification:
    """The differences in one repository, if a second listing confirms them."""
    try:
        listed = _listed(registry, expected)
        if list(_against(expected, listed)):
            listed = _listed(registry, expected)
    except RegistryError as error:
        return Verification((Difference(expected.path, None, f"it could not be listed again: {error}"),))
    emptied = (expected.path,) if expected.emptied and not listed else ()
    return Verification(tuple(_against(expected, listed)), emptied)


def _listed(registry: Registry, expected: Expectation) -> Mapping[str, Image]:
    """The images that exist: those listed and, where only tags are listed, those found by digest."""
    try:
        images = {image.digest: image for image in registry.images(expected.path)}
    except NotFoundError:
        return {}  # a registry may delete a repository with its last image
    unlisted = (expected.there | expected.gone.keys()) - images.keys()
    if unlisted and isinstance(registry, ListsTagsOnly):
        images |= {digest: Image(digest=digest) for digest in registry.existing(expected.path, sorted(unlisted))}
    return images


def _against(expected: Expectation, listed: Mapping[str, Image]) -> Iterator[Difference]:
    for digest in sorted(expected.gone.keys() & listed.keys()):
        pushed = listed[digest].created_at
        if pushed is None:  # not reported
            yield Difference(expected.path, digest, "it was deleted, and exists, or exists again")
        elif pushed == expected.gone[digest].created_at:  # else it was pushed again
            yield Difference(expected.path, digest, "it was deleted, and exists")
    for digest in sorted(expected.there - listed.keys()):
        yield Difference(expected.path, digest, "it was kept, and is gone")
    lost = expected.gone.keys() - listed.keys()
    about = subjects_in(expected.gone.values())
    referrers = [(subject, digest) for digest in sorted(lost) for subject in about.get(digest, ())]
    for digest, image in sorted(listed.items()):
        if children := sorted(lost.intersection(image.children or ())):
            yield Difference(expected.path, digest, f"it lists {', '.join(children)}, deleted by this run")
        if signatures := [referrer for subject, referrer in referrers if subject == digest]:
            yield Difference(expected.path, digest, f"{', '.join(signatures)}, about it, was deleted by this run")
