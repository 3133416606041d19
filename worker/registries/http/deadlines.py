"""A total for one exchange of HTTP, its headers included: each read and write gets no more than what is left of it.

httpx's time-outs count from byte to byte: a server that sends one every few seconds is waited for without end.
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore


class Deadline(threading.local):
    """When the exchange of this thread has to be over."""

    ends = float("inf")  # time.monotonic(); infinite outside of an exchange
    heard = False  # whether the server has sent anything since it began

    @contextmanager
    def at(self, ends: float) -> Iterator[None]:
        self.ends, self.heard = ends, False
        try:
            yield
        finally:
            self.ends = float("inf")

    def within(self, timeout: float | None, error: type[Exception]) -> float | None:
        """A time-out that ends with the exchange. Raises `error`: that is over already."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise error("time is up")
        return left if timeout is None else min(timeout, left)


class Backend(httpcore.SyncBackend):
    """Connections of httpcore that keep to a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = self._deadline.within(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options), self._deadline)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        content = self._stream.read(max_bytes, self._deadline.within(timeout, httpcore.ReadTimeout))
        self._deadline.heard |= bool(content)
        return content

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.within(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = self._deadline.within(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
