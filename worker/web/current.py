"""The store and the configuration as they are now: each request reads both again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from worker.config.settings import ConfigError, Settings
from worker.config.watch import SettingsWatch
from worker.store import Store, open_store

OpenStore = Callable[[], AbstractContextManager[Store]]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The last valid configuration, and the number of mistakes in the present file."""

    settings: Settings
    mistakes: int = 0


class CurrentConfiguration:
    """Loads the file again when it changes. A file with mistakes leaves the last valid settings in force."""

    def __init__(self, settings: Settings) -> None:
        self._watch = SettingsWatch(settings.path)
        self._valid = settings

    def __call__(self) -> Configuration:
        try:
            self._valid = self._watch.current()
        except ConfigError as error:
            return Configuration(self._valid, len(error.mistakes))
        return Configuration(self._valid)


class StoreOpener:
    """Opens the store for each request, so that a response shows its present content. Raises StoreError.

    An open SQLite file stays readable after it is deleted or replaced; a page must fail instead. The first request
    creates a missing store; a store that disappears later is not created again.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._opened_url = ""

    @contextmanager
    def __call__(self) -> Iterator[Store]:
        url = self._url()
        with open_store(url, create=url != self._opened_url) as store:
            self._opened_url = url
            yield store
