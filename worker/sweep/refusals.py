"""Distinguishes an image that its registry protects from a missing permission: both may be a plain 403.

A refused image is set aside, and others are tried: in its repository and in other repositories. A permission is usually
given for a repository. So the image is `locked` if the run deleted another image of the same repository; if the
refusal hints at protection, any other image. Else it is `permission_denied`.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from worker.registries.errors import MaybeProtectedError, RegistryError
from worker.runs.circuit_breaker import count_failure
from worker.store import Store, refusals, sweeping
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Item, Outcome
from worker.sweep.recording import log_settled

MOST_TRIES = 10  # in a repository that has refused each


def set_aside(store: Store, run: Run, item: Item, error: RegistryError) -> Outcome | None:
    """The outcome of a refused image if it is known already; None: the image was set aside.

    A refusal counts as a failure of the run only while the run has deleted nothing and has tried every repository.
    """
    hint = isinstance(error, MaybeProtectedError)
    with store.write() as connection:
        current = run_rows.get(connection, run.id, lock=True)
        deletes = current is not None and current.deleted > 0
        if (hint and (deletes or refusals.was_locked(connection, run, item))) or (
            item.repository in refusals.repositories_with_deletions(connection, run.id)
        ):
            return _protected(str(error))
        refusals.defer(connection, item, str(error), hint=hint)
        others = (
            refusals.repositories_to_try(connection, run.id)
            - refusals.refusals_by_repository(connection, run.id).keys()
        )
    if not (hint or deletes or others):
        count_failure(store, run, error)
    return None


def settle(store: Store, run_id: str) -> None:
    """Record the outcomes of set-aside images, as far as they are known now. Raises StoreError."""
    with store.write() as connection:
        run = run_rows.get(connection, run_id, lock=True)
        items = refusals.deferred_items(connection, run_id)
        if run is None or run.state != "deleting" or not items:
            return
        if not (settled := list(_decided(connection, run, items))):
            return
        now = store.now(connection)
        settled = sweeping.record_outcomes(connection, run_id, settled, now)
        sweeping.finish_batches(connection, run_id, now)
        sweeping.mark_unpublished(connection, run_id, now)  # a repository may be tried again, or given up
    log_settled(run.registry, settled)


def _protected(refusal: str) -> Outcome:
    return Outcome("skipped", "locked", f"{refusal}; the registry deletes other images: it protects this one")


def _decided(connection: Connection, run: Run, items: Iterable[Item]) -> Iterable[tuple[Item, Outcome]]:
    deletes = refusals.repositories_with_deletions(connection, run.id)
    tries = refusals.refusals_by_repository(connection, run.id)
    left = refusals.repositories_to_try(connection, run.id) if run.stop is None else frozenset()
    left = frozenset(path for path in left if tries.get(path, 0) < MOST_TRIES)
    for item in items:
        if item.repository in deletes or (item.refused_hint and run.deleted):
            yield item, _protected(item.refused or "")
        elif item.repository not in left and not (item.refused_hint and left):
            yield item, Outcome("failed", "permission_denied", item.refused or "")


def given_up(store: Store, run: Run, path: str) -> bool | None:
    """Whether no further image of a repository is tried, as each was refused; None: not before other repositories.
    True: the others fail as well. None: they wait until the outcome of the refusals is known. Raises StoreError.
    """
    with store.read() as connection:
        tries = refusals.refusals_by_repository(connection, run.id).get(path, 0)
        if tries < MOST_TRIES or path in refusals.repositories_with_deletions(connection, run.id):
            return False
        return refusals.has_failed_refusal(connection, run.id, path) or None


def deletes_in(store: Store, run: Run, path: str) -> bool:
    """Whether the run has deleted an image of a repository."""
    with store.read() as connection:
        return path in refusals.repositories_with_deletions(connection, run.id)


def spread(items: Sequence[Item]) -> list[Item]:
    """The items with the first, the last and the middle ahead, then the quarters and so on: where the registry protects
    the images of one end, others are tried soon."""
    step = len(items)
    order = dict.fromkeys((0, step - 1))
    while step > 1:
        order |= dict.fromkeys(range(step // 2, len(items), step))
        step //= 2
    return [items[at] for at in (order | dict.fromkeys(range(len(items))))] if items else []
