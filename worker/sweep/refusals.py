"""Tells an image that its registry protects from a permission that is missing: both may be a plain 403.

A refused image is set aside and another is tried: here and there in its repository, and in others. A permission is
given for a repository as a rule. So the refusal was about the image, `locked`, if an image of the same repository was
deleted in this run; where its words hint at protection, any image of the run. Else it is `permission_denied`.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from worker.registries.errors import MaybeProtectedError, RegistryError
from worker.runs.circuit_breaker import count_failure
from worker.store import Store, refusals, sweeping
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Item, Outcome
from worker.sweep import outcomes
from worker.sweep.recording import log_settled

MOST_TRIES = 10  # in a repository that has refused each


def set_aside(store: Store, run: Run, item: Item, error: RegistryError) -> Outcome | None:
    """The outcome of a refused image where it is known already; None: it was set aside.

    A refusal counts as a failure of the run only while the run has deleted nothing, and every repository was tried.
    """
    hint = isinstance(error, MaybeProtectedError)
    with store.write() as connection:
        current = run_rows.get(connection, run.id, lock=True)
        deletes = current is not None and current.deleted > 0
        if (hint and (deletes or refusals.was_locked(connection, run, item))) or (
            item.repository in refusals.repositories_with_deletions(connection, run.id)
        ):
            return outcomes.protected(str(error))
        refusals.defer(connection, item, str(error), hint=hint)
        others = (
            refusals.repositories_to_try(connection, run.id)
            - refusals.refusals_by_repository(connection, run.id).keys()
        )
    if not (hint or deletes or others):
        count_failure(store, run, error)
    return None


def settle(store: Store, run_id: str) -> None:
    """Record the outcomes of what was set aside, as far as it can be told by now. Raises StoreError."""
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


def _decided(connection: Connection, run: Run, items: Iterable[Item]) -> Iterable[tuple[Item, Outcome]]:
    deletes = refusals.repositories_with_deletions(connection, run.id)
    tries = refusals.refusals_by_repository(connection, run.id)
    left = refusals.repositories_to_try(connection, run.id) if run.stop is None else frozenset()
    left = frozenset(path for path in left if tries.get(path, 0) < MOST_TRIES)
    for one in items:
        if one.repository in deletes or (one.refused_hint and run.deleted):
            yield one, outcomes.protected(one.refused or "")
        elif one.repository not in left and not (one.refused_hint and left):
            yield one, outcomes.forbidden(one.refused or "")


def given_up(store: Store, run: Run, path: str) -> bool | None:
    """Whether no further image of a repository is tried, as each try was refused; None: not until others were tried."""
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
    """The same with the first, the last and the middle ahead, then the quarters and so on: whatever protects images of
    one end, others are tried soon."""
    step = len(items)
    order = dict.fromkeys((0, step - 1))
    while step > 1:
        order |= dict.fromkeys(range(step // 2, len(items), step))
        step //= 2
    return [items[at] for at in (order | dict.fromkeys(range(len(items))))] if items else []
