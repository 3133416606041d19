"""What drivers do over and over: questions side by side, pages to the end, looks until a deadline."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from worker.registries.errors import BadResponseError

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

MAX_PAGES = 5000  # of one listing; with full pages that is five million rows
EMPTY_PAGES = 10  # in a row, with a further page: rows that were deleted meanwhile, or a server that goes in circles
FIRST_POLL, LONGEST_POLL = 0.05, 2.0  # seconds between two looks at what goes on, doubled each time


def each(ask: Callable[[K], T], about: Iterable[K], threads: int) -> dict[K, T]:
    """The answers by what was asked about, side by side. Raises what the first failure raises, and asks no more."""
    wanted = list(dict.fromkeys(about))
    if not wanted:
        return {}
    pool = ThreadPoolExecutor(min(len(wanted), threads), "asking")
    try:
        return dict(zip(wanted, pool.map(ask, wanted), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class Progress:
    """Sees to it that a listing gets on from page to page, and ends."""

    registry: str
    about: str
    pages: int = 0  # that were asked for
    _asked: set[Hashable] = field(default_factory=set)
    _empty: int = 0

    def begin(self, first: Hashable) -> None:
        """Before a page that no other has led to. Raises BadResponseError, as `turn` does."""
        self._asked, self._empty = set(), 0
        self._ask_for(first)

    def turn(self, following: Hashable, *, new: bool, repeated: bool = False) -> None:
        """Before the page to which another has led. Raises BadResponseError where that would never end.

        `new`: the other brought rows that were not known; `repeated`: that alone is a sign that it did not.
        """
        self._empty = 0 if new else self._empty + 1
        if following in self._asked:
            raise self._endless(f"the page {str(following)[:100]!r} came twice")
        if repeated or self._empty > EMPTY_PAGES:
            raise self._endless("a further page brought nothing new")
        self._ask_for(following)

    def _ask_for(self, page: Hashable) -> None:
        if self.pages >= MAX_PAGES:
            raise self._endless(f"more than {MAX_PAGES:,} pages")
        self.pages += 1
        self._asked.add(page)

    def _endless(self, why: str) -> BadResponseError:
        return BadResponseError(f"the listing never ends: {why}", self.registry, f"GET {self.about}")


def polls(deadline: float) -> Iterator[bool]:
    """Waits before each look, at least one: whether it is the last, as `time.monotonic()` has reached `deadline`."""
    wait, last = FIRST_POLL, False
    while not last:
        time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
        last = time.monotonic() >= deadline
        yield last
        wait = min(wait * 2, LONGEST_POLL)
