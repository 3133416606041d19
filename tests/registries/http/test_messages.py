"""Facts of requests and responses of any registry: times, waits, hosts of this machine."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from worker.registries.http.messages import Request, Response, http_date, is_local, retry_after


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("169.254.169.254", True),
        ("cr.yandex", False),
        ("", False),
    ],
)
def test_recognizes_local_hosts(host: str, local: bool) -> None:
    assert is_local(host) is local


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Tue, 24 Nov 2026 03:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 02:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        ("9" * 400, 999_999_999.0),
    ],
)
def test_retry_after_is_seconds_or_an_instant(text: str, seconds: float | None) -> None:
    response = Response(429, {"retry-after": text, "date": "Tue, 24 Nov 2026 03:00:00 GMT"}, b"")
    assert retry_after(response) == seconds


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Tue, 24 Nov 2026 03:00:00 GMT", datetime(2026, 11, 24, 3, tzinfo=UTC)),
        ("Tue, 24 Nov 2026 06:00:00 +0300", datetime(2026, 11, 24, 3, tzinfo=UTC)),
        ("Tue, 24 Nov 2026 03:00:00 -0000", datetime(2026, 11, 24, 3, tzinfo=UTC)),
        ("Tue, 32 Nov 2026 03:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:00:00 -1400", None),
        ("2026-11-24T03:00:00Z", None),
        ("", None),
    ],
)
def test_an_http_date_is_read_as_utc(text: str, instant: datetime | None) -> None:
    assert http_date(text) == Response(200, {"date": text}, b"").date == instant


def test_measures_a_wait_by_our_clock_if_the_response_has_no_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=100)
    waited = retry_after(Response(503, {"retry-after": format_datetime(soon, usegmt=True)}, b""))
    assert waited is not None
    assert 60 < waited <= 100


def test_no_secret_of_a_request_or_an_answer_is_shown() -> None:
    request = Request(
        method="PUT",
        url="https://a.example",
        about="shop/api",
        headers={"X": "hunter2"},
        body=b"hunter2",
        repeatable=False,
    )
    assert request.label == "PUT shop/api"
    assert "hunter2" not in f"{request!r} {Response(200, {}, b'hunter2')!r}"
