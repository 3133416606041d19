"""One claimed batch at work: the one place that deletes.

Each image is read again and compared, its intent recorded, deleted, followed, its outcome recorded.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from worker.registries.errors import (
    LimiterUnavailableError,
    NotFoundError,
    RegistryError,
    TooLateError,
    UnavailableError,
)
from worker.registries.interface import DeletesByParts, Deletion, Kept, Registry, Restores
from worker.runs.checkpoints import reach
from worker.runs.circuit_breaker import count_failure
from worker.runs.current_settings import Watch, registry_now
from worker.store import Store, sweeping, undo
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Claim, Item, LeaseLostError, StoppedError
from worker.sweep import absence, events, outcomes, refusals
from worker.sweep.intents import Intents
from worker.sweep.outage import Outage
from worker.sweep.outcomes import ATTEMPTS, Missing, Outcome, Phase
from worker.sweep.surroundings import Surroundings

START_NO_IMAGE_AFTER = 45.0  # seconds into a batch
CONFIRM_NOTHING_AFTER = 65.0  # seconds into a batch: a listing may take a while
LISTED_BY = 80.0  # seconds into a batch
IMAGE_SECONDS = 30.0  # for one image: half of it until its DELETE is begun, the rest for following its operation
READING_IS_GOOD = 3.0  # seconds from an image's reading to its DELETE; at a slow rate, four turns
READ_AGAIN_AFTER = 1.5  # seconds: who has asked that long for others reads the image anew
READINGS = 3  # of one image in one claim, where its turn came too late
FOLLOW_SHARE = 0.25  # of a lease an operation is waited for at most; the next claim asks again
PATIENCE_LEASES = 5  # how many leases a begun deletion may stay in doubt before it is `unconfirmed`


@dataclass(slots=True)
class Batch:
    """One claimed batch at work: several threads, each with one image at a time."""

    store: Store
    watch: Watch
    run: Run
    held: Claim
    registry: Registry
    lease: timedelta
    resolving: str  # why nothing new is deleted: only what was begun is brought to its end; empty: it is
    known_tags: Mapping[str, str]  # of the repository -> what they named when the plan was made
    surroundings: Surroundings | None  # None: nothing new is deleted
    intents: Intents
    lost: threading.Event = field(default_factory=threading.Event)
    halted: threading.Event = field(default_factory=threading.Event)  # nothing further is begun
    accepted: threading.Event = field(default_factory=threading.Event)  # the registry takes deletions of this run
    go_on: bool = False  # what is left of the batch may go on at once, behind others
    out_of_time: bool = False
    missing: list[tuple[Item, Missing]] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)
    last: bool = False  # no later claim asks what became of what was begun
    outage: Outage = field(init=False)

    def __post_init__(self) -> None:
        self.outage = Outage(self.registry)

    def carry_out(self, items: list[Item], threads: int) -> None:
        """Take every item as far as it gets. Raises StoreError, once every thread has stopped."""
        left = self._before_the_first(items)
        with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="delete") as pool:
            futures = [pool.submit(self._one, item) for item in left]
            try:
                wait(futures)
            except BaseException:  # the task's time limit: every thread ends the step it is at, and begins no other
                self.halted.set()
                raise
        for future in futures:
            future.result()
        if self.missing and self._seconds() < CONFIRM_NOTHING_AFTER:
            self._confirm_missing()

    def _before_the_first(self, items: list[Item]) -> list[Item]:
        """Take one image at a time until the registry accepts a deletion in this repository; the rest.

        Where it accepts none, a refusal costs one request, and another image is tried before the next.
        """
        if self.resolving:
            return items
        given_up = refusals.given_up(self.store, self.run, self.held.repository)
        if given_up is not False:
            return self._give_up(items, settled=bool(given_up))
        if refusals.deletes_in(self.store, self.run, self.held.repository):
            return items
        if any(item.refused is not None for item in items):
            items = refusals.spread(items)
        for at, item in enumerate(items):
            if self.accepted.is_set():
                return items[at:]
            self._one(item)
        return []

    def _give_up(self, items: list[Item], *, settled: bool) -> list[Item]:
        """What was begun; the rest of a repository that has refused every try waits, or has failed if that settled."""
        for item in items:
            if settled and item.state == "planned" and item.refused is None:
                self._record(item, outcomes.not_tried(refusals.MOST_TRIES))
        return [item for item in items if item.state != "planned"]

    def _seconds(self) -> float:
        return time.monotonic() - self.begun

    def _one(self, item: Item) -> None:
        if self._seconds() > START_NO_IMAGE_AFTER:
            self.out_of_time = True
            return
        if self.halted.is_set() or self.lost.is_set() or (self.resolving and item.state == "planned"):
            return
        if item.refused is not None:
            return  # `refusals` settles it
        try:
            self._take(item)
        except (StoppedError, LeaseLostError, LimiterUnavailableError):
            self.halted.set()
        except BaseException:
            self.halted.set()  # the store is away: no other thread is to delete anything either
            raise

    def _take(self, item: Item) -> None:
        if item.state == "accepted":
            self._follow(item, Deletion(item.operation_id or "", done=False, of=(item.repository, item.image)))
            return
        if item.state == "planned" and self.surroundings and (known := self.surroundings.refusal_of_all(item)):
            self._record(item, known)
            return
        for reading in range(1, READINGS + 1):
            if self._ends() or self._delete(item, reading):
                return

    def _ends(self) -> bool:
        """Whether nothing further is to be begun, not even of an image at work."""
        return self.halted.is_set() or self.lost.is_set() or self._seconds() > START_NO_IMAGE_AFTER + IMAGE_SECONDS / 2

    def _delete(self, item: Item, reading: int) -> bool:
        """Read again, intend, delete, follow: the order of these lines is the promise of this program.

        False: it must be read again, as its turn to be deleted came so late, or the registry was away for a while.
        """
        begun = time.monotonic()
        try:
            kept = self._kept(item)
            outcome, read_at = self._read(item)
            in_time = read_at - begun < IMAGE_SECONDS / 2
            if outcome is None and in_time and not self.resolving:
                outcome = self._objection(item)
                if outcome is None and time.monotonic() - read_at > READ_AGAIN_AFTER:  # it has taken its time
                    outcome, read_at = self._read(item)
        except RegistryError as error:
            if reading < READINGS and self.is_back(error):
                return False
            self._settle_error(item, "read", error)
            return True
        if outcome is not None:
            self._record(item, outcome)
        elif self.resolving:
            self._record(item, outcomes.still_there(self.resolving))
        elif in_time and not self._ends() and (key := self._cleared(item, kept)) is not None:
            reach("intent_recorded")
            try:
                not_after = read_at + reading * self._good_for()  # longer each time: else a crowd would delete nothing
                deletion = self.registry.delete(item.repository, item.image, key, not_after=not_after)
            except RegistryError as error:
                again = isinstance(error, TooLateError) or (reading < READINGS and self.is_back(error))
                if again and not error.maybe_done:
                    self.intents.withdraw(item)
                    return False
                if error.maybe_done and self._was_away(error):
                    return True
                self._settle_error(item, "delete", error)
                return True
            reach("delete_sent")
            with self.store.write() as connection:
                sweeping.record_accepted(connection, item, deletion.operation_id, self.store.now(connection))
            self.accepted.set()
            reach("operation_accepted")
            self._follow(item, deletion)
        return True

    def _read(self, item: Item) -> tuple[Outcome | None, float]:
        """What an image's reading says against its deletion, and when it was read. Raises RegistryError."""
        now = self.registry.get(item.repository, item.image, self.known_tags)
        reach("image_read_again")
        by_parts = isinstance(self.registry, DeletesByParts)
        return outcomes.not_as_planned(item, now, by_parts=by_parts), time.monotonic()

    def _objection(self, item: Item) -> Outcome | None:
        """What evidence and other images say against a deletion; None: nothing. Raises RegistryError."""
        found = self.intents.used(item) or (self.surroundings and self.surroundings.refusal(item))
        return self._of_state(item, found) if found else None

    def _cleared(self, item: Item, kept: Kept | None) -> str | None:
        """The idempotency key of an item, its intent recorded; None: something speaks against it, and it is settled.

        Raises StoppedError, LeaseLostError.
        """
        found = self.intents.record(item, kept)
        if isinstance(found, Outcome):
            self._record(item, self._of_state(item, found))
            return None
        return found

    def _of_state(self, item: Item, found: Outcome) -> Outcome:
        """What was begun may go all the same."""
        return found if item.state == "planned" else outcomes.still_there(found.message or "")

    def _kept(self, item: Item) -> Kept | None:
        """What is needed to put an image back, where its registry takes it back and the store has it not yet.

        Raises RegistryError: what cannot be kept is not deleted.
        """
        if self.resolving or not isinstance(self.registry, Restores):
            return None
        with self.store.read() as connection:
            if undo.is_kept(connection, item):
                return None
        try:
            return self.registry.keep(item.repository, item.digest)
        except NotFoundError:
            self.registry.get(item.repository, item.image, self.known_tags)  # which asks for its tags as well
            raise

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

    def _good_for(self) -> float:
        registry = registry_now(self.watch, self.run)
        return READING_IS_GOOD if registry is None else max(READING_IS_GOOD, 4 / registry.rate.requests_per_second)

    def _follow(self, item: Item, deletion: Deletion) -> None:
        if not deletion.done:
            patience = min(IMAGE_SECONDS / 2, FOLLOW_SHARE * self.lease.total_seconds())
            try:
                deletion = self.registry.follow(deletion, time.monotonic() + patience)
            except RegistryError as error:
                if not self._was_away(error):
                    self._settle_error(item, "follow", error)
                return
        if deletion.done:
            reach("operation_done")
            self._record_deleted(item, deletion)
            reach("outcome_recorded")
        elif deletion.failing is not None:
            self._settle_error(item, "follow", deletion.failing)
        elif self._is_last(item, "follow"):
            self._record(item, outcomes.never_ended(deletion.operation_id))
        else:
            self.go_on = True  # it is asked again as soon as others had their turn

    def _record_deleted(self, item: Item, deletion: Deletion) -> None:
        """Record a deletion, and what its registry noticed beside it."""
        self._stop_for(item, (*deletion.strays, *self._lost_children(item)))
        self._record(item, outcomes.deleted(deletion))
        if not deletion.raced:
            return
        with self.store.write() as connection:
            run = run_rows.get(connection, self.run.id, lock=True)
            if run is not None:
                run_rows.note_raced(connection, run, item.repository, item.digest, deletion.raced)
                sweeping.add_to_tally(connection, self.run.registry, "raced_pushes", "", len(deletion.raced))

    def _lost_children(self, item: Item) -> tuple[str, ...]:
        try:
            return () if self.surroundings is None else self.surroundings.lost_children(item)
        except (RegistryError, LimiterUnavailableError):
            return ()  # the verification looks again

    def _stop_for(self, item: Item, strays: tuple[str, ...]) -> None:
        """Stop the run for what went along and nobody had planned: before anything else is written."""
        if not strays:
            return
        with self.store.write() as connection:
            planned = sweeping.planned_names(connection, self.run.id, item.repository)
            if unplanned := tuple(name for name in strays if name not in planned):
                run_rows.ask_to_stop(connection, self.run.id, "hopeless", outcomes.strayed(item, unplanned))
                self.halted.set()

    def _is_last(self, item: Item, phase: Phase) -> bool:
        """Whether doubt about it ends with this claim."""
        waited = item.intent_at is not None and datetime.now(UTC) - item.intent_at > PATIENCE_LEASES * self.lease
        return self.last or waited or (phase != "follow" and item.attempts + 1 >= ATTEMPTS)

    def _settle_error(self, item: Item, phase: Phase, error: RegistryError) -> None:
        self._stop_for(item, error.strays)
        if outcomes.is_refusal(item, phase, error):
            self._refused(item, error)
            return
        found = outcomes.after_error(item, phase, error, last=self._is_last(item, phase))
        if isinstance(found, Missing):
            self.missing.append((item, found))
        elif found is not None:
            self._record(item, found)
        if count_failure(self.store, self.run, error):
            self.halted.set()

    def _refused(self, item: Item, error: RegistryError) -> None:
        """Set a refused image aside until another was tried, or skip it where the registry deletes others."""
        if (outcome := refusals.set_aside(self.store, self.run, item, error)) is not None:
            self._record(item, outcome)
            return
        self.go_on = True
        self.halted.set()

    def _confirm_missing(self) -> None:
        """One listing speaks for every image of the batch that was not found."""
        lister = ThreadPoolExecutor(1, "confirm")
        digests = {item.digest for item, _ in self.missing}
        listing = lister.submit(
            absence.still_there, self.registry, self.store, self.run.id, self.held.repository, digests
        )
        try:
            there = listing.result(timeout=LISTED_BY - self._seconds())
        except RegistryError as error:
            for item, _ in self.missing:
                self._record(item, outcomes.without_listing(str(error)))
        except absence.UnbelievableError as error:
            for item, _ in self.missing:
                self._record(item, outcomes.unbelievable(str(error)))
        except TimeoutError:
            for item, _ in self.missing:
                if self._is_last(item, "read"):
                    self._record(item, outcomes.without_listing("it took too long"))
        except LimiterUnavailableError:
            return
        else:
            for item, missing in self.missing:
                self._record(item, outcomes.after_listing(missing, listed=item.digest in there))
        finally:
            lister.shutdown(wait=False)  # a listing that still runs ends when the registry is closed

    def _record(self, item: Item, outcome: Outcome) -> None:
        """Record an outcome. Raises LeaseLostError.

        That an image was deleted is a fact, whoever holds the lease by now; what else becomes of it is for the holder.
        """
        with self.store.write() as connection:
            now = self.store.now(connection)
            run_rows.get(connection, self.run.id, lock=True)
            if outcome.state != "deleted":
                sweeping.renew(connection, self.held, now, now + self.lease)
            settled = sweeping.record_outcome(connection, item, outcome.state, outcome.cause, outcome.message, now)
        if settled:
            events.image_settled(self.run.registry, item, outcome)

    def poison(self, items: list[Item]) -> None:
        """Give up what was never begun of a batch over which workers die."""
        message = f"workers died over this batch {self.held.takeovers} times"
        for item in items:
            if item.state == "planned":
                self._record(item, Outcome("failed", "poison", message))
