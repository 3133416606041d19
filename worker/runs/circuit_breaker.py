"""Counts requests to a registry and its failures in a row, in the store for all processes; stops a hopeless run."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.config.settings import RegistrySettings
from worker.registries.errors import NotFoundError, ReadOnlyError, RegistryError, SignInError
from worker.registries.interface import Registry
from worker.store import Store
from worker.store import runs as run_rows
from worker.store.runs import Run
from worker.store.sweeping import add_to_tally

HOPELESS = 10  # systemic failures in a row
ENDING, SUCCESSOR = "yandex-container-registry", "yandex-cloud-registry"  # kinds


@contextmanager
def saving_usage(store: Store, name: str, registry: Registry) -> Iterator[None]:
    """Add the requests and waits of the work within to the tallies, however it ends."""
    try:
        yield
    finally:
        usage = registry.usage()
        with store.write() as connection:
            for (method, code), count in sorted(usage.requests.items()):
                add_to_tally(connection, name, "api_requests", f"{method} {code}", count)
            if usage.rate_wait_seconds:
                add_to_tally(connection, name, "rate_wait_seconds", "", usage.rate_wait_seconds)


def note_sign_in(store: Store, name: str, *, works: bool) -> None:
    """Record whether signing in works, for the metrics."""
    with store.write() as connection:
        run_rows.record_sign_in(connection, name, works=works)


def count_failure(store: Store, run: Run, error: RegistryError, *, first: bool = False) -> bool:
    """Count a systemic failure. True: it was the tenth in a row, or a final one, and stops the run with one message.

    `first`: the registry has answered as it should since the last failure.
    """
    if isinstance(error, SignInError):
        note_sign_in(store, run.registry, works=False)
    if not error.systemic:
        return False
    with store.write() as connection:
        failures = run_rows.count_failure(connection, run.id, first=first)
        if failures < HOPELESS and not error.final:
            return False
        message = str(error) if error.final else _hopeless(run, error)
        run_rows.request_stop(connection, run.id, "hopeless", message)
    return True


def gone_remedy(registry: RegistrySettings, error: Exception) -> str:
    """The remedy for a registry that is not found, appended to the error; empty for other errors."""
    if not isinstance(error, NotFoundError):
        return ""
    remedy = f"; is the id {registry.id} right?" if registry.id else f"; is the url {registry.url} right?"
    if registry.kind == ENDING:
        remedy += f" Yandex Container Registry itself stops on 2026-12-14: its images go on under kind: {SUCCESSOR}"
    return remedy


def _hopeless(run: Run, error: RegistryError) -> str:
    """Why a run ends after that many failures in a row. A registry that has become read-only stays read-only."""
    kind, _, registry_id = run.registry_key.split("|", 2)
    if not isinstance(error, ReadOnlyError):
        return f"stopped after {HOPELESS} failures in a row, the last: {error}"
    if kind != ENDING:
        return f"{run.registry} accepts no deletions any more: {HOPELESS} in a row were refused, the last: {error}"
    return (
        f"{run.registry} accepts no deletions any more: Yandex Container Registry is read-only since 2026-11-10 and"
        f" stops on 2026-12-14; its images go on in Yandex Cloud Registry: write kind: {SUCCESSOR} with the same id,"
        f" {registry_id}; {HOPELESS} were refused in a row, the last: {error}"
    )
