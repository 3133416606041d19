"""Loops that drivers share: parallel requests, pages of a listing, polls until a deadline."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from worker.registries.errors import BadResponseError

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

MAX_PAGES = 5000  # of one listing: five million rows if each page is full
EMPTY_PAGES = 10  # in a row: deletions during the listing, or a server that repeats itself
FIRST_POLL, LONGEST_POLL = 0.05, 2.0  # seconds between two polls, doubled each time


def call_in_threads(ask: Callable[[K], T], keys: Iterable[K], threads: int) -> dict[K, T]:
    """Call `ask` for each key in parallel threads: the results by key. Raises the first error, and starts no more."""
    unique = list(dict.fromkeys(keys))
    if not unique:
        return {}
    pool = ThreadPoolExecutor(min(len(unique), threads), "asking")
    try:
        return dict(zip(unique, pool.map(ask, unique), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class PageGuard:
    """Ends a listing that has too many pages, or whose pages repeat or bring nothing new."""

    registry: str
    about: str
    pages: int = 0  # requested so far
    _requested: set[Hashable] = field(default_factory=set)
    _empty: int = 0

    def first_page(self, first: Hashable) -> None:
        """Call before the first page of a query. Raises BadResponseError: the guard has counted MAX_PAGES pages.
        Forgets which pages were requested, but not how many: the limit holds for all queries of a guard together.
        """
        self._requested, self._empty = set(), 0
        self._count(first)

    def next_page(self, following: Hashable, *, new: bool, repeated: bool = False) -> None:
        """Call before the page after this one is requested. Raises BadResponseError: the listing would not end.

        `new`: this page had rows that no earlier page had. `repeated`: this page repeats an earlier one.
        """
        self._empty = 0 if new else self._empty + 1
        if following in self._requested:
            raise self._endless(f"the page {str(following)[:100]!r} is requested twice")
        if repeated or self._empty > EMPTY_PAGES:
            raise self._endless("the last pages had no new rows")
        self._count(following)

    def _count(self, page: Hashable) -> None:
        if self.pages >= MAX_PAGES:
            raise self._endless(f"more than {MAX_PAGES:,} pages")
        self.pages += 1
        self._requested.add(page)

    def _endless(self, why: str) -> BadResponseError:
        return BadResponseError(f"the listing does not end: {why}", self.registry, f"GET {self.about}")


def polls(deadline: float) -> Iterator[bool]:
    """Wait, then yield, until `time.monotonic()` reaches `deadline`; at least once. Yields True for the last poll."""
    wait, last = FIRST_POLL, False
    while not last:
        time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
        last = time.monotonic() >= deadline
        yield last
        wait = min(wait * 2, LONGEST_POLL)
