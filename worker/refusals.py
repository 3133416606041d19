"""Tells an image that its registry protects from a permission that is missing: both may be a plain 403.

A refused image is set aside and another is tried. Once the registry deletes an image of the same run, the refusal was
about the image: `locked`. If it deletes none, the permission is missing: `permission_denied`.
"""

from worker import events, outcomes
from worker.registries.interface import RegistryError
from worker.store import Store, refusals, sweeping
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Item


def set_aside(store: Store, run: Run, item: Item, error: RegistryError) -> outcomes.Outcome | None:
    """The outcome of a refused image where it is known already; None: it was set aside."""
    with store.write() as connection:
        current = run_rows.get(connection, run.id, lock=True)
        deletes = current is not None and current.deleted > 0
        if deletes or refusals.was_locked(connection, run, item):
            return outcomes.protected(str(error))
        refusals.set_aside(connection, item, str(error))
    return None


def settle(store: Store, run_id: str) -> None:
    """Record the outcomes of what was set aside, if it can be told by now. Raises StoreError."""
    with store.write() as connection:
        run = run_rows.get(connection, run_id, lock=True)
        items = refusals.waiting(connection, run_id)
        if run is None or run.state != "deleting" or not items:
            return
        if not run.deleted and run.stop is None and refusals.is_another_left(connection, run_id):
            return
        found = [(one, outcomes.protected if run.deleted else outcomes.forbidden) for one in items]
        settled = [(one, judge(one.refused or "")) for one, judge in found]
        now = store.now(connection)
        for one, outcome in settled:
            sweeping.record_outcome(connection, one, outcome.state, outcome.cause, outcome.message, now)
        refusals.finish_batches(connection, run_id, now)
    for one, outcome in settled:
        events.image_settled(run.registry, one, outcome)
