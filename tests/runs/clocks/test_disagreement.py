"""Clocks that are more than five minutes apart are reported, however slow their replies are."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from worker.runs.clocks import ClockReading, disagreement

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def shown(whose: str, ahead: timedelta, took: timedelta = timedelta(0)) -> ClockReading:
    """A clock that is that far ahead of ours, read half-way through the time that the answer took."""
    return ClockReading(whose, NOON + ahead, NOON - took / 2, NOON + took / 2)


@pytest.mark.parametrize(
    ("clocks", "says"),
    [
        pytest.param([], None, id="none to compare"),
        pytest.param([shown("the store's", 5 * MINUTE)], None, id="five minutes ahead"),
        pytest.param([shown("the store's", 5 * MINUTE + SECOND)], "this machine's clock .* the store's", id="more"),
        pytest.param([shown("the store's", -5 * MINUTE)], None, id="five minutes behind"),
        pytest.param(
            [shown("the store's", -5 * MINUTE - 2 * SECOND)], "this machine's clock .* the store's", id="less"
        ),
        pytest.param([shown("the registry's", 20 * 60 * MINUTE)], "the registry's", id="20 hours"),
        pytest.param(
            [shown("the store's", 3 * MINUTE), shown("the registry's", -3 * MINUTE)],
            "the store's clock .*the registry's",
            id="each is near ours, and they are apart",
        ),
        pytest.param(
            [shown("the store's", 0 * MINUTE), shown("the registry's", -6 * MINUTE)],
            "this machine's clock .* the registry's",
            id="the second is wrong",
        ),
        pytest.param([shown("the registry's", 6 * MINUTE, took=10 * MINUTE)], None, id="the answer took ten minutes"),
        pytest.param(
            [shown("the registry's", 60 * MINUTE, took=10 * MINUTE)], "the registry's", id="an hour, asked slowly"
        ),
    ],
)
def test_reports_clocks_more_than_five_minutes_apart(clocks: list[ClockReading], says: str | None) -> None:
    message = disagreement(clocks)
    assert (message is None) == (says is None)
    assert says is None or re.search(f"{says}.*ages cannot be trusted", message or "")
