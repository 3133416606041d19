"""Asks the sources of evidence again while a run is deleting; stops the run if a source cannot be trusted."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import partial

from policies.image import Repository
from worker.evidence.judgement import digests_in
from worker.evidence.reading import EvidenceError
from worker.logs import Log
from worker.runs import lifecycle
from worker.runs.clocks import ClockError
from worker.runs.evidence import gather
from worker.runs.lifecycle import TaskCall
from worker.runs.terms import Watch, current_registry, current_settings, missing_source
from worker.store import Store, plans, sweeping
from worker.store import runs as run_rows

log = Log(__name__)


def refresh_evidence(store: Store, watch: Watch, run_id: str) -> tuple[TaskCall, ...]:
    """Read what is in use for the next batches. Safe to call twice, late, or never. Raises StoreError."""
    run = lifecycle.deleting_run(store, run_id)
    if run is None:
        return ()
    registry = current_registry(watch, run)
    if run.stop is None and registry is not None:
        try:
            settings = current_settings(watch)
            registries = () if settings is None else settings.registries.values()
            gather(store, registry, registries, partial(_listed, store, run_id), scanning=False)
            if (missing := missing_source(registry, run.terms)) is not None:
                stop_without_evidence(store, run_id, missing)
            else:
                log.info("evidence_refreshed", run=run_id, registry=run.registry)
        except (ClockError, EvidenceError) as error:
            stop_without_evidence(store, run_id, str(error))
    with store.write() as connection:
        run_rows.get(connection, run_id, lock=True)
        sweeping.mark_unpublished(connection, run_id, store.now(connection))
    return lifecycle.next_task_calls(store, run_id, datetime.now(UTC))


def _listed(store: Store, run_id: str, digests: Collection[str]) -> Collection[str]:
    """The digests that are in the inventory of a run's plan."""

    def inventory() -> Iterator[Repository]:
        with store.read() as connection:
            paths = plans.repositories(connection, run_id)
        for path in paths:
            with store.read() as connection:
                yield Repository(path=path, images=plans.images_of(connection, run_id, path))

    return digests_in(inventory(), digests)


def stop_without_evidence(store: Store, run_id: str, why: str) -> None:
    """Stop a run because what is in use is not known. Nothing changes for a run that is not planning or deleting, or
    that was asked to stop before. Raises StoreError.
    """
    log.warning("evidence_refused", run=run_id, reason=why)
    with store.write() as connection:
        run_rows.request_stop(connection, run_id, "failed", why)
