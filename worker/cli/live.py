"""What commands need that talk to a registry themselves: its settings, a rate limit, the store, a bar."""

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


class Tell(Protocol):
    """Is told how much is done of how much, and what to say beside it."""

    def __call__(self, done: int, whole: int, beside: str = ..., /) -> None: ...


def check_known(settings: Settings, connection: Connection | None, name: str | None) -> None:
    """Raises UnknownRegistryError, StoreError: neither the file nor the store has heard of a registry of that name."""
    if name is None or name in settings.registries:
        return
    known = {*settings.registries, *(() if connection is None else registry_names(connection))}
    if name not in known:
        raise UnknownRegistryError(name, known, f"{settings.path} or its store")


class WillingLimiter:
    """The limit shared through Redis while Redis answers, else one of our own: looking must work without Redis."""

    def __init__(self, shared: Limiter, own: Limiter) -> None:
        self._shared: Limiter | None = shared
        self._own = own

    def wait(self) -> float:
        waited = self._asked(lambda shared: shared.wait())
        return self._own.wait() if waited is None else waited

    def pause(self, seconds: float) -> None:
        self._own.pause(seconds)
        self._asked(lambda shared: shared.pause(seconds))

    def close(self) -> None:
        self._own.close()
        if self._shared is not None:
            self._shared.close()

    def _asked(self, ask: Callable[[Limiter], float | None]) -> float | None:
        """What the shared limit answers; None: there is none, or none any more."""
        shared = self._shared
        try:
            return None if shared is None else ask(shared)
        except LimiterUnavailableError as error:
            if self._shared is not None:  # several threads may find out together
                self._shared = None
                say(f"warning: {error}; this command keeps to the rate by itself")
        return None


def log_if_asked(*, verbose: bool) -> None:
    """Requests and retries on standard error, for who wants to see them."""
    if verbose:
        logs.configure(verbose=True)


@contextmanager
def limiter_for(settings: Settings, registry: RegistrySettings) -> Iterator[Limiter]:
    """A limiter that does not need Redis, but shares the limit where Redis answers. Raises SecretError."""
    url = settings.redis_url()
    own = LocalLimiter(registry.rate.requests_per_second)
    limiter: Limiter = WillingLimiter(open_limiter(url, registry), own) if url else own
    with closing(limiter):
        yield limiter


@contextmanager
def remembered(settings: Settings) -> Iterator[Store | None]:
    """The store to read from, if there is one; none is made for looking. Raises StoreError: there, but not readable."""
    url = make_url(settings.store)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists()):
        yield None
        return
    with open_store(settings.store, create=False) as store:
        yield store


@contextmanager
def recorded(settings: Settings, registry: str | None = None) -> Iterator[Connection | None]:
    """The same, to be read as it is at one moment. Raises UnknownRegistryError, too: see `check_known`."""
    with remembered(settings) as store, nullcontext() if store is None else store.read() as connection:
        check_known(settings, connection, registry)
        yield connection


@contextmanager
def store_of_run(settings: Settings, run: str) -> Iterator[Store]:
    """The store, which is there if it knows a run. Raises UnknownRunError, StoreError."""
    with remembered(settings) as store:
        if store is None:
            raise UnknownRunError(f"no run has the id {run!r}; there is no store yet")
        yield store


@contextmanager
def progress_bar(what: str, unit: str = "") -> Iterator[Tell]:
    """Shows on a terminal how far something has come, nothing elsewhere. It is told (done, all, what is beside)."""
    if not sys.stderr.isatty():
        yield lambda _done, _all, _beside=unit: None
        return
    from worker.cli.bars import bar  # noqa: PLC0415 - rich is loaded only for terminals

    with bar(what, unit) as tell:
        yield tell
