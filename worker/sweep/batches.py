"""Carries out one batch of a plan: claims it, requires a recheck and recent evidence, opens the registry, deletes.

A batch may be carried out twice, late, or never: only the holder of its lease deletes, and no deletion is repeated.
How each image is deleted is in `worker.sweep.deletion`.
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
from worker.runs.clocks import ClockError, check_clocks
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
from worker.sweep.deletion import READING_VALID_FOR, Batch
from worker.sweep.live_check import LiveCheck
from worker.sweep.recording import OutcomeRecorder, log_settled

CALL_SECONDS = 8.0  # for one request, without the wait for the rate limit: a batch must end within its time limit
BEGIN_BY = 40.0  # seconds until a batch begins to delete, whether its repository was listed or not
TAKEOVERS = 5  # expired leases of one batch before what is left of it is `poison`

log = Log(__name__)


def delete_batch(
    store: Store, watch: Watch, run_id: str, number: int, *, limiter: Limiter | None = None
) -> tuple[TaskCall, ...]:
    """Carry out one batch of a run. Raises StoreError: then nothing more was deleted."""
    lease = current_lease(watch)
    with store.write() as connection:
        run, now = run_rows.get(connection, run_id, lock=True), store.now(connection)
        claim = sweeping.claim(connection, run_id, number, owner=identity(), now=now, until=now + lease)
        if run is None or claim is None:
            return ()
        concurrent = sweeping.count_held_batches(connection, run_id, now)
        begun = sweeping.batches_in_progress(connection, run_id)
        if not (run.deleted or run.stop or number in begun) and (begun or concurrent > 1):
            sweeping.release(connection, claim, EPOCH)  # a run's first deletion is sent alone; its batch publishes next
            return ()
        items = sweeping.unfinished_items(connection, run_id, number)
        rechecked_at = rechecks.rechecked_at(connection, run_id, claim.repository)
    facts = {"run": run_id, "registry": run.registry, "repository": claim.repository, "batch": number}
    published_at: datetime | None = now  # the time to store for the batch's last task call
    try:
        reach("batch_claimed")
        if run.stop is None and not lifecycle.recheck_is_valid(rechecked_at, now):
            return (TaskCall("gc.recheck", (run_id, claim.repository)),)
        reach("repository_listed_again")
        registry = current_registry(watch, run)  # a run that deletes nothing more needs no evidence
        evidence = Evidence() if run.stop is not None or registry is None else recent_evidence(store, registry)
        if evidence is None:
            return (TaskCall("gc.refresh_evidence", (run_id,)),)
        log.info("batch_started", **facts, images=len(items))
        began = time.monotonic()
        batch = _carry_out(store, watch, run, claim, items, evidence, limiter, lease, concurrent)
        refusals.settle(store, run_id)
        if (batch is not None and batch.out_of_time) or lifecycle.is_stopped(store, run_id):
            published_at = None  # begun deletions are then resolved at once
        elif batch is not None and batch.can_continue:
            published_at = EPOCH  # after the batches that were never published
        log.info("batch_done", **facts, seconds=round(time.monotonic() - began, 1))
    except LeaseLostError:
        log.warning("batch_lost", **facts, reason="another worker has taken over its lease")
    finally:
        with suppress(StoreError), store.write() as connection:  # else the lease expires
            sweeping.release(connection, claim, store.now(connection) if published_at == now else published_at)
    reach("batch_swept")
    return lifecycle.next_task_calls(store, run_id, datetime.now(UTC))


def _carry_out(
    store: Store,
    watch: Watch,
    run: Run,
    claim: Claim,
    items: list[Item],
    evidence: Evidence,
    limiter: Limiter | None,
    lease: timedelta,
    concurrent: int,
) -> Batch | None:
    """The batch after its work; None: its registry is not configured. `concurrent`: batches of the run at work."""
    poison = claim.takeovers >= TAKEOVERS
    resolve_only = "the run was stopped" if run.stop else "workers died over its batch" if poison else ""
    registry = current_registry(watch, run)
    if registry is None:
        registry, resolve_only = last_known_registry(watch, run), why_unconfigured_now(watch, run)
        items = _skip_planned(store, run, items, resolve_only, can_resolve=registry is not None)
        if registry is None or not items:
            return None
    retries = Retries(total=CALL_SECONDS, waits_for_restarts=True)
    manifests = StoredManifests(store, registry.key)
    bounded = BoundedLimiter(limiter or LocalLimiter(registry.rate.requests_per_second))
    with open_registry(registry, bounded, retries, manifests) as opened, saving_usage(store, run.registry, opened):
        known = snapshot(store, run, registry, claim.repository, opened, deleting=True)
        in_use = {} if resolve_only else evidence.in_use(claim.repository, known.planned)
        live_check = None if resolve_only else LiveCheck(opened, registry, known, bounded, concurrent=concurrent)
        # The rate, shared with the other batches, serves all images of a chunk in a quarter of a reading's time.
        served = int(registry.rate.requests_per_second * READING_VALID_FOR / 4 / max(1, concurrent))
        max_chunk = 1 if poison else max(1, min(registry.rate.concurrency, served))
        recorder = OutcomeRecorder(store, run, claim, lease)
        context = (store, watch, run, claim, opened, bounded, lease)
        batch = Batch(*context, resolve_only, known.tags, in_use, live_check, recorder, max_chunk)
        batch.is_last_claim = poison or run.stop is not None
        with Heartbeat(store, claim.lease, lease) as heartbeat:
            batch.lease_lost = heartbeat.lost
            if live_check is not None and not _may_begin(store, run, batch, live_check, items):
                return batch
            batch.carry_out(items)
            if poison and run.stop is None:
                never_begun = [item for item in items if item.state == "planned"]
                message = f"workers died over this batch {claim.takeovers} times"
                recorder.record_all(never_begun, Outcome("failed", "poison", message))
    return batch


def _may_begin(store: Store, run: Run, batch: Batch, live_check: LiveCheck, items: list[Item]) -> bool:
    """Compare the clocks and list the repository before anything is begun; the batch's time begins after that.

    False: the registry does not answer, and the next claim tries again; or the clocks disagree, which stops the run.
    """
    if all(item.state == "accepted" for item in items):
        return True
    not_after = time.monotonic() + BEGIN_BY
    try:
        try:
            _compare_and_list(store, batch, live_check, not_after)
        except UnavailableError as error:
            if not batch.is_available_again(error):
                raise
            _compare_and_list(store, batch, live_check, not_after)
        batch.began_at = time.monotonic()
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


def _compare_and_list(store: Store, batch: Batch, live_check: LiveCheck, not_after: float) -> None:
    """Raises ClockError, RegistryError, LimiterUnavailableError."""
    check_clocks(lambda: datetime.now(UTC), store, batch.registry)
    if (why := live_check.begin(not_after)) is not None:
        path = batch.claim.repository
        log.warning("not_compared", run=batch.run.id, registry=batch.run.registry, repository=path, reason=str(why))
        message = (
            f"{path}: its deletions are compared with a listing that is up to 10 minutes old, as {why}. Set"
            " rate.requests_per_second higher, or sweep while nobody pushes"
        )
        with store.write() as connection:
            run_rows.add_warning(connection, batch.run.id, "not_compared_again", message)


def _skip_planned(store: Store, run: Run, items: list[Item], reason: str, *, can_resolve: bool) -> list[Item]:
    """Skip the planned items of a batch whose registry is no longer configured; the others, whose deletion was begun.

    `can_resolve`: the registry can be asked about those. Else they wait for a valid file, until the plan expires.
    """
    with store.write() as connection:
        now = store.now(connection)
        outcomes_by_state = {"planned": Outcome("skipped", "mode", reason)}
        if not can_resolve and now >= plan_is_good_until(run, None):
            unresolved = outcomes.unconfirmed(f"its deletion was begun, and its end could not be asked: {reason}")
            outcomes_by_state |= dict.fromkeys(("intent", "accepted"), unresolved)
        settled = [(item, outcomes_by_state[item.state]) for item in items if item.state in outcomes_by_state]
        settled = sweeping.record_outcomes(connection, run.id, settled, now)
    log_settled(run.registry, settled)
    return [item for item in items if item.state not in outcomes_by_state]
