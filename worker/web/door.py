"""What a page looks through: the store and the configuration as they are at this moment."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from worker.config.settings import ConfigError, Settings
from worker.config.watch import SettingsWatch
from worker.store import Store, open_store

OpenStore = Callable[[], AbstractContextManager[Store]]


@dataclass(frozen=True, slots=True)
class Configuration:
    """The newest configuration that could be used, and how many mistakes today's file has."""

    settings: Settings
    mistakes: int = 0


class ConfigurationDoor:
    """A file that became invalid does not take the numbers away: the last good one stands until it is mended."""

    def __init__(self, settings: Settings) -> None:
        self._watch = SettingsWatch(settings.path)
        self._good = settings

    def __call__(self) -> Configuration:
        try:
            self._good = self._watch.current()
        except ConfigError as error:
            return Configuration(self._good, len(error.mistakes))
        return Configuration(self._good)


class StoreDoor:
    """Opens the store anew for each request, so that an answer is what is there now, or an error (StoreError).

    An open SQLite file goes on answering after it was deleted or replaced, and a page must not. The store is made where
    it is missing at first; one that vanishes later is never made again.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._seen = ""

    @contextmanager
    def __call__(self) -> Iterator[Store]:
        url = self._url()
        with open_store(url, create=url != self._seen) as store:
            self._seen = url
            yield store
