"""Collects the outcomes of a batch's images from its threads and records them, in one transaction for each step."""

import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from worker.logs import Log
from worker.registries.interface import Deletion, SavedManifest
from worker.runs.checkpoints import reach
from worker.store import Store, sweeping
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import Claim, Item, LeaseLostError, Outcome

log = Log(__name__)


@dataclass(eq=False, slots=True)
class Attempt:
    """One image of a batch, and the progress of its deletion in this claim of the batch."""

    item: Item
    readings: int = 0
    read_at: float = 0.0  # time.monotonic()
    saved: SavedManifest | None = None  # the manifest that restores it
    deletable: bool = False  # the reread image has no objection to its deletion
    idempotency_key: str = ""  # of its intent; empty: no intent
    unsent: bool = True  # its DELETE was certainly not sent
    must_reread: bool = False  # its last reading is too old, or the registry was unavailable
    deletion: Deletion | None = None  # if the registry accepted it

    def reset(self) -> None:
        """Reset the progress at the start of a chunk. A deletion of an earlier claim stays accepted."""
        self.must_reread, self.deletable, self.idempotency_key, self.unsent = False, False, "", True
        if self.item.state == "accepted":
            target = self.item.repository, self.item.image
            self.deletion = Deletion(self.item.operation_id or "", done=False, target=target)

    @property
    def is_unfinished(self) -> bool:
        return self.deletion is not None and not self.deletion.done


@dataclass(slots=True)
class OutcomeRecorder:
    """Collects the outcomes of one claimed batch until they are recorded. Safe to use from several threads."""

    store: Store
    run: Run
    claim: Claim
    lease: timedelta
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _settled: list[tuple[Item, Outcome]] = field(default_factory=list)
    _written: int = 0  # how many of them `write_outcomes` wrote last
    _operations: dict[int, str | None] = field(default_factory=dict)  # item number -> accepted operation
    _healthy: bool = False  # an outcome since the last failure or record shows that the registry works

    def add(self, item: Item, outcome: Outcome) -> None:
        """Add an outcome, which the next transaction records."""
        with self._lock:
            self._settled.append((item, outcome))
            self._healthy = self._healthy or outcome.shows_health

    def end_healthy_period(self) -> bool:
        """Note a systemic failure. Returns whether an unrecorded outcome before it shows that the registry worked."""
        with self._lock:
            before, self._healthy = self._healthy, False
            return before

    def record_all(self, items: Iterable[Item], outcome: Outcome) -> None:
        """Record the same outcome for several items. Raises LeaseLostError."""
        for item in items:
            self.add(item, outcome)
        self.record()

    def record(self, attempts: Collection[Attempt] = ()) -> None:
        """Record accepted deletions, unsent deletions and outcomes in one transaction. Raises LeaseLostError.

        Without the lease, only facts are recorded: accepted deletions, and outcomes `deleted`.
        """
        accepted = [
            (attempt.item, attempt.deletion.operation_id) for attempt in attempts if attempt.deletion is not None
        ]
        self._operations |= {item.number: operation for item, operation in accepted}
        unsent = [attempt.item for attempt in attempts if attempt.unsent]
        if not (accepted or unsent or self._settled):
            return
        lost: LeaseLostError | None = None
        with self.store.write() as connection:
            now = self.store.now(connection)
            run_rows.get(connection, self.run.id, lock=True)
            try:
                sweeping.renew(connection, self.claim, now, now + self.lease)
                sweeping.withdraw_intents(connection, unsent)
            except LeaseLostError as error:
                lost = error
                with self._lock:
                    self._settled = [pair for pair in self._settled if pair[1].state == "deleted"]
            sweeping.record_accepted(connection, accepted, now)
            settled = self.write_outcomes(connection, now)
        self.mark_recorded(settled)
        if lost is not None:
            raise lost

    def write_outcomes(self, connection: Connection, now: datetime) -> list[tuple[Item, Outcome]]:
        """Write all outcomes; call `mark_recorded` with the result after the commit. Items with an outcome keep it.
        They stay collected until `mark_recorded`: a transaction that fails loses none. Raises StoreError.
        """
        with self._lock:
            settled = list(self._settled)
        self._written = len(settled)
        return sweeping.record_outcomes(connection, self.run.id, settled, now, answers=self._healthy)

    def mark_recorded(self, recorded: Sequence[tuple[Item, Outcome]]) -> None:
        """Log the outcomes of a committed transaction, and drop all that it wrote."""
        with self._lock:
            self._settled, self._written, self._healthy = self._settled[self._written :], 0, False
        log_settled(self.run.registry, recorded, self._operations)
        if any(outcome.state == "deleted" for _, outcome in recorded):
            reach("outcome_recorded")


def log_settled(
    registry: str, settled: Iterable[tuple[Item, Outcome]], operations: Mapping[int, str | None] = MappingProxyType({})
) -> None:
    """Log the outcome of each image: `image_deleted`, `image_gone`, `image_skipped` or `image_failed`.

    `operations`: by item number, the operations that were accepted after the item was read from the store.
    """
    for item, outcome in settled:
        facts: dict[str, Any] = {
            "run": item.run_id,
            "registry": registry,
            "repository": item.repository,
            "digest": item.digest,
            "tags": item.image.tags,
            "bytes": item.image.compressed_size,
            "operation": operations.get(item.number, item.operation_id),
        }
        level = logging.WARNING if outcome.state == "failed" else logging.INFO
        log.log(level, f"image_{outcome.state}", **facts, cause=outcome.cause, reason=outcome.message)
