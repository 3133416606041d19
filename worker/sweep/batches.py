"""Carries a plan out, batch by batch: claims one, has its repository listed and its evidence asked, lets it delete.

A batch may be carried out twice, late, or never: only who holds its lease deletes, and what is done is never done
again. What happens to each image is in `deleting`.
"""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from policies.context import Evidence
from worker.logs import Log
from worker.registries import open_registry
from worker.registries.errors import LimiterUnavailableError, RegistryError, UnavailableError
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import BoundedLimiter, Limiter, LocalLimiter
from worker.runs import lifecycle
from worker.runs.checkpoints import reach
from worker.runs.circuit_breaker import count_failure, saving_usage
from worker.runs.clocks import ClockError, check
from worker.runs.evidence import recent_evidence
from worker.runs.leases import Heartbeat, identity
from worker.runs.lifecycle import TaskCall
from worker.runs.terms import (
    Watch,
    current_lease,
    current_registry,
    last_known_registry,
    plan_is_good_until,
    why_unconfigured_now,
)
from worker.store import Store, StoreError, rechecks, sweeping
from worker.store import runs as run_rows
from worker.store.manifests import StoredManifests
from worker.store.runs import Run
from worker.store.sweeping import Claim, Item, LeaseLostError, Outcome
from worker.store.tables import EPOCH
from worker.sweep import outcomes, refusals
from worker.sweep.comparison import snapshot
from worker.sweep.deletion import READING_IS_GOOD, Batch
from worker.sweep.intents import Intents
from worker.sweep.live_check import LiveCheck
from worker.sweep.recording import OutcomeRecorder, log_settled

CALL_SECONDS = 8.0  # patience with one call, the wait for the rate not counted: a batch must end within its time limit
BEGUN_BY = 40.0  # seconds until a batch begins to delete, with or without having listed its repository
TAKEOVERS = 5  # expired leases of one batch before what is left of it is `poison`

log = Log(__name__)


def delete_batch(
    store: Store, watch: Watch, run_id: str, number: int, *, limiter: Limiter | None = None
) -> tuple[TaskCall, ...]:
    """Carry out one batch of a run. Raises StoreError: then nothing more was deleted."""
    lease = current_lease(watch)
    with store.write() as connection:
        run, now = run_rows.get(connection, run_id, lock=True), store.now(connection)
        held = sweeping.claim(connection, run_id, number, owner=identity(), now=now, until=now + lease)
        if run is None or held is None:
            return ()
        beside = sweeping.count_held_batches(connection, run_id, now)
        begun = sweeping.batches_in_progress(connection, run_id)
        if not (run.deleted or run.stop or number in begun) and (begun or beside > 1):
            sweeping.release(connection, held, EPOCH)  # a run's first deletion goes alone; who tries it rings again
            return ()
        items = sweeping.unfinished_items(connection, run_id, number)
        rechecked_at = rechecks.rechecked_at(connection, run_id, held.repository)
    facts = {"run": run_id, "registry": run.registry, "repository": held.repository, "batch": number}
    again: datetime | None = now  # when it was rung last, as far as others are concerned
    try:
        reach("batch_claimed")
        if run.stop is None and not lifecycle.recheck_is_valid(rechecked_at, now):
            return (TaskCall("gc.recheck", (run_id, held.repository)),)
        reach("repository_listed_again")
        registry = current_registry(watch, run)  # a run that deletes nothing more need not know what is in use
        evidence = Evidence() if run.stop is not None or registry is None else recent_evidence(store, registry)
        if evidence is None:
            return (TaskCall("gc.refresh_evidence", (run_id,)),)
        log.info("batch_started", **facts, images=len(items))
        began = time.monotonic()
        work = _carry_out(store, watch, run, held, items, evidence, limiter, lease, beside)
        refusals.settle(store, run_id)
        if (work is not None and work.out_of_time) or lifecycle.is_stopped(store, run_id):
            again = None  # what was begun is then brought to its end
        elif work is not None and work.go_on:
            again = EPOCH  # behind those that were never rung
        log.info("batch_done", **facts, seconds=round(time.monotonic() - began, 1))
    except LeaseLostError:
        log.warning("batch_lost", **facts, reason="another worker has taken over its lease")
    finally:
        with suppress(StoreError), store.write() as connection:  # else the lease runs out by itself
            sweeping.release(connection, held, store.now(connection) if again == now else again)
    reach("batch_swept")
    return lifecycle.next_task_calls(store, run_id, datetime.now(UTC))


def _carry_out(
    store: Store,
    watch: Watch,
    run: Run,
    held: Claim,
    items: list[Item],
    evidence: Evidence,
    limiter: Limiter | None,
    lease: timedelta,
    beside: int,
) -> Batch | None:
    """The batch as it was left; None: nobody may talk to its registry. `beside`: batches of the run at work."""
    poison = held.takeovers >= TAKEOVERS
    resolving = "the run was stopped" if run.stop else "workers died over its batch" if poison else ""
    registry = current_registry(watch, run)
    if registry is None:
        registry, resolving = last_known_registry(watch, run), why_unconfigured_now(watch, run)
        items = _leave(store, run, items, resolving, asked=registry is not None)
        if registry is None or not items:
            return None
    retries = Retries(total=CALL_SECONDS, waits_for_restarts=True)
    manifests = StoredManifests(store, registry.key)
    pace = BoundedLimiter(limiter or LocalLimiter(registry.rate.requests_per_second))
    with open_registry(registry, pace, retries, manifests) as opened, saving_usage(store, run.registry, opened):
        known = snapshot(store, run, registry, held.repository, opened, deleting=True)
        used = {} if resolving else evidence.in_use(held.repository, known.planned)
        live_check = None if resolving else LiveCheck(opened, registry, known, pace, beside=beside)
        # A chunk has no more images than the rate serves, beside other batches, while half a reading's time passes.
        served = int(registry.rate.requests_per_second * READING_IS_GOOD / 4 / max(1, beside))
        most = 1 if poison else max(1, min(registry.rate.concurrency, served))
        intents = Intents(store, watch, run, held, lease, used, live_check)
        results = OutcomeRecorder(store, run, held, lease)
        work = Batch(
            store, watch, run, held, opened, pace, lease, resolving, known.tags, live_check, intents, results, most
        )
        work.last = poison or run.stop is not None
        with Heartbeat(store, held.lease, lease) as heartbeat:
            work.lost = heartbeat.lost
            if live_check is not None and not _may_begin(store, run, work, live_check, items):
                return work
            work.carry_out(items)
            if poison and run.stop is None:
                never_begun = [item for item in items if item.state == "planned"]
                message = f"workers died over this batch {held.takeovers} times"
                results.record_all(never_begun, Outcome("failed", "poison", message))
    return work


def _may_begin(store: Store, run: Run, work: Batch, live_check: LiveCheck, items: list[Item]) -> bool:
    """Compare the clocks and list the repository before anything is begun; the batch's time begins after that.

    False: the registry does not answer, and the next claim tries again; or the clocks disagree, which stops the run.
    """
    if all(item.state == "accepted" for item in items):
        return True
    not_after = time.monotonic() + BEGUN_BY
    try:
        try:
            _compare_and_list(store, work, live_check, not_after)
        except UnavailableError as error:
            if not work.is_back(error):
                raise
            _compare_and_list(store, work, live_check, not_after)
        work.begun = time.monotonic()
    except ClockError as error:
        with store.write() as connection:
            run_rows.request_stop(connection, run.id, "failed", str(error))
        return False
    except RegistryError as error:
        count_failure(store, run, error)
        return False
    except LimiterUnavailableError:
        return False
    return True


def _compare_and_list(store: Store, work: Batch, live_check: LiveCheck, not_after: float) -> None:
    """Raises ClockError, RegistryError, LimiterUnavailableError."""
    check(lambda: datetime.now(UTC), store, work.registry)
    if (why := live_check.begin(not_after)) is not None:
        path = work.held.repository
        log.warning("not_compared", run=work.run.id, registry=work.run.registry, repository=path, reason=str(why))
        message = (
            f"{path}: its deletions are compared with what was there up to 10 minutes before, as {why}. Set"
            " rate.requests_per_second higher, or sweep while nobody pushes"
        )
        with store.write() as connection:
            run_rows.add_warning(connection, work.run.id, "not_compared_again", message)


def _leave(store: Store, run: Run, items: list[Item], reason: str, *, asked: bool) -> list[Item]:
    """Begin nothing more in a batch whose registry the file no longer has; what was begun is returned.

    `asked`: how that ended can be asked. Else it waits for a valid file, as long as the plan would be good.
    """
    with store.write() as connection:
        now = store.now(connection)
        outcomes_by_state = {"planned": Outcome("skipped", "mode", reason)}
        if not asked and now >= plan_is_good_until(run, None):
            outcomes_by_state |= dict.fromkeys(("intent", "accepted"), outcomes.never_asked(reason))
        settled = [(one, outcomes_by_state[one.state]) for one in items if one.state in outcomes_by_state]
        settled = sweeping.record_outcomes(connection, run.id, settled, now)
    log_settled(run.registry, settled)
    return [one for one in items if one.state not in outcomes_by_state]
