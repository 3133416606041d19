"""Readings that are not trusted: too old, from the future, empty, or suddenly halved."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.config.settings import EvidenceSettings
from worker.evidence import EvidenceError, Reading, Use, judge

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
STALE = "check why it is not renewed, or raise max_age"
ALLOW = "if this is intended, write allow_empty: true"


def judged(*, age=timedelta(0), count=10, before=None, allow_empty=False, max_age=24 * HOUR):
    settings = EvidenceSettings(name="list", kind="file", max_age=max_age, allow_empty=allow_empty)
    uses = tuple(Use(None, f"cr.yandex/r/{number}:v1", "x") for number in range(count))
    judge(settings, Reading(NOW - age, uses), before, NOW)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="fresh, the first"),
        pytest.param({"age": 24 * HOUR}, id="exactly at its end"),
        pytest.param({"age": -5 * MINUTE}, id="a clock that is a little ahead"),
        pytest.param({"count": 5, "before": 10}, id="half is not less than half"),
        pytest.param({"count": 1, "before": 0}, id="more than nothing"),
        pytest.param({"count": 99, "before": 10}, id="more"),
        pytest.param({"count": 0, "allow_empty": True}, id="empty on purpose"),
        pytest.param({"count": 1, "before": 100, "allow_empty": True}, id="less than half on purpose"),
    ],
)
def test_trusts_a_fresh_reading_of_similar_size(facts):
    judged(**facts)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        pytest.param(
            {"age": 24 * HOUR + SECOND},
            f"is as of 2026-11-22T02:59:59Z, 24 hours old, at most 24 hours; {STALE}",
            id="a second too old",
        ),
        pytest.param(
            {"age": 100 * HOUR, "allow_empty": True},
            f"is as of 2026-11-18T23:00:00Z, 4 days old, at most 24 hours; {STALE}",
            id="too old, with allow_empty",
        ),
        pytest.param(
            {"age": 61 * MINUTE, "max_age": HOUR},
            f"is as of 2026-11-23T01:59:00Z, 61 minutes old, at most 60 minutes; {STALE}",
            id="an hour at most",
        ),
        pytest.param(
            {"age": -5 * MINUTE - SECOND},
            "is as of 2026-11-23T03:05:01Z, 5 minutes ahead of the clock;"
            " correct the clock of the machine that wrote it",
            id="from the future",
        ),
        pytest.param({"count": 0}, f"says that nothing is in use; check what it reads; {ALLOW}", id="empty"),
        pytest.param(
            {"count": 0, "before": 0}, f"says that nothing is in use; check what it reads; {ALLOW}", id="still empty"
        ),
        pytest.param(
            {"count": 4, "before": 9},
            "says that 4 images are in use, less than half of the 9 of last time; "
            f"check whether it still reads everything; {ALLOW}",
            id="less than half",
        ),
    ],
)
def test_refuses_a_reading_that_cannot_be_trusted(facts, message):
    with pytest.raises(EvidenceError) as raised:
        judged(**facts)
    assert str(raised.value) == f"evidence list: {message}"
