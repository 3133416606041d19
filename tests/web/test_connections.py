"""Slow and idle connections are closed, and do not block requests."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.support.waiting import until
from tests.web.pages import Pages, start, stop
from worker.web.server import LIMITS

NOWHERE = "redis://127.0.0.1:1/0"
HALF = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The limits as they are."""
    started = start(tmp_path_factory.mktemp("pages"), NOWHERE)
    yield started
    stop(started)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    started = start(tmp_path_factory.mktemp("impatient"), NOWHERE, "head=0.3", "answer=0.3")
    yield started
    stop(started)


def connected(pages: Pages, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection((pages.host, pages.port), timeout=20)
    connection.sendall(sent)
    return connection


def answer(connection: socket.socket) -> bytes:
    """The next answer, all of it: its length is in its headers."""
    with connection.makefile("rb") as stream:
        status, length = stream.readline(), 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        stream.read(length)
        return status.strip()


def ended(connection: socket.socket) -> bool:
    """Waits until the other side ends the connection; False: it sent something."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [pytest.param(b"", id="silent"), pytest.param(HALF, id="half a request")])
def test_many_idle_connections_do_not_block_requests(pages: Pages, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(2 * LIMITS.requests):
            stack.enter_context(connected(pages, sent))
        assert pages.ask("/metrics").status == 200
        assert pages.ask("/healthz").status == 503, "there is no Redis, which it says"
        assert pages.ask("/api/pause", "POST").status == 403, "asked for no token, because none is configured"


def test_a_new_connection_closes_the_oldest_idle_one(pages: Pages) -> None:
    with ExitStack() as stack:
        waiting = [stack.enter_context(connected(pages)) for _ in range(LIMITS.waiting + 1)]
        assert ended(waiting[0])
        waiting[-1].sendall(WHOLE)
        assert answer(waiting[-1]) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("before", "sent"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"", HALF, id="half a request"),
        pytest.param(WHOLE, HALF, id="half of a second request"),
    ],
)
def test_a_connection_without_complete_headers_is_closed(impatient: Pages, before: bytes, sent: bytes) -> None:
    with ExitStack() as stack:

        def ready() -> socket.socket | None:
            """A connection whose first request is answered: on a busy machine that may take longer than it has."""
            connection = stack.enter_context(connected(impatient, before))
            with suppress(ConnectionResetError):
                return connection if not before or answer(connection) == b"HTTP/1.1 200 OK" else None
            return None

        connection = until(ready, what="an answer in time")
        assert connection is not None
        connection.sendall(sent)
        assert ended(connection)


def test_a_connection_without_a_complete_body_is_closed(impatient: Pages) -> None:
    path = impatient.folder / "registry-gc.yaml"
    (impatient.folder / "token").write_text("sesame")
    path.write_text(path.read_text() + f"web: {{token: {{file: {impatient.folder}/token}}}}\n")
    head = b"POST /api/pause HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Length: 2\r\n\r\n"
    with connected(impatient, head) as connection:
        assert ended(connection)


def test_a_connection_serves_several_requests(pages: Pages) -> None:
    with connected(pages) as connection:
        for _ in range(3):
            connection.sendall(WHOLE)
            assert answer(connection) == b"HTTP/1.1 200 OK"
