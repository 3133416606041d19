"""Carries a plan out, batch by batch: the one place that deletes.

Each image of a batch is read again and compared, its intent recorded, deleted, followed, its outcome recorded. A batch
may be carried out twice, late, or never: only who holds its lease deletes, and what is done is never done again.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from uuid import uuid4

from policies.image import Image
from worker import runs
from worker.checkpoints import reach
from worker.config import RegistrySettings
from worker.config_watch import Watch, lease_now, mode_reason, registry_now
from worker.leases import Heartbeat, identity
from worker.registries import open_registry
from worker.registries.http import Patience
from worker.registries.interface import (
    Deletion,
    NotFoundError,
    OperationFailedError,
    PermissionDeniedError,
    RateLimitedError,
    ReadOnlyError,
    Registry,
    RegistryError,
    UsedByImageListsError,
)
from worker.registries.limiter import Limiter, LimiterUnavailableError
from worker.runs import Bell
from worker.spending import count_failure, spending
from worker.store import Store, StoreError, sweeping
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Claim, Final, Item, LeaseLostError, StoppedError

START_NO_IMAGE_AFTER = 45.0  # seconds into a batch
IMAGE_SECONDS = 30.0  # for one image: half of it until its DELETE is begun, the rest for following its operation
CALL_SECONDS = 8.0  # patience with one call, the wait for the rate not counted: a batch must end within its time limit
FOLLOW_SHARE = 0.25  # of a lease an operation is waited for at most; the next claim asks again
PATIENCE_LEASES = 5  # how many leases an accepted operation may take before it is `unconfirmed`
ATTEMPTS = 3  # intents of one item whose outcome stayed unknown
TAKEOVERS = 5  # expired leases of one batch before what is left of it is `poison`
_REFUSALS = (PermissionDeniedError, ReadOnlyError, RateLimitedError, OperationFailedError)  # the registry did nothing


def delete_batch(
    store: Store, watch: Watch, run_id: str, number: int, *, limiter: Limiter | None = None
) -> tuple[Bell, ...]:
    """Carry out one batch of a run. Raises StoreError: then nothing more was deleted."""
    run = runs.deleting(store, run_id)
    if run is None:
        return ()
    lease = lease_now(watch)
    with store.write() as connection:
        now = store.now(connection)
        held = sweeping.claim(connection, run_id, number, owner=identity(), now=now, until=now + lease)
        items = sweeping.unfinished_items(connection, run_id, number) if held else []
        looked_at = sweeping.looked_at(connection, run_id, held.repository) if held else None
    if held is None:
        return runs.ring(store, run_id, datetime.now(UTC)) if run.stop else ()
    reach("batch_claimed")
    if run.stop is None and (looked_at is None or now - looked_at >= runs.LOOK_IS_GOOD):
        _release(store, held)
        return (Bell("gc.look", (run_id, held.repository)),)
    reach("repository_listed_again")
    _carry_out(store, watch, run, held, items, limiter, lease)
    reach("batch_swept")
    return runs.ring(store, run_id, datetime.now(UTC))


def _release(store: Store, held: Claim) -> None:
    with store.write() as connection:
        sweeping.release(connection, held)


def _carry_out(
    store: Store, watch: Watch, run: Run, held: Claim, items: list[Item], limiter: Limiter | None, lease: timedelta
) -> None:
    def renew() -> bool:
        try:
            with store.write() as connection:
                now = store.now(connection)
                sweeping.renew(connection, held, now, now + lease)
        except LeaseLostError:
            return False
        return True

    registry = registry_now(watch, run.registry)
    if held.takeovers >= TAKEOVERS or registry is None:
        _give_up(store, held, items, registry)
        return
    patience = Patience(total=CALL_SECONDS)
    with open_registry(registry, limiter, patience) as opened, spending(store, run.registry, opened):
        work = _Batch(store, watch, run, held, opened, lease)
        with Heartbeat(lease, renew, forgiven=(StoreError,)) as heartbeat:
            work.lost = heartbeat.lost
            work.carry_out(items, _threads(registry))
    if not work.lost.is_set():
        _release(store, held)


def _threads(registry: RegistrySettings) -> int:
    """As many as may be in flight, but no more than the rate serves within a few seconds: nobody waits for long."""
    return max(1, min(registry.rate.concurrency, ceil(3 * registry.rate.requests_per_second)))


def _give_up(store: Store, held: Claim, items: list[Item], registry: RegistrySettings | None) -> None:
    """End a batch that kills its workers, or of a registry that nobody may talk to any more."""
    with store.write() as connection:
        now = store.now(connection)
        for one in items:
            if registry is not None:
                message = f"workers died over this batch {held.takeovers} times"
                sweeping.record_outcome(connection, one, "failed", cause="poison", message=message, now=now)
            elif one.state == "planned":
                message = mode_reason(registry)
                sweeping.record_outcome(connection, one, "skipped", cause="mode", message=message, now=now)
            else:
                message = "its deletion was begun, and " + mode_reason(registry)
                sweeping.record_outcome(connection, one, "failed", cause="unconfirmed", message=message, now=now)
        sweeping.release(connection, held)


@dataclass(slots=True)
class _Batch:
    """One claimed batch at work: several threads, each with one image at a time."""

    store: Store
    watch: Watch
    run: Run
    held: Claim
    registry: Registry
    lease: timedelta
    lost: threading.Event = field(default_factory=threading.Event)
    halted: threading.Event = field(default_factory=threading.Event)  # nothing further is begun
    missing: list[tuple[Item, bool]] = field(default_factory=list)  # not found; whether it may be our doing
    begun: float = field(default_factory=time.monotonic)

    def carry_out(self, items: list[Item], concurrency: int) -> None:
        """Take every item as far as it gets. Raises StoreError, once every thread has stopped."""
        with ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="delete") as pool:
            futures = [pool.submit(self._one, item) for item in items]
            try:
                wait(futures)
            except BaseException:  # the task's time limit: every thread ends the step it is at, and begins no other
                self.halted.set()
                raise
        for future in futures:
            future.result()
        if self.missing and not self.lost.is_set():
            self._confirm_missing()

    def _one(self, item: Item) -> None:
        if self.halted.is_set() or self.lost.is_set() or time.monotonic() - self.begun > START_NO_IMAGE_AFTER:
            return
        try:
            self._delete(item)
        except NotFoundError as error:
            self.missing.append((item, _is_ours(item, error)))
        except UsedByImageListsError as error:
            self._outcome(item, "skipped", "used_by_image_lists", str(error))
        except RegistryError as error:
            self._failed(item, error)
        except (StoppedError, LeaseLostError, LimiterUnavailableError):
            self.halted.set()
        except BaseException:
            self.halted.set()  # the store is away: no other thread is to delete anything either
            raise

    def _delete(self, item: Item) -> None:
        """Look again, intend, delete, follow: the order of these lines is the promise of this program."""
        if item.state == "accepted":
            self._follow(item, Deletion(item.operation_id or "", done=False))
            return
        if self.run.stop is not None and item.state == "planned":
            return
        begun = time.monotonic()
        now = self.registry.get(item.repository, item.image)
        reach("image_read_again")
        if (difference := _difference(item.image, now)) is not None:
            self._changed(item, difference)
        elif self.run.stop is not None:
            self._outcome(item, "failed", "unconfirmed", "its deletion was begun; it is still there, and may yet go")
        elif time.monotonic() - begun < IMAGE_SECONDS / 2 and (key := self._intend(item)) is not None:
            reach("intent_recorded")
            deletion = self.registry.delete(item.repository, item.image, key)
            reach("delete_sent")
            with self.store.write() as connection:
                sweeping.record_accepted(connection, item, deletion.operation_id, self.store.now(connection))
            reach("operation_accepted")
            self._follow(item, deletion)

    def _changed(self, item: Item, difference: str) -> None:
        if item.state == "intent":
            message = f"{difference}, after its deletion was begun; whether that was accepted is not known"
            self._outcome(item, "failed", "unconfirmed", message)
        else:
            self._outcome(item, "skipped", "changed", difference)

    def _intend(self, item: Item) -> str | None:
        """Record the intent; its idempotency key, or None: the item is settled. Raises StoppedError, LeaseLostError.

        The mode, the lease, the run's state and the plan's age are asked in the same breath as the intent is written.
        """
        registry = registry_now(self.watch, self.run.registry)
        if registry is None or registry.mode != "delete":
            self._outcome(item, "skipped", "mode", mode_reason(registry))
            return None
        # A key belongs to an attempt, and is used again only while that attempt's outcome is unknown.
        key = item.idempotency_key if item.state == "intent" and item.idempotency_key else str(uuid4())
        with self.store.write() as connection:
            now = self.store.now(connection)
            sweeping.renew(connection, self.held, now, now + self.lease)
            run = run_rows.get(connection, self.run.id)
            stopped = run is None or run.state != "deleting" or run.stop is not None
            if run is not None and not stopped and (reason := runs.late(run, registry, now)) is not None:
                stopped = run_rows.ask_to_stop(connection, run.id, *reason)
            needed = () if stopped else sweeping.owners_left(connection, item)
            written = not stopped and not needed and sweeping.record_intent(connection, item, key, now)
        if stopped:
            raise StoppedError
        if needed:
            self._outcome(item, "skipped", "still_needed", f"{needed[0]}, which needs it, was not deleted")
        return key if written else None

    def _follow(self, item: Item, deletion: Deletion) -> None:
        if not deletion.done:
            patience = min(IMAGE_SECONDS / 2, FOLLOW_SHARE * self.lease.total_seconds())
            deletion = self.registry.follow(deletion, time.monotonic() + patience)
        if deletion.done:
            reach("operation_done")
            self._outcome(item, "deleted", None, None)
            reach("outcome_recorded")
        elif self.run.stop is not None or self._out_of_patience(item):
            self._outcome(item, "failed", "unconfirmed", f"operation {deletion.operation_id} did not end")

    def _out_of_patience(self, item: Item) -> bool:
        return item.intent_at is not None and datetime.now(UTC) - item.intent_at > PATIENCE_LEASES * self.lease

    def _failed(self, item: Item, error: RegistryError) -> None:
        """Whether a deletion was begun decides: then a plain refusal is final, anything else is doubt."""
        with self.store.read() as connection:
            now = sweeping.progress_of(connection, item)
        doubtful = now.state in ("intent", "accepted") and not isinstance(error, _REFUSALS)
        if not doubtful:
            self._outcome(item, "failed", error.cause, str(error))
        elif not error.systemic or now.attempts >= ATTEMPTS or self.run.stop is not None:
            self._outcome(item, "failed", "unconfirmed", f"whether it was deleted is not known: {error}")
        if count_failure(self.store, self.run, error):
            self.halted.set()

    def _confirm_missing(self) -> None:
        """One listing speaks for every image of the batch that was not found."""
        path = self.held.repository
        try:
            there = {image.digest for image in self.registry.images(path)}
        except RegistryError as error:
            for item, _ in self.missing:
                self._outcome(item, "failed", "unconfirmed", f"it was not found, and listing {path} failed: {error}")
            return
        except LimiterUnavailableError:
            return
        for item, ours in self.missing:
            if item.digest in there:
                self._outcome(item, "failed", "unconfirmed", "it was not found, and yet it is listed")
            else:
                self._outcome(item, "deleted" if ours else "gone", None, None)

    def _outcome(self, item: Item, state: Final, cause: str | None, message: str | None) -> None:
        """Facts are recorded whoever holds the lease: they are true. An item has one final state, the first."""
        with self.store.write() as connection:
            now = self.store.now(connection)
            sweeping.record_outcome(connection, item, state, cause=cause, message=message, now=now)


def _is_ours(item: Item, error: NotFoundError) -> bool:
    """Whether an image that is not there is our doing: an attempt before the one that was told so may have done it."""
    earlier = item.attempts - 1 if item.state == "accepted" else item.attempts
    return earlier > 0 or error.maybe_ours


def _difference(planned: Image, now: Image) -> str | None:
    """What is no longer as planned, as a sentence; None: nothing."""
    if now.digest != planned.digest:
        return f"its digest is {now.digest} now"
    if set(now.tags) != set(planned.tags):
        return f"its tags are {_listed(now.tags)} now, planned {_listed(planned.tags)}"
    if now.created_at != planned.created_at:
        return f"its push time is {now.created_at} now, planned {planned.created_at}"
    return None


def _listed(tags: tuple[str, ...]) -> str:
    return ", ".join(sorted(tags)) or "none"
