"""After a sweep: whether what was deleted is gone, and what was kept and shares something with it is there.

Only looks. What it finds different makes the run partial and is listed by `show`; what cannot be looked at does so too.
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

READERS = 4  # repositories looked at at once: each is held whole in memory


class LostError(Exception):
    """The lease was lost, or the run has ended: whatever was seen is for somebody else to see."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a repository should look like now: these are gone, these are there."""

    path: str
    gone: Mapping[str, Image]  # digest -> the image as it was planned
    there: frozenset[str]
    emptied: bool = False  # every image that the plan knows there is gone


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification saw of one repository, or of all."""

    differences: tuple[Difference, ...] = ()
    emptied: tuple[str, ...] = ()  # repositories without an image, which had some before the sweep


def verify(store: Store, watch: Watch, run_id: str, *, limiter: Limiter | None = None) -> tuple[TaskCall, ...]:
    """Look at what a sweep has left, and finish the run. Safe to call twice, late, or never. Raises StoreError."""
    lease = current_lease(watch)
    with store.write() as connection:
        now = store.now(connection)
        run = rows.claim(connection, run_id, owner=identity(), now=now, until=now + lease)
    if run is None:
        return ()
    reach("verification_claimed")
    registry = current_registry(watch, run) or last_known_registry(watch, run)
    try:
        found = (
            _only(why_unconfigured_now(watch, run)) if registry is None else _seen(store, registry, run, limiter, lease)
        )
    except (LostError, LimiterUnavailableError):
        return ()
    except RegistryError as error:
        if run.verifications < lifecycle.VERIFICATIONS:
            with store.write() as connection:
                leases.release(connection, rows.lease_of(run))
            return ()  # reconcile rings again
        found = _only(f"the registry could not be looked at: {error}")
    with store.write() as connection:
        now = store.now(connection)
        if not rows.record(connection, rows.lease_of(run), found.differences, now, found.emptied):
            return ()
    level = logging.WARNING if found.differences else logging.INFO
    log.log(level, "verified", run=run_id, registry=run.registry, differences=len(found.differences))
    for different in found.differences:
        where = {"repository": different.repository, "digest": different.digest}
        log.warning("difference", run=run_id, registry=run.registry, **where, reason=different.difference)
    reach("verified")
    return lifecycle.next_task_calls(store, run_id, datetime.now(UTC))


def _only(difference: str) -> Verification:
    """Nothing was looked at."""
    return Verification((Difference("", None, difference),))


def _seen(
    store: Store, registry: RegistrySettings, run: Run, limiter: Limiter | None, lease: timedelta
) -> Verification:
    """In order of repositories. Raises LostError, LimiterUnavailableError, RegistryError: nothing was looked at."""
    with (
        Heartbeat(store, rows.lease_of(run), lease) as heartbeat,
        open_registry(
            registry, limiter, Retries(waits_for_restarts=True), StoredManifests(store, registry.key)
        ) as opened,
        saving_usage(store, run.registry, opened),
    ):
        opened.clock()  # a registry that cannot be reached at all is no difference: it is asked again

        def look(path: str) -> Verification:
            if heartbeat.lost.is_set():
                raise LostError
            expected = expectation(store, run, path, shared)
            return Verification() if expected is None else _compared(opened, expected)

        with store.read() as connection:  # hashes of digests: two that are alike only make us look at more
            deleted = rows.deleted_images(connection, run.id)
            shared = frozenset(hash(blob.digest) for image in deleted for blob in blobs_of(image))
            paths = plans.repositories(connection, run.id)
        readers = min(READERS, registry.rate.concurrency)
        pool = ThreadPoolExecutor(max_workers=readers, thread_name_prefix="verify")
        try:
            seen = list(pool.map(look, paths))
            return Verification(
                tuple(difference for one in seen for difference in one.differences),
                tuple(path for one in seen for path in one.emptied),
            )
        finally:
            pool.shutdown(cancel_futures=True)  # of what was stopped midway nothing further is begun


def expectation(store: Store, run: Run, path: str, shared: frozenset[int]) -> Expectation | None:
    """What a repository should look like; None: nothing was deleted there, and nothing there shares a blob with it."""
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
    """Digests of what stayed and shares an index, a subject or a blob with what was deleted."""
    images = tuple(images)
    about = subjects_in((*images, *gone.values()))
    relations = {digest: _graph(image, about) for digest, image in gone.items()}
    touched = {name for names in relations.values() for name in names} | gone.keys()
    for index in images:  # whose children share it
        if isinstance(index.children, tuple) and not gone.keys().isdisjoint(index.children):
            touched.update(index.children)
    for image in images:
        left = planned.get(image.digest)
        if image.digest in gone or (left is not None and left.attempted):
            continue
        names = {image.digest, *_graph(image, about)}
        if not touched.isdisjoint(names) or any(hash(blob.digest) in shared for blob in blobs_of(image)):
            yield image.digest


def _graph(image: Image, about: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What an image names: its children and its subjects. `about`: digest -> subjects, of its repository."""
    return (*(image.children or ()), *about.get(image.digest, ()))


def _compared(registry: Registry, expected: Expectation) -> Verification:
    """What is different in one repository: believed when it is so at a second look."""
    try:
        listed = _listed(registry, expected)
        if list(_against(expected, listed)):
            listed = _listed(registry, expected)
    except RegistryError as error:
        return Verification((Difference(expected.path, None, f"it could not be listed again: {error}"),))
    emptied = (expected.path,) if expected.emptied and not listed else ()
    return Verification(tuple(_against(expected, listed)), emptied)


def _listed(registry: Registry, expected: Expectation) -> Mapping[str, Image]:
    """What is there: listed, or, where only tags are listed, found by its digest."""
    try:
        found = {image.digest: image for image in registry.images(expected.path)}
    except NotFoundError:
        return {}  # with its last image a repository may go
    unlisted = (expected.there | expected.gone.keys()) - found.keys()
    if unlisted and isinstance(registry, ListsTagsOnly):
        found |= {digest: Image(digest=digest) for digest in registry.existing(expected.path, sorted(unlisted))}
    return found


def _against(expected: Expectation, listed: Mapping[str, Image]) -> Iterator[Difference]:
    for digest in sorted(expected.gone.keys() & listed.keys()):
        pushed = listed[digest].created_at
        if pushed is None:  # not told
            yield Difference(expected.path, digest, "it was deleted, and is there, or there again")
        elif pushed == expected.gone[digest].created_at:  # else it was pushed again
            yield Difference(expected.path, digest, "it was deleted, and is there")
    for digest in sorted(expected.there - listed.keys()):
        yield Difference(expected.path, digest, "it was kept, and is gone")
    lost = expected.gone.keys() - listed.keys()
    about = subjects_in(expected.gone.values())
    referrers = [(subject, digest) for digest in sorted(lost) for subject in about.get(digest, ())]
    for digest, image in sorted(listed.items()):
        if children := sorted(lost.intersection(image.children or ())):
            yield Difference(expected.path, digest, f"it lists {', '.join(children)}, deleted by this run")
        if signatures := [one for subject, one in referrers if subject == digest]:
            yield Difference(expected.path, digest, f"{', '.join(signatures)}, about it, was deleted by this run")
