"""The store as a page sees it: opened anew for each request, so that an answer is what is there now or an error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.store import Store, open_store


class StoreDoor:
    """Makes the store where it is missing at first; one that vanishes later is an error, never made again.

    An open SQLite file goes on answering after it was deleted or replaced, and a page must not.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._seen = ""

    @contextmanager
    def __call__(self) -> Iterator[Store]:
        """Raises StoreError."""
        url = self._url()
        store = open_store(url, create=url != self._seen)
        self._seen = url
        try:
            yield store
        finally:
            store.dispose()
