"""The HTTP/1.1 server of a fake registry: persistent connections, parsed requests, and responses that can be cut."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import BinaryIO, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request. `pairs`: its query, decoded, in order; `headers` in lower case."""

    method: str
    path: str  # decoded
    pairs: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def query(self) -> dict[str, str]:
        return dict(self.pairs)


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """One response. `fate`: sent whole, cut after half of the body, or not sent: the connection closes."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fate: Literal["whole", "half", "nothing"] = "whole"
    length: int | None = None  # Content-Length of a HEAD without a body


class Listener:
    """Listens on a free port of 127.0.0.1 while its block runs; one thread for each connection."""

    def __init__(self, answer: Callable[[FakeRequest], FakeResponse]) -> None:
        self._open: set[socket.socket] = set()
        self._handler = _handler(answer, self._open)
        self._restarts: list[threading.Thread] = []
        self._listen(0)

    def _listen(self, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), self._handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def restart(self, seconds: float) -> None:
        """Close every connection, and listen again after so long."""

        def stop_and_start() -> None:
            port = self._server.server_address[1]
            self._stop()
            time.sleep(seconds)
            self._listen(port)
            self._thread.start()

        self._restarts.append(threading.Thread(target=stop_and_start))
        self._restarts[-1].start()

    def __exit__(self, *exc: object) -> None:
        for restart in self._restarts:
            restart.join()
        self._stop()

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def _handler(
    answer: Callable[[FakeRequest], FakeResponse], open_connections: set[socket.socket]
) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True
        wbufsize = 64 * 1024  # one packet per response

        def handle(self) -> None:
            open_connections.add(self.connection)
            with suppress(OSError):
                while (request := read_request(self.rfile)) is not None:
                    self.wfile.write(response_bytes(request, response := answer(request)))
                    self.wfile.flush()
                    if response.fate != "whole" or request.headers.get("connection", "").lower() == "close":
                        break
            open_connections.discard(self.connection)

    return Handler


def read_request(stream: BinaryIO) -> FakeRequest | None:
    """The next request of a connection; None: there is no further one."""
    words = stream.readline(65_536).decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = {}
    while line := stream.readline(65_536).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = ", ".join(filter(None, (headers.get(name.lower()), value.strip())))
    parts = urlsplit(words[1])
    pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
    body = stream.read(int(headers.get("content-length") or 0))
    return FakeRequest(words[0], unquote(parts.path), pairs, headers, body)


def response_bytes(request: FakeRequest, response: FakeResponse) -> bytes:
    """The bytes of a response as they are sent."""
    if response.fate == "nothing":
        return b""
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Docker-Distribution-Api-Version": "registry/2.0",
        "Date": formatdate(usegmt=True),
        "Content-Length": str(len(response.body) if response.length is None else response.length),
        **response.headers,
    }
    lines = [f"HTTP/1.1 {response.status} {phrase(response.status)}", *(f"{name}: {headers[name]}" for name in headers)]
    body = response.body[: len(response.body) // 2] if response.fate == "half" else response.body
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if request.method == "HEAD" else body)


def phrase(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Unknown"
