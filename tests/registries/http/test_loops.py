"""Questions side by side, pages to the end, looks until a deadline."""

import threading
import time

import pytest

from worker.registries.errors import BadResponseError, UnavailableError
from worker.registries.http.loops import EMPTY_PAGES, MAX_PAGES, PageGuard, call_in_threads, polls


def test_requests_each_key_once_and_keeps_the_order() -> None:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        return number * number

    assert list(call_in_threads(ask, [3, 1, 3, 2], threads=1).items()) == [(3, 9), (1, 1), (2, 4)]
    assert asked == [3, 1, 2]


def test_sends_no_request_without_keys() -> None:
    assert call_in_threads(lambda _: 1 / 0, [], threads=0) == {}


def test_runs_requests_in_parallel() -> None:
    together = threading.Barrier(3, timeout=30)
    assert call_in_threads(lambda number: (together.wait(), number)[1], range(3), threads=3) == {0: 0, 1: 1, 2: 2}


def test_the_first_failure_is_raised() -> None:
    def ask(number: int) -> int:
        if number % 2:
            raise UnavailableError(f"no answer about {number}")
        return number

    with pytest.raises(UnavailableError, match="about 1"):
        call_in_threads(ask, range(10), threads=3)


def guard() -> PageGuard:
    guard = PageGuard("production", "shop/api")
    guard.first_page("")
    return guard


def test_accepts_pages_with_new_rows() -> None:
    pages = guard()
    for number in range(EMPTY_PAGES * 3):
        pages.next_page(f"page {number}", new=number % EMPTY_PAGES == 0)
    assert pages.pages == EMPTY_PAGES * 3 + 1


def test_rejects_a_page_that_is_requested_twice() -> None:
    pages = guard()
    pages.next_page("b", new=True)
    with pytest.raises(
        BadResponseError, match="GET shop/api: the listing does not end: the page 'b' is requested twice"
    ):
        pages.next_page("b", new=True)


def test_rejects_the_first_page_as_a_next_page() -> None:
    with pytest.raises(BadResponseError, match="the page '' is requested twice"):
        guard().next_page("", new=True)


def test_rejects_many_pages_without_new_rows() -> None:
    pages = guard()
    for number in range(EMPTY_PAGES):
        pages.next_page(str(number), new=False)
    with pytest.raises(BadResponseError, match="the last pages had no new rows"):
        pages.next_page("one more", new=False)


def test_rejects_a_repeated_page_at_once() -> None:
    with pytest.raises(BadResponseError, match="the last pages had no new rows"):
        guard().next_page("b", new=False, repeated=True)


def test_limits_the_number_of_pages() -> None:
    pages = guard()
    for number in range(MAX_PAGES - 1):
        pages.next_page(number, new=True)
    with pytest.raises(BadResponseError, match="more than 5,000 pages"):
        pages.next_page("one more", new=True)


def test_a_new_beginning_may_come_to_the_same_pages_and_counts_them() -> None:
    pages = guard()
    pages.next_page("b", new=True)
    pages.first_page("")
    pages.next_page("b", new=True)
    assert pages.pages == 4


def test_polls_once_even_after_the_deadline() -> None:
    started = time.monotonic()
    assert list(polls(started - 10)) == [True]
    assert time.monotonic() - started < 5


def test_the_last_poll_is_at_the_deadline() -> None:
    deadline = time.monotonic() + 0.2
    rechecks = list(polls(deadline))
    assert rechecks[-1]
    assert not any(rechecks[:-1])
    assert time.monotonic() >= deadline
    assert 2 <= len(rechecks) <= 4
