"""Records that images are about to be deleted, unless something speaks against it at that moment."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection

from policies.context import PlanContext
from policies.holds import Holds
from policies.image import Image
from worker.config.settings import RegistrySettings
from worker.runs.clocks import disagreement, of_store
from worker.runs.terms import Watch, late, permitted_registry
from worker.store import Store, holds, leases, rechecks, scan_history, sweeping, undo
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Claim, Item, Outcome
from worker.sweep import outcomes
from worker.sweep.live_check import LiveCheck
from worker.sweep.recording import Attempt, OutcomeRecorder

Wishes = tuple[holds.Pause | None, Holds]  # what people asked for at one moment


@dataclass(slots=True)
class Intents:
    """The intents of one claimed batch."""

    store: Store
    watch: Watch
    run: Run
    held: Claim
    lease: timedelta
    in_use: Mapping[str, str]  # digest -> why
    live_check: LiveCheck | None
    halted: threading.Event = field(default_factory=threading.Event)  # nothing further is begun
    asked_at: float = 0.0  # time.monotonic() before the last intents were asked for
    _wishes: Wishes | None = None  # when the last intents were recorded
    _numbers: Sequence[int] = ()  # of the items that have them

    def used(self, item: Item) -> Outcome | None:
        """What the evidence of use says against a deletion; None: nothing."""
        reason = self.in_use.get(item.digest)
        return None if reason is None else Outcome("skipped", "in_use", reason)

    def record(self, works: Sequence[Attempt], results: OutcomeRecorder) -> list[Attempt]:
        """Record intents, and every outcome that was not recorded yet; those that have an intent now, and its key.

        The lease, the run's state, the plan's age, holds, pauses, bars and owners are asked in the same transaction,
        and the mode just before. A run that is to delete nothing more is halted. Raises LeaseLostError.
        """
        self.asked_at = time.monotonic()
        registry = permitted_registry(self.watch, self.run, self.held.repository) if works else ""
        if isinstance(registry, str):
            for work in works:
                results.settle(work.item, outcomes.of_state(work.item, Outcome("skipped", "mode", registry)))
            results.record()
            return []
        with self.store.write() as connection:
            clock = of_store(lambda: datetime.now(UTC), self.store, connection)
            run = run_rows.get(connection, self.run.id, lock=True)
            sweeping.renew(connection, self.held, clock.at, clock.at + self.lease)
            wrong = disagreement([clock])
            if run is None or run.state != "deleting" or run.stop is not None:
                self.halted.set()
            elif (stop := ("failed", wrong) if wrong else late(run, registry, clock.at)) is not None:
                run_rows.request_stop(connection, run.id, *stop)
                self.halted.set()
            else:
                self._write(connection, registry, works, results, clock.at)
            recorded = results.write(connection, clock.at)
        results.forget(recorded)
        return [work for work in works if work.key]

    def still_hold(self) -> bool:
        """Whether file, lease, pauses, holds and rechecks still permit what was intended last. Raises StoreError."""
        if isinstance(permitted_registry(self.watch, self.run, self.held.repository), str):
            return False
        with self.store.read() as connection:
            run = run_rows.get(connection, self.run.id)
            mine = leases.holds(connection, self.held.lease, lock=False)
            if run is None or run.state != "deleting" or run.stop is not None or not mine:
                self.halted.set()
                return False
            if any(sweeping.items_in_states(connection, self.run.id, self._numbers, lock=False).values()):
                return False  # a recheck has found what needs it
            return self._wishes_now(connection, self.store.now(connection)) == self._wishes

    def _wishes_now(self, connection: Connection, now: datetime) -> Wishes:
        names = self.run.registry, self.run.registry_key
        return holds.paused(connection, *names), holds.active(connection, *names, now)

    def _write(
        self,
        connection: Connection,
        registry: RegistrySettings,
        works: Sequence[Attempt],
        results: OutcomeRecorder,
        now: datetime,
    ) -> None:
        numbers = [work.item.number for work in works]
        stop_reasons = sweeping.items_in_states(connection, self.run.id, numbers, ("planned", "intent"))
        left = [work for work in works if work.item.number in stop_reasons]  # the others have their final state already
        if not left:
            return
        self._wishes = self._wishes_now(connection, now)
        objections = self._objections(connection, registry, [work.item for work in left], self._wishes, stop_reasons)
        intended = []
        for work in left:
            if (objection := objections.get(work.item.number)) is not None:
                results.settle(work.item, outcomes.of_state(work.item, objection))
                continue
            # A key belongs to an attempt, and is used again only while that attempt's outcome is unknown.
            old = work.item.idempotency_key if work.item.state == "intent" else None
            work.key = old or str(uuid4())
            intended.append(work)
        self._numbers = [work.item.number for work in intended]
        sweeping.record_intents(connection, [(work.item, work.key) for work in intended], now)
        kept = [(work.item, work.kept) for work in intended if work.kept is not None]
        undo.save(connection, self.run.registry, self.run.registry_key, kept, now)

    def _objections(
        self,
        connection: Connection,
        registry: RegistrySettings,
        items: Sequence[Item],
        wishes: Wishes,
        stop_reasons: Mapping[int, str | None],
    ) -> dict[int, Outcome]:
        """By its number, why an item is not to be deleted. `stop_reasons`: why nothing more is to be asked for it."""
        pause, holds_now = wishes
        path, images = self.held.repository, {one.digest: one.image for one in items}
        if holds_now.holds and self.live_check is not None:
            images |= {image.digest: image for one in items for image in self.live_check.with_children(one)}
        held = holds_now.reasons(path, tuple(images.values())) if holds_now.holds else {}
        unsettled = self._unsettled(connection, registry, [one.image for one in items])
        gone = rechecks.deleted_digests(connection, self.run.id, path, {owner for one in items for owner in one.owners})
        found: dict[int, Outcome] = {}
        for one in items:
            if (why := unsettled.get(one.digest)) is not None:
                found[one.number] = Outcome("skipped", "mode", f"settle was raised since the plan: {why}")
            elif pause is not None:
                found[one.number] = Outcome("skipped", "paused", pause.sentence())
            elif (why := held.get(one.digest)) is not None:
                found[one.number] = Outcome("skipped", "held", why)
            elif (used := self.used(one)) is not None:
                found[one.number] = used
            elif (why := stop_reasons[one.number]) is not None:
                found[one.number] = Outcome("skipped", "still_needed", why)
            elif needed := next((owner for owner in one.owners if owner not in gone), None):
                found[one.number] = Outcome("skipped", "still_needed", f"{needed}, which needs it, was not deleted")
        return found

    def _unsettled(
        self, connection: Connection, registry: RegistrySettings, images: Sequence[Image]
    ) -> Mapping[str, str]:
        """By digest, what a `settle` that was raised since the plan says against a deletion."""
        if registry.settle <= self.run.terms.settle:
            return {}
        path = self.held.repository
        seen = {path: scan_history.load_repository(connection, registry.history_key, path)}
        plan_context = PlanContext(history=seen, settle=registry.settle)
        return plan_context.unsettled(path, images, self.run.started_at or self.run.opened_at)
