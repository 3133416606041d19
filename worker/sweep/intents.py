"""Records that an image is about to be deleted, unless something speaks against it at that moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection

from policies.context import Standing
from worker.config.settings import RegistrySettings
from worker.registries.interface import Kept
from worker.runs.clocks import Shown, disagreement, of_store
from worker.runs.current_settings import Watch, permitted_now
from worker.runs.expiry import late
from worker.store import Store, holds, scan_history, sweeping, undo
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Claim, Item, StoppedError
from worker.sweep.outcomes import Outcome
from worker.sweep.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class Intents:
    """The intents of one claimed batch. Safe to use from several threads."""

    store: Store
    watch: Watch
    run: Run
    held: Claim
    lease: timedelta
    in_use: Mapping[str, str]  # digest -> why
    surroundings: Surroundings | None

    def record(self, item: Item, kept: Kept | None) -> str | Outcome | None:
        """Record the intent: its idempotency key, or why there is none; None: the item has its final state already.

        The lease, the run's state, the plan's age, holds and pauses are asked in the same breath as the intent is
        written; the mode just before. Raises StoppedError, LeaseLostError.
        """
        registry = permitted_now(self.watch, self.run, item.repository)
        if isinstance(registry, str):
            return Outcome("skipped", "mode", registry)
        # A key belongs to an attempt, and is used again only while that attempt's outcome is unknown.
        key = item.idempotency_key if item.state == "intent" and item.idempotency_key else str(uuid4())
        with self.store.write() as connection:
            clock = of_store(lambda: datetime.now(UTC), self.store, connection)
            now = clock.at
            run = run_rows.get(connection, self.run.id, lock=True)
            sweeping.renew(connection, self.held, now, now + self.lease)
            stopped = run is None or run.state != "deleting" or run.stop is not None
            if run is not None and not stopped and (stop := _stop(run, registry, clock)) is not None:
                run_rows.ask_to_stop(connection, run.id, *stop)
                stopped = True
            unsettled = None if stopped else self._unsettled(connection, item, registry)
            refused = None if stopped else unsettled or self._refusal(connection, item, now)
            written = not (stopped or refused) and sweeping.record_intent(connection, item, key, now)
            if written and kept is not None:
                undo.keep(connection, self.run.registry, self.run.registry_key, item, kept, now)
        if stopped:
            raise StoppedError
        return refused if refused is not None else key if written else None

    def withdraw(self, item: Item) -> None:
        """Take an intent back whose deletion was not sent. Raises LeaseLostError."""
        with self.store.write() as connection:
            now = self.store.now(connection)
            run_rows.get(connection, self.run.id, lock=True)
            sweeping.renew(connection, self.held, now, now + self.lease)
            sweeping.withdraw_intent(connection, item)

    def used(self, item: Item) -> Outcome | None:
        """What the evidence of use says against a deletion; None: nothing."""
        reason = self.in_use.get(item.digest)
        return None if reason is None else Outcome("skipped", "in_use", reason)

    def _refusal(self, connection: Connection, item: Item, now: datetime) -> Outcome | None:
        """What speaks against a deletion at the moment of its intent; None: nothing does."""
        if (pause := holds.paused(connection, self.run.registry, self.run.registry_key)) is not None:
            return Outcome("skipped", "paused", pause.sentence())
        active = holds.active(connection, self.run.registry, self.run.registry_key, now)
        images = self.surroundings.with_children(item) if self.surroundings and active.holds else (item.image,)
        if (held := active.reasons(item.repository, images).get(item.digest)) is not None:
            return Outcome("skipped", "held", held)
        if (used := self.used(item)) is not None:
            return used
        if (barred := sweeping.barred(connection, item)) is not None:
            return Outcome("skipped", "still_needed", barred)
        if needed := sweeping.owners_left(connection, item):
            return Outcome("skipped", "still_needed", f"{needed[0]}, which needs it, was not deleted")
        return None

    def _unsettled(self, connection: Connection, item: Item, registry: RegistrySettings) -> Outcome | None:
        """What a `settle` that was raised since the plan says against a deletion; None: nothing."""
        if registry.settle <= self.run.terms.settle:
            return None
        seen = {item.repository: scan_history.seen_of(connection, registry.memory_key, item.repository)}
        standing = Standing(memory=seen, settle=registry.settle)
        planned_at = self.run.started_at or self.run.opened_at
        why = standing.unsettled(item.repository, (item.image,), planned_at).get(item.digest)
        return None if why is None else Outcome("skipped", "mode", f"settle was raised since the plan: {why}")


def _stop(run: Run, registry: RegistrySettings, clock: Shown) -> tuple[str, str] | None:
    """Why a run may delete nothing more now, as a stop and its message; None: it may. `clock`: the store's."""
    wrong = disagreement([clock])
    return ("failed", wrong) if wrong is not None else late(run, registry, clock.at)
