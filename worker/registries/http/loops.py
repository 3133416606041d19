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


def each(ask: Callable[[K], T], about: Iterable[K], threads: int) -> dict[K, T]:
    """`ask` of each key, in parallel threads. Raises the first error; keys that were not started are skipped."""
    keys = list(dict.fromkeys(about))
    if not keys:
        return {}
    pool = ThreadPoolExecutor(min(len(keys), threads), "asking")
    try:
        return dict(zip(keys, pool.map(ask, keys), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class Progress:
    """Ends a listing whose pages repeat or bring nothing new."""

    registry: str
    about: str
    pages: int = 0  # requested so far
    _requested: set[Hashable] = field(default_factory=set)
    _empty: int = 0

    def begin(self, first: Hashable) -> None:
        """Call before the first page of a query. Raises BadResponseError, as `turn` does."""
        self._requested, self._empty = set(), 0
        self._count(first)

    def turn(self, following: Hashable, *, new: bool, repeated: bool = False) -> None:
        """Call before the page that a page leads to. Raises BadResponseError: the listing would not end.

        `new`: the page before had rows that were not known. `repeated`: the page before is a repetition.
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
    """Wait before each poll, at least once. Yields True for the last: `time.monotonic()` has reached `deadline`."""
    wait, last = FIRST_POLL, False
    while not last:
        time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
        last = time.monotonic() >= deadline
        yield last
        wait = min(wait * 2, LONGEST_POLL)
