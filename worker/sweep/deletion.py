"""Deletes the images of one claimed batch: the only module that deletes.

`Batch._delete_chunk` has the order of every deletion: read the image again and compare it, record the intent, send the
DELETE, record that it was accepted, follow its operation, record its outcome. The methods below it follow that order.
`worker.sweep.batches` claims the batch; `live_check` and `outcomes` find the objections to a deletion.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

from sqlalchemy import Connection

from policies.context import PlanContext
from policies.holds import Holds
from worker.config.settings import RegistrySettings
from worker.registries.errors import (
    LimiterUnavailableError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    TooLateError,
    UnavailableError,
)
from worker.registries.http.rate_limit import BoundedLimiter
from worker.registries.interface import DeletesByParts, Deletion, Registry, Restores
from worker.runs.checkpoints import reach
from worker.runs.circuit_breaker import count_failure
from worker.runs.clocks import disagreement, read_store_clock
from worker.runs.terms import Watch, current_registry, late, permitted_registry
from worker.store import Store, holds, leases, rechecks, scan_history, sweeping, undo
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Claim, Item, LeaseLostError, Outcome
from worker.sweep import absence, outcomes, refusals
from worker.sweep.live_check import LiveCheck
from worker.sweep.outage import OutageWait
from worker.sweep.outcomes import ATTEMPTS, Missing, Phase
from worker.sweep.recording import Attempt, OutcomeRecorder

START_NO_IMAGE_AFTER = 45.0  # seconds into a batch
ABSENCE_CHECK_STARTS_BY = 65.0  # seconds into a batch; later, the next claim confirms missing images
ABSENCE_CHECK_ENDS = 80.0  # seconds into a batch, at the latest
IMAGE_SECONDS = 30.0  # for one image: half of it until its DELETE begins, the other half to follow its operation
READING_VALID_FOR = 3.0  # seconds from an image's reading to its DELETE; longer if four requests take longer
REREAD_AFTER = 1.5  # seconds: an image is read once more if the other checks took longer
MAX_READINGS = 3  # of one image in one claim, if each is too old when its DELETE could be sent
PERMISSION_VALID_FOR = 1.0  # seconds for which the run, configuration, pauses and holds that were read permit deletions
FOLLOW_SHARE = 0.25  # of a lease: the longest wait for an operation; the next claim polls it again
UNKNOWN_RESULT_LEASES = 5  # after so many leases, a begun deletion whose result is unknown is `unconfirmed`


@dataclass(slots=True)
class Batch:
    """One claimed batch, deleted in chunks of images. Each image of a chunk has a thread."""

    store: Store
    watch: Watch
    run: Run
    claim: Claim
    registry: Registry
    limiter: BoundedLimiter
    lease: timedelta
    resolve_only: str  # why only begun deletions are resolved, and nothing new is deleted; empty: images are deleted
    known_tags: Mapping[str, str]  # of the repository, when it was planned: tag -> digest
    in_use: Mapping[str, str]  # digest -> reason, from the evidence
    live_check: LiveCheck | None  # None: nothing new is deleted
    recorder: OutcomeRecorder
    max_chunk: int  # images
    lease_lost: threading.Event = field(default_factory=threading.Event)
    can_continue: bool = False  # the rest of the batch need not wait: it is published after the other batches
    out_of_time: bool = False
    missing: list[tuple[Item, Missing]] = field(default_factory=list)
    began_at: float = field(default_factory=time.monotonic)
    is_last_claim: bool = False  # no later claim resolves a deletion whose result is unknown
    halted: threading.Event = field(default_factory=threading.Event)  # no further step begins
    _outage: OutageWait = field(init=False)
    _pool: ThreadPoolExecutor = field(init=False)
    # Held by `_halt`, and to mark a deletion as sent.
    _send_lock: threading.Lock = field(default_factory=threading.Lock)
    _one_at_a_time: bool = False  # until the registry accepts a deletion in this repository
    _saved: Collection[int] = ()  # numbers of items that the store can restore
    _permission_read_at: float = 0.0  # time.monotonic() before the permission of the last intents was read
    _pause_and_holds: tuple[holds.Pause | None, Holds] | None = None  # in the transaction of the last intents
    _intended_numbers: Sequence[int] = ()  # numbers of the items of the last intents

    def __post_init__(self) -> None:
        self._outage = OutageWait(self.registry)

    def carry_out(self, items: list[Item]) -> None:
        """Process every item as far as possible in this claim. Raises StoreError, after every thread has stopped."""
        todo = [Attempt(item) for item in self._in_order(items) if item.refused is None]  # else: see refusals
        todo.sort(key=lambda attempt: attempt.item.state == "planned")  # begun deletions come first
        if isinstance(self.registry, Restores):
            with self.store.read() as connection:
                self._saved = undo.restorable_items(connection, self.run.id, [attempt.item.number for attempt in todo])
        chunk_size = self.max_chunk
        with ThreadPoolExecutor(self.max_chunk, thread_name_prefix="delete") as self._pool:
            while todo and not (self.halted.is_set() or self.lease_lost.is_set()):
                if self._elapsed() > START_NO_IMAGE_AFTER:
                    self.out_of_time = True
                    break
                if not self.run.deleted and todo[0].item.state == "planned" and self._waits_for_first_deletion():
                    self.can_continue |= bool(self.missing) or not self._one_at_a_time  # it has an outcome soon
                    break
                count = 1 if self._one_at_a_time else chunk_size
                try:
                    again = self._delete_chunk(todo[:count])
                except LeaseLostError:
                    self.lease_lost.set()
                    break
                todo = again + todo[count:]
                # If a reading became too old, the chunk is too large for the rate limit or this machine.
                chunk_size = max(1, chunk_size // 2) if again else min(self.max_chunk, chunk_size * 2)
        seconds = ABSENCE_CHECK_ENDS - self._elapsed()
        if self.missing and seconds > ABSENCE_CHECK_ENDS - ABSENCE_CHECK_STARTS_BY and not self.lease_lost.is_set():
            where = (self.registry, self.store, self.run.id, self.claim.repository)
            with suppress(LimiterUnavailableError):
                is_last = partial(self._is_last, phase="read")
                for item, outcome in absence.outcomes_of(*where, self.missing, seconds, is_last):
                    self.recorder.add(item, outcome)
                self.recorder.record()

    def _waits_for_first_deletion(self) -> bool:
        """Whether images must wait for the run's first deletion, which is sent alone and has no final outcome yet."""
        with self.store.read() as connection:
            if self._one_at_a_time:
                return self.claim.batch in sweeping.batches_in_progress(connection, self.run.id)
            return sweeping.has_postponed_batches(connection, self.run.id)

    def _in_order(self, items: list[Item]) -> list[Item]:
        """The items to try, in order. Images are tried one at a time until the registry accepts a deletion in the
        repository: if it refuses all, each refusal costs one request. A refused image is tried after another image.
        """
        begun = [item for item in items if item.state != "planned"]
        if self.resolve_only:
            return begun
        given_up = refusals.given_up(self.store, self.run, self.claim.repository)
        if given_up is not False:  # planned items wait, or fail with the refusals
            if given_up:
                rest = [item for item in items if item.state == "planned" and item.refused is None]
                message = f"not tried: the registry refused {refusals.MOST_TRIES} others of its repository"
                self.recorder.record_all(rest, Outcome("failed", "permission_denied", message))
            return begun
        self._one_at_a_time = not refusals.deletes_in(self.store, self.run, self.claim.repository)
        refused = any(item.refused is not None for item in items)
        return refusals.spread(items) if self._one_at_a_time and refused else items

    def _delete_chunk(self, chunk: Sequence[Attempt]) -> list[Attempt]:
        """Reread, record intents, delete, record, follow, record: in this order no crash leaves a deletion unrecorded.

        Returns the attempts to be read again. Raises StoreError, LeaseLostError.
        """
        for attempt in chunk:
            attempt.reset()
        accepted = [attempt for attempt in chunk if attempt.item.state == "accepted"]  # in an earlier claim
        self._run_in_threads(self._reread, [attempt for attempt in chunk if attempt not in accepted])
        reach("chunk_read_again")
        ready = [attempt for attempt in chunk if attempt.deletable and not self._is_stale(attempt)]
        intended = self._record_intents([] if self._must_stop() else ready)
        try:
            if intended:
                reach("intent_recorded")
                self._send_all(intended)
                reach("chunk_sent")
        finally:  # accepted deletions are recorded, even if another deletion failed
            self.recorder.record(intended)
        if any(attempt.deletion is not None for attempt in intended):
            reach("operation_accepted")
        try:
            self._run_in_threads(self._follow, [attempt for attempt in (*accepted, *intended) if attempt.is_unfinished])
        finally:
            self.recorder.record()
        return [attempt for attempt in chunk if attempt.must_reread and attempt.readings < MAX_READINGS]

    def _reread(self, attempt: Attempt) -> None:
        """Reread an image, save the manifest that restores it, and compare it with plan, evidence and new images."""
        item, began = attempt.item, time.monotonic()
        if self._must_stop():
            return
        if item.state == "planned" and self.live_check and (refusal := self.live_check.refusal_of_all(item)):
            self.recorder.add(item, refusal)
            return
        attempt.readings += 1
        try:
            self._save(attempt)
            outcome = self._compare(attempt)
            in_time = attempt.read_at - began < IMAGE_SECONDS / 2
            if outcome is None and in_time and not self.resolve_only:
                objection = self._in_use(item) or (self.live_check and self.live_check.refusal(item))
                outcome = outcomes.after_objection(item, objection) if objection else None
                if outcome is None and time.monotonic() - attempt.read_at > REREAD_AFTER:  # the checks took long
                    outcome = self._compare(attempt)
        except RegistryError as error:
            attempt.must_reread = attempt.readings < MAX_READINGS and self.is_available_again(error)
            if not attempt.must_reread:
                self._settle_error(item, "read", error)
            return
        if outcome is None and self.resolve_only:
            outcome = outcomes.still_there(self.resolve_only)
        if outcome is not None:
            self.recorder.add(item, outcome)
        attempt.deletable = outcome is None and in_time

    def _save(self, attempt: Attempt) -> None:
        """Save the manifest of an image, if its registry can restore images and the store does not have it yet.

        Raises RegistryError: an image that cannot be saved is not deleted.
        """
        item = attempt.item
        if self.resolve_only or not isinstance(self.registry, Restores) or attempt.saved or item.number in self._saved:
            return
        try:
            attempt.saved = self.registry.save(item.repository, item.digest)
        except NotFoundError:
            self.registry.get(item.repository, item.image, self.known_tags)  # it reads the tags too
            raise

    def _compare(self, attempt: Attempt) -> Outcome | None:
        """Reread an image; returns its outcome if it differs from the plan. Raises RegistryError."""
        image = self.registry.get(attempt.item.repository, attempt.item.image, self.known_tags)
        attempt.read_at = time.monotonic()
        reach("image_read_again")
        return outcomes.after_rereading(attempt.item, image, by_parts=isinstance(self.registry, DeletesByParts))

    def _in_use(self, item: Item) -> Outcome | None:
        reason = self.in_use.get(item.digest)
        return None if reason is None else Outcome("skipped", "in_use", reason)

    def _is_stale(self, attempt: Attempt) -> bool:
        """Whether an image must be reread: its reading would be too old by the time its DELETE is sent."""
        stale = time.monotonic() - attempt.read_at > self._reading_valid_for() / 2
        attempt.must_reread = stale and attempt.readings < MAX_READINGS
        return attempt.must_reread

    def _reading_valid_for(self) -> float:
        registry = current_registry(self.watch, self.run)
        return READING_VALID_FOR if registry is None else max(READING_VALID_FOR, 4 / registry.rate.requests_per_second)

    def _record_intents(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Record intents, and every outcome not recorded yet. Returns the attempts that have an intent now.

        The same transaction checks the lease, the run's state, the plan's age, holds, pauses, rechecks and owners; the
        mode is read just before. If the run may delete nothing more, the batch halts. Raises LeaseLostError.
        """
        self._permission_read_at = time.monotonic()
        registry = permitted_registry(self.watch, self.run, self.claim.repository) if attempts else ""
        if isinstance(registry, str):
            for attempt in attempts:
                skipped = outcomes.after_objection(attempt.item, Outcome("skipped", "mode", registry))
                self.recorder.add(attempt.item, skipped)
            self.recorder.record()
            return []
        with self.store.write() as connection:
            clock = read_store_clock(lambda: datetime.now(UTC), self.store, connection)
            run = run_rows.get(connection, self.run.id, lock=True)
            sweeping.renew(connection, self.claim, clock.at, clock.at + self.lease)
            clock_error = disagreement([clock])
            if run is None or run.state != "deleting" or run.stop is not None:
                self.halted.set()
            elif (stop := ("failed", clock_error) if clock_error else late(run, registry, clock.at)) is not None:
                run_rows.request_stop(connection, run.id, *stop)
                self.halted.set()
            else:
                self._write_intents(connection, registry, attempts, clock.at)
            recorded = self.recorder.write_outcomes(connection, clock.at)
        self.recorder.mark_recorded(recorded)
        return [attempt for attempt in attempts if attempt.idempotency_key]

    def _write_intents(
        self, connection: Connection, registry: RegistrySettings, attempts: Sequence[Attempt], now: datetime
    ) -> None:
        numbers = [attempt.item.number for attempt in attempts]
        stop_reasons = sweeping.items_in_states(connection, self.run.id, numbers, ("planned", "intent"))
        attempts = [attempt for attempt in attempts if attempt.item.number in stop_reasons]  # others are final
        if not attempts:
            return
        self._pause_and_holds = pause, active_holds = self._read_pause_and_holds(connection, now)
        items = [attempt.item for attempt in attempts]
        objections = self._objections(connection, registry, items, pause, active_holds, stop_reasons)
        intended = []
        for attempt in attempts:
            if (objection := objections.get(attempt.item.number)) is not None:
                self.recorder.add(attempt.item, outcomes.after_objection(attempt.item, objection))
                continue
            # A key is used again only while the outcome of the request that it was sent with is unknown.
            old = attempt.item.idempotency_key if attempt.item.state == "intent" else None
            attempt.idempotency_key = old or str(uuid4())
            intended.append(attempt)
        self._intended_numbers = [attempt.item.number for attempt in intended]
        sweeping.record_intents(connection, [(attempt.item, attempt.idempotency_key) for attempt in intended], now)
        saved = [(attempt.item, attempt.saved) for attempt in intended if attempt.saved is not None]
        undo.save(connection, self.run.registry, self.run.registry_key, saved, now)

    def _read_pause_and_holds(self, connection: Connection, now: datetime) -> tuple[holds.Pause | None, Holds]:
        names = self.run.registry, self.run.registry_key
        return holds.paused(connection, *names), holds.active(connection, *names, now)

    def _objections(
        self,
        connection: Connection,
        registry: RegistrySettings,
        items: Sequence[Item],
        pause: holds.Pause | None,
        active_holds: Holds,
        stop_reasons: Mapping[int, str | None],
    ) -> dict[int, Outcome]:
        """By item number, the objection to its deletion. `stop_reasons`: by item number, the objection of a recheck."""
        path, images = self.claim.repository, {item.digest: item.image for item in items}
        if active_holds.holds and self.live_check is not None:
            images |= {image.digest: image for item in items for image in self.live_check.with_children(item)}
        held = active_holds.reasons(path, tuple(images.values())) if active_holds.holds else {}
        unsettled: Mapping[str, str] = {}
        if registry.settle > self.run.terms.settle:
            history = {path: scan_history.load_repository(connection, registry.history_key, path)}
            context = PlanContext(history=history, settle=registry.settle)
            planned_images = [item.image for item in items]
            unsettled = context.unsettled(path, planned_images, self.run.started_at or self.run.opened_at)
        gone = rechecks.deleted_digests(
            connection, self.run.id, path, {owner for item in items for owner in item.owners}
        )
        objections: dict[int, Outcome] = {}
        for item in items:
            if (why := unsettled.get(item.digest)) is not None:
                objection = Outcome("skipped", "mode", f"settle was raised since the plan: {why}")
            elif pause is not None:
                objection = Outcome("skipped", "paused", pause.sentence())
            elif (why := held.get(item.digest)) is not None:
                objection = Outcome("skipped", "held", why)
            elif (used := self._in_use(item)) is not None:
                objection = used
            elif (why := stop_reasons[item.number]) is not None:
                objection = Outcome("skipped", "still_needed", why)
            elif needed := next((owner for owner in item.owners if owner not in gone), None):
                objection = Outcome("skipped", "still_needed", f"{needed}, which needs it, was not deleted")
            else:
                continue
            objections[item.number] = objection
        return objections

    def _send_all(self, attempts: Sequence[Attempt]) -> None:
        """Send each deletion while it is permitted. The permission is read again at least once a second."""
        self.limiter.deletions_until = self._permission_read_at + PERMISSION_VALID_FOR
        try:
            if time.monotonic() - self._permission_read_at > PERMISSION_VALID_FOR / 2:  # the store was slow
                self._renew_permission()
            self._run_in_threads(self._send, attempts, meanwhile=self._renew_permission)
        finally:
            self.limiter.deletions_until = float("inf")

    def _renew_permission(self) -> None:
        """Permit deletions for another second if their intents are still permitted. Raises StoreError."""
        began = time.monotonic()
        self.limiter.deletions_until = began + PERMISSION_VALID_FOR if self._are_intents_permitted() else 0.0
        if self._must_stop():  # the batch may have halted meanwhile
            self.limiter.deletions_until = 0.0

    def _are_intents_permitted(self) -> bool:
        """Whether file, lease, run, pauses, holds and rechecks still permit the last intents. Raises StoreError."""
        if isinstance(permitted_registry(self.watch, self.run, self.claim.repository), str):
            return False
        with self.store.read() as connection:
            run = run_rows.get(connection, self.run.id)
            is_leased = leases.holds(connection, self.claim.lease, lock=False)
            if run is None or run.state != "deleting" or run.stop is not None or not is_leased:
                self.halted.set()
                return False
            if any(sweeping.items_in_states(connection, self.run.id, self._intended_numbers, lock=False).values()):
                return False  # a recheck found an image that needs one of them
            return self._read_pause_and_holds(connection, self.store.now(connection)) == self._pause_and_holds

    def _send(self, attempt: Attempt) -> None:
        item = attempt.item
        with self._send_lock:  # nothing is sent once the batch is halted
            if self._must_stop():
                return
            attempt.unsent = False
        try:
            # Each reading is valid for longer: otherwise a chunk that is too large would delete nothing.
            not_after = attempt.read_at + attempt.readings * self._reading_valid_for()
            deletion = self.registry.delete(item.repository, item.image, attempt.idempotency_key, not_after=not_after)
        except RegistryError as error:
            stopped = isinstance(error, RateLimitedError) and time.monotonic() >= self.limiter.deletions_until
            too_late = isinstance(error, TooLateError) or stopped  # while it waited for a retry
            again = too_late or (attempt.readings < MAX_READINGS and self.is_available_again(error))
            if again and not error.maybe_done:
                attempt.unsent = attempt.must_reread = True
            elif not (error.maybe_done and self._is_explained_by_outage(error)):
                self._settle_error(item, "delete", error)
            return
        attempt.deletion = deletion
        reach("delete_sent")
        if deletion.done:
            self._settle_deleted(item, deletion)

    def _follow(self, attempt: Attempt) -> None:
        """Poll the operation of an accepted deletion until it ends, or the time for it is over."""
        item, deletion = attempt.item, attempt.deletion
        if deletion is None:
            return
        seconds = min(IMAGE_SECONDS / 2, FOLLOW_SHARE * self.lease.total_seconds())
        try:
            deletion = self.registry.follow(deletion, time.monotonic() + seconds)
        except RegistryError as error:
            if not self._is_explained_by_outage(error):
                self._settle_error(item, "follow", error)
            return
        if deletion.done:
            self._settle_deleted(item, deletion)
        elif deletion.failing is not None:
            self._settle_error(item, "follow", deletion.failing)
        elif self._is_last(item, "follow"):
            message = f"operation {deletion.operation_id} did not end"
            self.recorder.add(item, Outcome("failed", "unconfirmed", message))
        else:
            self.can_continue = True  # the operation is polled again after the other batches

    def _settle_deleted(self, item: Item, deletion: Deletion) -> None:
        """Settle a deletion that is done. Unplanned losses stop the run before the outcome is recorded."""
        reach("operation_done")
        self._one_at_a_time = False
        lost: tuple[str, ...] = ()
        with suppress(RegistryError, LimiterUnavailableError):  # else the verification checks the children
            lost = self.live_check.lost_children(item) if self.live_check else ()
        self._stop_for(item, (*deletion.collateral_tags, *lost))
        if deletion.raced:
            with self.store.write() as connection:
                if (run := run_rows.get(connection, self.run.id, lock=True)) is not None:
                    run_rows.record_raced_push(connection, run, item.repository, item.digest, deletion.raced)
                    sweeping.add_to_tally(connection, self.run.registry, "raced_pushes", "", len(deletion.raced))
        self.recorder.add(item, outcomes.deleted(deletion))

    def _settle_error(self, item: Item, phase: Phase, error: RegistryError) -> None:
        """Settle an error. A refusal is set aside until another image is tried, or the registry deletes."""
        self._stop_for(item, error.collateral_tags)
        if outcomes.is_refusal(item, phase, error):
            if (refused := refusals.set_aside(self.store, self.run, item, error)) is not None:
                self.recorder.add(item, refused)
            else:
                self.can_continue = True
                self._halt()
            return
        outcome = outcomes.after_error(item, phase, error, last=self._is_last(item, phase))
        if isinstance(outcome, Missing):
            self.missing.append((item, outcome))
        elif outcome is not None:
            self.recorder.add(item, outcome)
        if count_failure(self.store, self.run, error, first=error.systemic and self.recorder.end_healthy_period()):
            self._halt()

    def _stop_for(self, item: Item, collateral_tags: tuple[str, ...]) -> None:
        """Stop the run if the registry deleted tags or children that the plan keeps."""
        if not collateral_tags:
            return
        with self.store.write() as connection:
            planned = rechecks.names_to_delete(connection, self.run.id, item.repository)
            if unplanned := tuple(name for name in collateral_tags if name not in planned):
                message = outcomes.collateral_tags_text(item, unplanned)
                run_rows.request_stop(connection, self.run.id, "hopeless", message)
                self._halt()

    def _is_last(self, item: Item, phase: Phase) -> bool:
        """Whether no later claim can resolve an unknown outcome of this item."""
        waited = item.intent_at is not None and datetime.now(UTC) - item.intent_at > UNKNOWN_RESULT_LEASES * self.lease
        return self.is_last_claim or waited or (phase != "follow" and item.attempts + 1 >= ATTEMPTS)

    def is_available_again(self, error: RegistryError) -> bool:
        """Whether a registry that was unavailable answers again, after one wait for all threads. False at once for an
        error that is no UnavailableError, and if the batch must stop. Raises LimiterUnavailableError.
        """
        if not isinstance(error, UnavailableError) or self._must_stop():
            return False
        return self._outage.is_over(time.monotonic(), self.began_at + START_NO_IMAGE_AFTER)

    def _is_explained_by_outage(self, error: RegistryError) -> bool:
        """Whether an outage that has ended explains an error: the next claim resolves the deletion, without a wait."""
        if self.is_available_again(error) and self._outage.was_seen:
            self.can_continue = True
            return True
        return False

    def _run_in_threads(
        self,
        step: Callable[[Attempt], None],
        attempts: Sequence[Attempt],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Run a step for each attempt; then raise the first error of any. Calls `meanwhile` every half second."""

        def guarded(attempt: Attempt) -> None:
            try:
                step(attempt)
            except LimiterUnavailableError:
                self.halted.set()
            except BaseException:
                self.halted.set()  # for example, the store is unavailable: no thread may delete anything
                raise

        futures: list[Future[None]] = []
        try:
            for attempt in attempts:
                futures.append(self._pool.submit(guarded, attempt))
            while meanwhile is not None and wait(futures, timeout=PERMISSION_VALID_FOR / 2).not_done:
                meanwhile()
        except BaseException:
            self._halt()
            raise
        finally:
            try:
                wait(futures)
            except BaseException:  # the time limit of the task: threads end their steps and begin no other
                self._halt()
                wait(futures)
                raise
            for future in futures:
                future.result()

    def _elapsed(self) -> float:
        return time.monotonic() - self.began_at

    def _must_stop(self) -> bool:
        """Whether no further step may begin, not even for an image of the current chunk."""
        stopped = self.halted.is_set() or self.lease_lost.is_set()
        return stopped or self._elapsed() > START_NO_IMAGE_AFTER + IMAGE_SECONDS / 2

    def _halt(self) -> None:
        """Begin no further step, and send no deletion that waits for the rate limit."""
        with self._send_lock:
            self.halted.set()
        self.limiter.deletions_until = 0.0
