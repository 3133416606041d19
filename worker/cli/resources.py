"""Resources that commands open: the rate limit of a registry, the store, a progress bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, make_url

from worker import logs
from worker.cli.errors import say
from worker.config.settings import RegistrySettings, Settings
from worker.registries import open_limiter
from worker.registries.errors import LimiterUnavailableError
from worker.registries.http.rate_limit import Limiter, LocalLimiter
from worker.runs.lifecycle import UnknownRegistryError, UnknownRunError
from worker.store import Store, open_store
from worker.store.store_info import registry_names


class ShowProgress(Protocol):
    """Updates a progress bar; the note replaces the unit."""

    def __call__(self, done: int, total: int, note: str = ..., /) -> None: ...


def check_registry_is_known(settings: Settings, connection: Connection | None, name: str | None) -> None:
    """Check that the file or the store contains a registry. Raises UnknownRegistryError, StoreError. `name` None:
    nothing is checked. `connection` None: there is no store, so the file decides alone.
    """
    if name is None or name in settings.registries:
        return
    known = {*settings.registries, *(() if connection is None else registry_names(connection))}
    if name not in known:
        raise UnknownRegistryError(name, known, f"{settings.path} or its store")


class FallbackLimiter:
    """The limit shared through Redis, or a local one if Redis is unavailable: reading must work without Redis."""

    def __init__(self, shared: Limiter, local: Limiter) -> None:
        self._shared: Limiter | None = shared
        self._local = local

    def wait(self) -> float:
        waited = self._try_shared(lambda shared: shared.wait())
        return self._local.wait() if waited is None else waited

    def pause(self, seconds: float) -> None:
        self._local.pause(seconds)
        self._try_shared(lambda shared: shared.pause(seconds))

    def close(self) -> None:
        self._local.close()
        if self._shared is not None:
            self._shared.close()

    def _try_shared(self, call: Callable[[Limiter], float | None]) -> float | None:
        """The result of the shared limiter; None if it is not available."""
        shared = self._shared
        try:
            return None if shared is None else call(shared)
        except LimiterUnavailableError as error:
            if self._shared is not None:  # several threads may get this error at once; one warns
                self._shared = None
                say(f"warning: {error}; this command limits its own rate instead")
        return None


def configure_logging(*, verbose: bool) -> None:
    """With --verbose, log requests and retries on standard error."""
    if verbose:
        logs.configure(verbose=True)


@contextmanager
def limiter_for(settings: Settings, registry: RegistrySettings) -> Iterator[Limiter]:
    """A limiter that shares its rate through Redis if Redis is available. Raises SecretError. Otherwise this process
    alone keeps to the registry's rate; if Redis is configured, a warning says so once.
    """
    url = settings.redis_url()
    local = LocalLimiter(registry.rate.requests_per_second)
    limiter: Limiter = FallbackLimiter(open_limiter(url, registry), local) if url else local
    with closing(limiter):
        yield limiter


@contextmanager
def existing_store(settings: Settings) -> Iterator[Store | None]:
    """The store, or None if it does not exist: reading does not create it. Raises StoreError if it is unreadable."""
    url = make_url(settings.store)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists()):
        yield None
        return
    with open_store(settings.store, create=False) as store:
        yield store


@contextmanager
def store_connection(settings: Settings, registry: str | None = None) -> Iterator[Connection | None]:
    """A connection that reads one snapshot of the store, or None. Raises UnknownRegistryError, StoreError. None: the
    store does not exist; it is not created. `registry` must be in the file or the store; None: not checked.
    """
    with existing_store(settings) as store, nullcontext() if store is None else store.read() as connection:
        check_registry_is_known(settings, connection, registry)
        yield connection


@contextmanager
def store_of_run(settings: Settings, run: str) -> Iterator[Store]:
    """The store of a run. Raises UnknownRunError if the store does not exist, and StoreError. The run is not looked up,
    so the store may lack it. A missing store is not created.
    """
    with existing_store(settings) as store:
        if store is None:
            raise UnknownRunError(f"no run has the id {run!r}; the store does not exist yet")
        yield store


@contextmanager
def progress_bar(title: str, unit: str = "") -> Iterator[ShowProgress]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _done, _total, _note=unit: None
        return
    from worker.cli.bars import bar  # noqa: PLC0415 - rich is loaded only for terminals

    with bar(title, unit) as show_progress:
        yield show_progress
