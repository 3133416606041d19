"""One claimed batch at work: the one place that deletes.

It works in chunks: images are read again side by side and compared, their intents recorded in one transaction, their
deletions sent side by side, their outcomes recorded in one transaction. `Batch._chunk` is the whole story.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

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
from worker.runs.terms import Watch, current_registry
from worker.store import Store, rechecks, sweeping, undo
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Claim, Item, LeaseLostError, Outcome
from worker.sweep import absence, outcomes, refusals
from worker.sweep.intents import Intents
from worker.sweep.live_check import LiveCheck
from worker.sweep.outage import OutageWait
from worker.sweep.outcomes import ATTEMPTS, Missing, Phase
from worker.sweep.recording import Attempt, OutcomeRecorder

START_NO_IMAGE_AFTER = 45.0  # seconds into a batch
CONFIRM_NOTHING_AFTER = 65.0  # seconds into a batch: a listing may take a while
LISTED_BY = 80.0  # seconds into a batch
IMAGE_SECONDS = 30.0  # for one image: half of it until its DELETE is begun, the rest for following its operation
READING_IS_GOOD = 3.0  # seconds from an image's reading to its DELETE; at a slow rate, four turns
READ_AGAIN_AFTER = 1.5  # seconds: who has asked that long for others reads the image anew
READINGS = 3  # of one image in one claim, where its turn came too late
PERMISSION_IS_GOOD = 1.0  # seconds for which a reading of the run, the file, pauses and holds lets deletions be sent
FOLLOW_SHARE = 0.25  # of a lease an operation is waited for at most; the next claim asks again
PATIENCE_LEASES = 5  # how many leases a begun deletion may stay in doubt before it is `unconfirmed`


@dataclass(slots=True)
class Batch:
    """One claimed batch at work: chunk after chunk, each of as many threads as it has images."""

    store: Store
    watch: Watch
    run: Run
    held: Claim
    registry: Registry
    pace: BoundedLimiter
    lease: timedelta
    resolving: str  # why nothing new is deleted: only what was begun is brought to its end; empty: it is
    known_tags: Mapping[str, str]  # of the repository -> what they named when the plan was made
    live_check: LiveCheck | None  # None: nothing new is deleted
    intents: Intents
    results: OutcomeRecorder
    most: int  # images of a chunk
    lost: threading.Event = field(default_factory=threading.Event)
    go_on: bool = False  # what is left of the batch may go on at once, behind others
    out_of_time: bool = False
    missing: list[tuple[Item, Missing]] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    last: bool = False  # no later claim asks what became of what was begun
    halted: threading.Event = field(init=False)  # nothing further is begun
    outage: OutageWait = field(init=False)
    _pool: ThreadPoolExecutor = field(init=False)
    _gate: threading.Lock = field(default_factory=threading.Lock)  # past it, a deletion counts as sent
    _alone: bool = False  # one image at a time: the registry has not accepted a deletion in this repository yet
    _saved: Collection[int] = ()  # numbers of items that the store can put back

    def __post_init__(self) -> None:
        self.halted, self.outage = self.intents.halted, OutageWait(self.registry)

    def carry_out(self, items: list[Item]) -> None:
        """Take every item as far as it gets. Raises StoreError, once every thread has stopped."""
        todo = [Attempt(item) for item in self._in_order(items) if item.refused is None]  # else `refusals` settles it
        todo.sort(key=lambda work: work.item.state == "planned")  # what was begun comes first
        if isinstance(self.registry, Restores):
            with self.store.read() as connection:
                self._saved = undo.restorable_items(connection, self.run.id, [work.item.number for work in todo])
        size = self.most
        with ThreadPoolExecutor(self.most, thread_name_prefix="delete") as self._pool:
            while todo and not (self.halted.is_set() or self.lost.is_set()):
                if self._seconds() > START_NO_IMAGE_AFTER:
                    self.out_of_time = True
                    break
                if not self.run.deleted and todo[0].item.state == "planned" and self._gives_way():
                    self.go_on |= bool(self.missing) or not self._alone  # the first's outcome is known, or soon
                    break
                at = 1 if self._alone else size
                try:
                    again = self._chunk(todo[:at])
                except LeaseLostError:
                    self.lost.set()
                    break
                todo = again + todo[at:]
                # What grew too old was read beside too many others for the rate, or for this machine.
                size = max(1, size // 2) if again else min(self.most, size * 2)
        seconds = LISTED_BY - self._seconds()
        if self.missing and seconds > LISTED_BY - CONFIRM_NOTHING_AFTER and not self.lost.is_set():
            where = (self.registry, self.store, self.run.id, self.held.repository)
            with suppress(LimiterUnavailableError):
                is_last = partial(self._is_last, phase="read")
                for item, outcome in absence.outcomes_of(*where, self.missing, seconds, is_last):
                    self.results.settle(item, outcome)
                self.results.record()

    def _gives_way(self) -> bool:
        """Whether the run's first deletion, which goes alone, has no outcome yet, or has one that others wait for."""
        with self.store.read() as connection:
            if self._alone:
                return self.held.batch in sweeping.batches_in_progress(connection, self.run.id)
            return sweeping.has_postponed_batches(connection, self.run.id)

    def _in_order(self, items: list[Item]) -> list[Item]:
        """What is to be tried, in which order. Until a repository's first deletion is accepted, one at a time: where
        none is, a refusal costs one request, and another image is tried before the next.
        """
        if self.resolving:
            return [item for item in items if item.state != "planned"]
        given_up = refusals.given_up(self.store, self.run, self.held.repository)
        if given_up is not False:  # what was begun; the rest waits, or has failed if that settled
            rest = [item for item in items if item.state == "planned" and item.refused is None]
            if given_up:
                self.results.record_all(rest, outcomes.not_tried(refusals.MOST_TRIES))
            return [item for item in items if item.state != "planned"]
        self._alone = not refusals.deletes_in(self.store, self.run, self.held.repository)
        refused = any(item.refused is not None for item in items)
        return refusals.spread(items) if self._alone and refused else items

    def _chunk(self, chunk: Sequence[Attempt]) -> list[Attempt]:
        """Read again, intend, delete, record, follow, record: the order of these lines is the promise of this program.

        Those that must be read again. Raises StoreError, LeaseLostError.
        """
        for work in chunk:
            work.begin()
        begun = [work for work in chunk if work.item.state == "accepted"]  # before, by another claim
        self._side_by_side(self._reread, [work for work in chunk if work not in begun])
        reach("chunk_read_again")
        clear = [work for work in chunk if work.clear and not self._is_stale(work)]
        intended = self.intents.record([] if self._ends() else clear, self.results)
        try:
            if intended:
                reach("intent_recorded")
                self._send_all(intended)
                reach("chunk_sent")
        finally:  # what the registry has accepted is true, whatever else went wrong
            self.results.record(intended)
        if any(work.deletion is not None for work in intended):
            reach("operation_accepted")
        try:
            self._side_by_side(self._follow, [work for work in (*begun, *intended) if work.is_unfinished])
        finally:
            self.results.record()
        return [work for work in chunk if work.again and work.readings < READINGS]

    def _side_by_side(
        self, step: Callable[[Attempt], None], works: Sequence[Attempt], meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Take a step with each. Raises what one of them raised, once all have ended. `meanwhile`: twice a second."""
        futures: list[Future[None]] = []
        try:
            for work in works:
                futures.append(self._pool.submit(self._guarded, step, work))
            while meanwhile is not None and wait(futures, timeout=PERMISSION_IS_GOOD / 2).not_done:
                meanwhile()
        except BaseException:
            self._halt()
            raise
        finally:
            self._wait(futures)

    def _guarded(self, step: Callable[[Attempt], None], work: Attempt) -> None:
        try:
            step(work)
        except LimiterUnavailableError:
            self.halted.set()
        except BaseException:
            self.halted.set()  # the store is away: no other thread is to delete anything either
            raise

    def _wait(self, futures: Sequence[Future[None]]) -> None:
        try:
            wait(futures)
        except BaseException:  # the task's time limit: every thread ends the step it is at, and begins no other
            self._halt()
            wait(futures)
            raise
        for future in futures:
            future.result()

    def _seconds(self) -> float:
        return time.monotonic() - self.begun

    def _ends(self) -> bool:
        """Whether nothing further is to be begun, not even of an image at work."""
        return self.halted.is_set() or self.lost.is_set() or self._seconds() > START_NO_IMAGE_AFTER + IMAGE_SECONDS / 2

    def _reread(self, work: Attempt) -> None:
        """Read an image again, with what is needed to put it back, and ask what evidence and others say against it."""
        item, begun = work.item, time.monotonic()
        if self._ends():
            return
        if item.state == "planned" and self.live_check and (known := self.live_check.refusal_of_all(item)):
            self.results.settle(item, known)
            return
        work.readings += 1
        try:
            self._keep(work)
            outcome = self._read(work)
            in_time = work.read_at - begun < IMAGE_SECONDS / 2
            if outcome is None and in_time and not self.resolving:
                said = self.intents.used(item) or (self.live_check and self.live_check.refusal(item))
                outcome = outcomes.of_state(item, said) if said else None
                if outcome is None and time.monotonic() - work.read_at > READ_AGAIN_AFTER:  # it has taken its time
                    outcome = self._read(work)
        except RegistryError as error:
            work.again = work.readings < READINGS and self.is_back(error)
            if not work.again:
                self._settle_error(item, "read", error)
            return
        if outcome is None and self.resolving:
            outcome = outcomes.still_there(self.resolving)
        if outcome is not None:
            self.results.settle(item, outcome)
        work.clear = outcome is None and in_time

    def _keep(self, work: Attempt) -> None:
        """Have what is needed to put an image back, where its registry takes it back and the store has it not yet.

        Raises RegistryError: what cannot be kept is not deleted.
        """
        item = work.item
        if self.resolving or not isinstance(self.registry, Restores) or work.kept or item.number in self._saved:
            return
        try:
            work.kept = self.registry.save(item.repository, item.digest)
        except NotFoundError:
            self.registry.get(item.repository, item.image, self.known_tags)  # which asks for its tags as well
            raise

    def _read(self, work: Attempt) -> Outcome | None:
        """What an image's reading says against its deletion. Raises RegistryError."""
        now = self.registry.get(work.item.repository, work.item.image, self.known_tags)
        work.read_at = time.monotonic()
        reach("image_read_again")
        return outcomes.not_as_planned(work.item, now, by_parts=isinstance(self.registry, DeletesByParts))

    def _is_stale(self, work: Attempt) -> bool:
        """Whether others of the chunk took so long that an image's reading would hardly be good until its DELETE."""
        late = time.monotonic() - work.read_at > self._good_for() / 2
        work.again = late and work.readings < READINGS
        return work.again

    def _good_for(self) -> float:
        registry = current_registry(self.watch, self.run)
        return READING_IS_GOOD if registry is None else max(READING_IS_GOOD, 4 / registry.rate.requests_per_second)

    def _send_all(self, works: Sequence[Attempt]) -> None:
        """Have each deletion sent, as long as nothing has come up against them; read anew at least once a second."""
        self.pace.deletions_until = self.intents.asked_at + PERMISSION_IS_GOOD
        try:
            if time.monotonic() - self.intents.asked_at > PERMISSION_IS_GOOD / 2:  # the store has taken its time
                self._ask_again()
            self._side_by_side(self._send, works, meanwhile=self._ask_again)
        finally:
            self.pace.deletions_until = float("inf")

    def _ask_again(self) -> None:
        """Permit deletions for another second if what they were intended by still holds."""
        began = time.monotonic()
        self.pace.deletions_until = began + PERMISSION_IS_GOOD if self.intents.still_hold() else 0.0
        if self._ends():  # it may have come to that since it was asked
            self.pace.deletions_until = 0.0

    def _send(self, work: Attempt) -> None:
        item = work.item
        with self._gate:  # once the batch is halted, what is unsent stays so, whoever still waits for its thread
            if self._ends():
                return
            work.unsent = False
        try:
            # Longer each time: else a crowd would delete nothing.
            not_after = work.read_at + work.readings * self._good_for()
            deletion = self.registry.delete(item.repository, item.image, work.key, not_after=not_after)
        except RegistryError as error:
            stopped = isinstance(error, RateLimitedError) and time.monotonic() >= self.pace.deletions_until
            too_late = isinstance(error, TooLateError) or stopped  # while it waited to be tried again
            again = too_late or (work.readings < READINGS and self.is_back(error))
            if again and not error.maybe_done:
                work.unsent = work.again = True
            elif not (error.maybe_done and self._was_away(error)):
                self._settle_error(item, "delete", error)
            return
        work.deletion = deletion
        reach("delete_sent")
        if deletion.done:
            self._end(work, deletion)

    def _follow(self, work: Attempt) -> None:
        """Wait for the end of an operation."""
        item, deletion = work.item, work.deletion
        if deletion is None:
            return
        seconds = min(IMAGE_SECONDS / 2, FOLLOW_SHARE * self.lease.total_seconds())
        try:
            deletion = self.registry.follow(deletion, time.monotonic() + seconds)
        except RegistryError as error:
            if not self._was_away(error):
                self._settle_error(item, "follow", error)
            return
        if deletion.done:
            self._end(work, deletion)
        elif deletion.failing is not None:
            self._settle_error(item, "follow", deletion.failing)
        elif self._is_last(item, "follow"):
            message = f"operation {deletion.operation_id} did not end"
            self.results.settle(item, Outcome("failed", "unconfirmed", message))
        else:
            self.go_on = True  # it is asked again as soon as others had their turn

    def _end(self, work: Attempt, deletion: Deletion) -> None:
        """A deletion is done. What went along and nobody had planned stops the run before anything else is written."""
        reach("operation_done")
        self._alone, item = False, work.item
        lost: tuple[str, ...] = ()
        with suppress(RegistryError, LimiterUnavailableError):  # else the verification looks again
            lost = self.live_check.lost_children(item) if self.live_check else ()
        self._stop_for(item, (*deletion.collateral_tags, *lost))
        if deletion.raced:
            with self.store.write() as connection:
                if (run := run_rows.get(connection, self.run.id, lock=True)) is not None:
                    run_rows.record_raced_push(connection, run, item.repository, item.digest, deletion.raced)
                    sweeping.add_to_tally(connection, self.run.registry, "raced_pushes", "", len(deletion.raced))
        self.results.settle(item, outcomes.deleted(deletion))

    def _stop_for(self, item: Item, collateral_tags: tuple[str, ...]) -> None:
        if not collateral_tags:
            return
        with self.store.write() as connection:
            planned = rechecks.names_to_delete(connection, self.run.id, item.repository)
            if unplanned := tuple(name for name in collateral_tags if name not in planned):
                run_rows.request_stop(
                    connection, self.run.id, "hopeless", outcomes.has_collateral_tags(item, unplanned)
                )
                self._halt()

    def is_back(self, error: RegistryError) -> bool:
        """Whether a registry that gave no answer answers again: it is waited for, once."""
        if not isinstance(error, UnavailableError) or self._ends():
            return False
        return self.outage.is_over(time.monotonic(), self.begun + START_NO_IMAGE_AFTER)

    def _was_away(self, error: RegistryError) -> bool:
        """Whether an outage explains an error, so that what it left in doubt can be asked about at once."""
        if self.is_back(error) and self.outage.was_seen:
            self.go_on = True
            return True
        return False

    def _is_last(self, item: Item, phase: Phase) -> bool:
        """Whether doubt about it ends with this claim."""
        waited = item.intent_at is not None and datetime.now(UTC) - item.intent_at > PATIENCE_LEASES * self.lease
        return self.last or waited or (phase != "follow" and item.attempts + 1 >= ATTEMPTS)

    def _settle_error(self, item: Item, phase: Phase, error: RegistryError) -> None:
        """What an error makes of an image. A refusal is set aside until another was tried, or the registry deletes."""
        self._stop_for(item, error.collateral_tags)
        if outcomes.is_refusal(item, phase, error):
            if (outcome := refusals.set_aside(self.store, self.run, item, error)) is not None:
                self.results.settle(item, outcome)
            else:
                self.go_on = True
                self._halt()
            return
        found = outcomes.after_error(item, phase, error, last=self._is_last(item, phase))
        if isinstance(found, Missing):
            self.missing.append((item, found))
        elif found is not None:
            self.results.settle(item, found)
        if count_failure(self.store, self.run, error, first=error.systemic and self.results.end_health()):
            self._halt()

    def _halt(self) -> None:
        """Nothing further is begun, and what waits for its turn is not sent."""
        with self._gate:
            self.halted.set()
        self.pace.deletions_until = 0.0
