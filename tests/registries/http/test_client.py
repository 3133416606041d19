"""The way to a registry: exact numbers of attempts, time-outs, requested waits, and requests that are never sent."""

import gzip
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.support.drivers import Driver, answering, body, get
from tests.support.simulator.client import Simulator
from worker.registries.errors import BadResponseError, RateLimitedError, RegistryError, UnavailableError
from worker.registries.http.client import Http
from worker.registries.http.messages import Request, Retries
from worker.registries.http.rate_limit import LocalLimiter
from worker.registries.http.transport import MAX_BODY

IMAGES = "/container-registry/v1/images"


@pytest.mark.parametrize(
    ("fault", "attempts", "kind"),
    [
        pytest.param({"kind": "status", "status": 408}, 5, UnavailableError, id="408"),
        pytest.param({"kind": "status", "status": 500}, 5, UnavailableError, id="500"),
        pytest.param({"kind": "status", "status": 502}, 5, UnavailableError, id="502"),
        pytest.param({"kind": "status", "status": 503}, 5, UnavailableError, id="503"),
        pytest.param({"kind": "status", "status": 504}, 5, UnavailableError, id="504"),
        pytest.param({"kind": "status", "status": 501}, 1, RegistryError, id="501"),
        pytest.param({"kind": "status", "status": 520}, 5, UnavailableError, id="520"),
        pytest.param({"kind": "status", "status": 302}, 1, BadResponseError, id="a redirect"),
        pytest.param({"kind": "status", "status": 400}, 1, RegistryError, id="400"),
        pytest.param({"kind": "error", "code": 1}, 5, UnavailableError, id="CANCELLED"),
        pytest.param({"kind": "error", "code": 2}, 5, UnavailableError, id="UNKNOWN"),
        pytest.param({"kind": "error", "code": 4}, 5, UnavailableError, id="DEADLINE_EXCEEDED"),
        pytest.param({"kind": "error", "code": 10}, 5, UnavailableError, id="ABORTED"),
        pytest.param({"kind": "error", "code": 13}, 5, UnavailableError, id="INTERNAL"),
        pytest.param({"kind": "error", "code": 14}, 5, UnavailableError, id="UNAVAILABLE"),
        pytest.param({"kind": "error", "code": 3}, 1, RegistryError, id="INVALID_ARGUMENT"),
        pytest.param({"kind": "reset"}, 5, UnavailableError, id="reset"),
        pytest.param({"kind": "cut"}, 5, UnavailableError, id="cut"),
        pytest.param({"kind": "html"}, 5, BadResponseError, id="HTML"),
    ],
)
def test_limits_the_attempts_of_a_listing(
    simulator: Simulator, driver: Driver, fault: dict[str, object], attempts: int, kind: type[RegistryError]
) -> None:
    simulator.push("shop/api")
    simulator.fault(path=IMAGES, **fault)  # type: ignore[arg-type]  # the table's values are what the fault takes
    with pytest.raises(RegistryError) as failure:
        driver.images("shop/api")
    assert isinstance(failure.value, kind)
    assert len(simulator.requests("GET", IMAGES)) == attempts
    assert sum(driver.usage().requests.values()) == attempts


def test_succeeds_at_the_fifth_attempt(simulator: Simulator, driver: Driver) -> None:
    simulator.push("shop/api")
    simulator.fault("status", path=IMAGES, times=4, status=503)
    assert len(driver.images("shop/api")) == 1
    assert driver.usage().requests == {("GET", "503"): 4, ("GET", "200"): 1}


def test_the_code_in_the_body_takes_precedence_over_the_status(simulator: Simulator, driver: Driver) -> None:
    simulator.fault("status", path=IMAGES, times=1, status=400, body='{"code": 14, "message": "try again"}')
    simulator.push("shop/api")
    assert len(driver.images("shop/api")) == 1


def test_waits_before_a_retry_without_retry_after(simulator: Simulator, driver: Driver) -> None:
    simulator.push("shop/api")
    simulator.fault("error", path=IMAGES, times=1, code=8, message="Request limit exceeded")
    started = time.monotonic()
    assert len(driver.images("shop/api")) == 1
    assert time.monotonic() - started > 0.9  # everybody pauses for a second
    assert driver.usage().rate_wait_seconds > 0.9


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_waits_as_long_as_retry_after_asks(simulator: Simulator, driver: Driver, form: str) -> None:
    simulator.push("shop/api")
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    simulator.fault("error", path=IMAGES, times=1, code=8, retry_after="2" if form == "seconds" else at)
    started = time.monotonic()
    assert len(driver.images("shop/api")) == 1
    assert 1.9 < time.monotonic() - started < 5.0


def test_gives_up_at_once_if_retry_after_is_too_long(simulator: Simulator, driver: Driver) -> None:
    simulator.fault("error", path=IMAGES, code=8, message="Request limit exceeded", retry_after=3600)
    started = time.monotonic()
    with pytest.raises(RateLimitedError, match="RESOURCE_EXHAUSTED: Request limit exceeded"):
        driver.images("shop/api")
    assert time.monotonic() - started < 2.0
    assert len(simulator.requests("GET", IMAGES)) == 1


def test_reports_a_silent_server(simulator: Simulator) -> None:
    simulator.fault("hang", path=IMAGES)
    client = Http("production", LocalLimiter(100.0), 4, Retries(attempts=5, total=0.6, first_wait=0.01, jitter=0.0))
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no response from 127.0.0.1:\d+ within"):
        client.call(get(f"{simulator.url}{IMAGES}", timeout=0.25), body)
    assert 0.5 < time.monotonic() - started < 1.2
    assert 2 <= len(simulator.requests("GET", IMAGES)) <= 3
    client.close()


def packed(size: int, encoding: str = "gzip", times: int = 1) -> bytes:
    content = b" " * size
    for _ in range(times):
        content = gzip.compress(content, 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


TWO_BODIES = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + 2 * gzip.compress(b"[]")


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        pytest.param(packed(MAX_BODY + 1), BadResponseError, "larger than 64 MiB", id="a bomb"),
        pytest.param(packed(1000, "gzip, gzip", 2), BadResponseError, "only gzip was requested", id="packed twice"),
        pytest.param(
            packed(1000, "gzip\r\nContent-Encoding: gzip", 2),
            BadResponseError,
            "only gzip was requested",
            id="in two lines",
        ),
        pytest.param(packed(1000, "br"), BadResponseError, "'br'; only gzip was requested", id="packed otherwise"),
        pytest.param(packed(1000, times=0), UnavailableError, "was cut off", id="not packed at all"),
        pytest.param(TWO_BODIES, UnavailableError, "was cut off", id="two bodies"),
        pytest.param(packed(1000)[:-8], UnavailableError, "was cut off", id="a cut gzip"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", UnavailableError, "was cut off", id="no HTTP"),
        pytest.param(b"", UnavailableError, "was cut off", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", UnavailableError, "was cut off", id="short"),
    ],
)
def test_rejects_invalid_responses(http: Http, response: bytes, kind: type[RegistryError], words: str) -> None:
    with answering(response) as url, pytest.raises(kind, match=words) as failure:
        http.call(get(url), body)
    assert str(failure.value).startswith("production: GET something: ")


def test_a_redirect_is_not_followed(http: Http) -> None:
    asked: list[bytes] = []
    with answering(lambda _, request: asked.append(request)) as elsewhere:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}/x\r\nContent-Length: 0\r\n\r\n".encode()
        with answering(moved) as url:
            assert http.call(get(url), lambda response: response.status) == 302
    assert asked == []


def test_sends_a_request_that_is_not_repeatable_once(simulator: Simulator, http: Http) -> None:
    simulator.fault("reset", method="DELETE")
    request = Request(method="DELETE", url=f"{simulator.url}{IMAGES}/crpx", about="an image", repeatable=False)
    with pytest.raises(UnavailableError):
        http.call(request, body)
    assert len(simulator.requests("DELETE")) == 1


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://container-registry.api.cloud.yandex.net/x", False),
        ("http://10.0.0.1/x", False),
        ("http://localhost.example.org/x", False),
        ("ftp://127.0.0.1/x", False),
        ("http://[::1]:1/x", True),
        ("http://127.8.9.1:1/x", True),
    ],
)
def test_plain_http_stays_inside_the_machine(url: str, allowed: bool) -> None:
    client = Http("production", LocalLimiter(100.0), 4, Retries(attempts=1))
    with pytest.raises(RegistryError) as failure:
        client.call(get(url), body)
    assert ("without TLS" in str(failure.value)) is not allowed
    assert client.usage().requests == ({("GET", "error"): 1} if allowed else {})
    client.close()
