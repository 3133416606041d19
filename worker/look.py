"""Lists a repository again before anything in it is deleted, and settles what its plan did not know.

What an image pushed since the plan needs is skipped; where that cannot be known, or an image that the plan keeps is
gone, the whole repository is.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from policies.image import Image
from policies.references import subjects_of
from worker import runs
from worker.config import RegistrySettings
from worker.config_watch import Watch, mode_reason, registry_now
from worker.inventory import Manifests, resolve
from worker.registries import open_registry
from worker.registries.interface import BadAnswerError, NotFoundError, PermissionDeniedError, Registry, RegistryError
from worker.registries.limiter import Limiter, LimiterUnavailableError
from worker.runs import Bell
from worker.spending import count_failure, spending
from worker.store import Store, plans, sweeping
from worker.store.runs import Run


def look(
    store: Store, watch: Watch, run_id: str, repository: str, *, limiter: Limiter | None = None
) -> tuple[Bell, ...]:
    """List a repository again before its next batch, and settle what the plan did not know. Raises StoreError."""
    run = runs.deleting(store, run_id)
    if run is None:
        return ()
    registry = registry_now(watch, run.registry)
    if registry is None or registry.mode != "delete":
        _settle(store, run, repository, _Look(skip_all="mode", reason=mode_reason(registry)))
    elif run.stop is None:
        try:
            with open_registry(registry, limiter) as opened, spending(store, run.registry, opened):
                found = _look_again(store, opened, registry, run, repository)
        except RegistryError as error:
            stopped = count_failure(store, run, error)
            return runs.ring(store, run_id, datetime.now(UTC)) if stopped else ()  # reconcile rings again
        except LimiterUnavailableError:
            return ()
        _settle(store, run, repository, found)
    return runs.ring(store, run_id, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class _Look:
    """What a second listing says against deletions in a repository."""

    skip_all: str | None = None  # the cause for every item of it
    reason: str | None = None
    needed: frozenset[str] = frozenset()  # digests that an image unknown to the plan needs


def _look_again(store: Store, opened: Registry, registry: RegistrySettings, run: Run, path: str) -> _Look:
    with store.read() as connection:
        known = {image.digest for image in plans.images_of(connection, run.id, path)}
        kept = {one.digest for one in plans.decisions_of(connection, run.id, path) if one.verdict == "keep"}
    try:
        images = opened.images(path)
    except (NotFoundError, BadAnswerError, PermissionDeniedError) as error:
        return _Look("repository_changed", f"the repository cannot be listed again: {error}")
    if lost := kept - {image.digest for image in images}:
        return _Look("repository_changed", f"{min(lost)}, which the plan keeps, is no longer there")
    new = tuple(image for image in images if image.digest not in known)
    resolved = resolve(opened, path, new, Manifests(store, registry.key))
    if unread := [image.digest for image in resolved if image.children is None]:
        return _Look(
            "repository_changed", f"{unread[0]}, pushed since the plan, could not be read: it may need anything"
        )
    return _Look(needed=frozenset(digest for image in resolved for digest in _needs(image)))


def _needs(image: Image) -> tuple[str, ...]:
    return (*(image.children or ()), *subjects_of(image))


def _settle(store: Store, run: Run, path: str, found: _Look) -> None:
    """Write a look's result, and skip what it forbids, in one transaction."""
    with store.write() as connection:
        now = store.now(connection)
        wanted = None if found.skip_all else found.needed
        cause, reason = (found.skip_all, found.reason) if found.skip_all else ("still_needed", _NEEDED)
        for one in sweeping.planned_items(connection, run.id, path, wanted):
            sweeping.record_outcome(connection, one, "skipped", cause=cause, message=reason, now=now)
        sweeping.record_look(connection, run.id, path, now, found.reason)
        sweeping.finish_empty_batches(connection, run.id, path, now)


_NEEDED = "an image pushed since the plan needs it"
