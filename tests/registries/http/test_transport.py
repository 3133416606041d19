"""One request sent once: a limit on its whole time, decompression in pieces, only configured proxies."""

import gzip
import socket
import time
from collections.abc import Callable

import pytest

from tests.support.drivers import QUICK, answering, body, get
from tests.support.simulator.client import Simulator
from worker.registries.errors import UnavailableError
from worker.registries.http.client import Http
from worker.registries.http.messages import Retries
from worker.registries.http.rate_limit import LocalLimiter
from worker.registries.http.transport import CHUNK, decompressed


def drip(start: bytes) -> Callable[[socket.socket, bytes], None]:
    """A body whose pieces never pause long enough for a read time-out."""

    def response(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(start)
        for _ in range(1000):
            connection.sendall(b"x")
            if connection.fileno() < 0 or _closed(connection, 0.05):
                return

    return response


def _closed(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", id="of a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", id="of a header"),
        pytest.param(b"", id="of a status line"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", id="of a second head"),
    ],
)
def test_ends_a_response_that_arrives_byte_by_byte(start: bytes) -> None:
    client = Http("production", LocalLimiter(100.0), 4, Retries(total=0.5))
    with answering(drip(start)) as url:
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="not complete in time"):
            client.call(get(url), body)
        assert time.monotonic() - started < 1.5
    client.close()


def packed(size: int, encoding: str = "gzip", times: int = 1) -> bytes:
    content = b" " * size
    for _ in range(times):
        content = gzip.compress(content, 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def test_no_piece_of_an_unpacked_body_is_large() -> None:
    """A bomb is noticed when it begins to be one, not after it has filled the memory."""
    bomb = gzip.compress(b" " * (4 * CHUNK + 1), 9)
    sizes = [len(chunk) for chunk in decompressed("gzip", [bomb[:1000], b"", bomb[1000:]])]
    assert sum(sizes) == 4 * CHUNK + 1
    assert max(sizes) <= CHUNK


def test_decompresses_a_response(http: Http) -> None:
    with answering(packed(1000)) as url:
        assert http.call(get(url), body) == b" " * 1000


def test_sends_its_name_and_version(http: Http) -> None:
    seen: list[bytes] = []

    def note(connection: socket.socket, request: bytes) -> None:
        seen.append(request.lower())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with answering(note) as url:
        http.call(get(url), body)
    assert b"user-agent: registry-gc/0.1.0\r\n" in seen[0]
    assert b"authorization" not in seen[0]


def test_the_proxies_of_the_environment_are_not_used(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    client = Http("production", LocalLimiter(100.0), 4, QUICK)
    assert client.call(get(f"{simulator.url}/v2/"), lambda response: response.status) == 401
    client.close()
