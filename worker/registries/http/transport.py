"""Sends one request, once, over its network route. The only module that imports httpx.

An exchange has a total time. httpx's time-outs count from byte to byte, so a server that sends a byte every few seconds
would never time out. The time-out of each read and write is at most what remains of the total.
"""

import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from worker import __version__
from worker.registries.errors import BadResponseError, NoConnectionError, UnavailableError
from worker.registries.http.messages import Request, Response
from worker.registries.http.network import Routes, tls_context
from worker.text import one_line

TIME_IS_UP = "the response was not complete in time"
MAX_BODY = 64 * 1024 * 1024  # bytes, decompressed; a page of 1,000 images with 127 layers each has 20 MiB
CHUNK = 1 << 20  # bytes of a decompressed body at once
GZIP = zlib.MAX_WBITS | 16


class Transport:
    """The connections of one registry's client. Safe to use from several threads."""

    def __init__(self, registry: str, routes: Routes, connections: int) -> None:
        self._registry, self._routes = registry, routes
        self._deadline = Deadline()
        self._client = httpx.Client(
            transport=_RoutedTransport(routes, connections, self._deadline),
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": f"registry-gc/{__version__}", "Accept-Encoding": "gzip"},
        )

    def close(self) -> None:
        self._client.close()

    def send(self, request: Request, authorization: str | None, ends: float) -> Response:
        """Send a request; the complete response, received before `ends` (`time.monotonic()`).

        Raises NetworkError, UnavailableError, BadResponseError. `maybe_done`: a DELETE may have been carried out.
        """
        remaining = ends - time.monotonic()
        if remaining <= 0:
            raise UnavailableError("no time left for the request", self._registry, request.label)
        silence = min(request.timeout, remaining)  # seconds without a byte
        timeout = httpx.Timeout(connect=min(5.0, silence), read=silence, write=min(10.0, silence), pool=silence)
        headers = dict(request.headers) | ({"Authorization": authorization} if authorization else {})
        host = urlsplit(request.url).netloc
        # `from None`: the errors of httpx contain the request with its token.
        try:
            with (
                self._deadline.at(ends),
                self._client.stream(
                    request.method,
                    request.url,
                    params=request.query or None,
                    headers=headers,
                    content=request.body,
                    timeout=timeout,
                    extensions={"direct": request.direct},
                ) as response,
            ):
                body = _body(response, request)
                received = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status_code, received, body)
        except httpx.ProxyError as error:
            message = f"{self.proxy_of(request)} refused a connection to {host}: {one_line(_text(error))}"
            raise UnavailableError(message, self._registry, request.label) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            through = f" through {proxy}" if (proxy := self.proxy_of(request)) else ""
            message = f"no connection to {host}{through}: {_text(error)}"
            if "CERTIFICATE_VERIFY_FAILED" in message:
                message += "; if a private authority signed the certificate, name the authority's own with ca_file"
            raise NoConnectionError(message, self._registry, request.label) from None
        except httpx.TimeoutException:
            is_over = self._deadline.received and time.monotonic() >= ends
            message = TIME_IS_UP if is_over else f"no response from {host} within {silence:.0f} s"
            raise self._error(request, message) from None
        except zlib.error:
            raise self._error(request, f"the response from {host} was cut off: it cannot be decompressed") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._error(request, f"the response from {host} was cut off: {_text(error)}") from None

    def proxy_of(self, request: Request) -> str:
        """The proxy of a request, for messages; empty: no proxy."""
        return self._routes.proxy_name(request.url, direct=request.direct)

    def _error(self, request: Request, message: str) -> UnavailableError:
        done = request.method == "DELETE"
        return UnavailableError(message, self._registry, request.label, maybe_done=done)


def _body(response: httpx.Response, request: Request) -> bytes:
    """The body, or its first bytes if the request needs no more."""
    chunks, size = [], 0
    try:
        for chunk in decompressed(response.headers.get("Content-Encoding", ""), response.iter_raw()):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise BadResponseError(f"the response is larger than {MAX_BODY >> 20} MiB", status=response.status_code)
            if request.first_bytes is not None and size >= request.first_bytes:
                break
    except (httpx.RemoteProtocolError, httpx.ReadError):
        if request.first_bytes is None:
            raise  # otherwise the bytes before the cut are enough
    return b"".join(chunks)


def decompressed(encoding: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A decompressed body in chunks, of at most CHUNK bytes if it was compressed. Raises BadResponseError, zlib.error.

    `encoding`: the header Content-Encoding. Double compression is refused: one byte could become a million.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        yield from chunks
        return
    if name not in ("gzip", "x-gzip"):
        raise BadResponseError(f"the response has the Content-Encoding {one_line(encoding)!r}; only gzip was requested")
    decoder = zlib.decompressobj(GZIP)
    started = False
    for compressed in chunks:
        started = started or bool(compressed)
        rest = compressed
        while rest and not decoder.eof:
            yield decoder.decompress(rest, CHUNK)
            rest = decoder.unconsumed_tail
    if started and not (decoder.eof and not decoder.unused_data):
        raise zlib.error("incomplete, or more than one")


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


class Deadline(threading.local):
    """The end of this thread's exchange."""

    ends = float("inf")  # time.monotonic(); infinite outside an exchange
    received = False  # whether the server has sent a byte in this exchange

    @contextmanager
    def at(self, ends: float) -> Iterator[None]:
        self.ends, self.received = ends, False
        try:
            yield
        finally:
            self.ends = float("inf")

    def within(self, timeout: float | None, error: type[Exception]) -> float | None:
        """`timeout`, or the rest of the exchange if that is shorter. Raises `error` if the exchange has ended."""
        remaining = self.ends - time.monotonic()
        if remaining <= 0:
            raise error("the exchange has ended")
        return remaining if timeout is None else min(timeout, remaining)


class Backend(httpcore.SyncBackend):
    """Connections of httpcore that observe a deadline."""

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
        self._deadline.received |= bool(content)
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


class _RoutedTransport(httpx.BaseTransport):
    """Sends each request over its route, to the first address that accepts a connection. Certificates load on use."""

    def __init__(self, routes: Routes, connections: int, deadline: Deadline) -> None:
        self._routes, self._backend = routes, Backend(deadline)
        self._limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=20.0
        )
        self._transports: dict[str | None, httpx.HTTPTransport] = {}  # by the proxy's URL
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises NetworkError, and httpx.TransportError."""
        try:
            route = self._routes.of(str(request.url), direct=request.extensions["direct"])
        except (OSError, UnicodeError) as error:  # no address
            raise httpx.ConnectError(_text(error)) from None
        transport = self._transport(route.proxy)
        for host in route.hosts[:-1]:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return transport.handle_request(_with_host(request, host))
        return transport.handle_request(_with_host(request, route.hosts[-1]))

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()

    def _transport(self, proxy: str | None) -> httpx.HTTPTransport:
        with self._lock:
            if proxy not in self._transports:
                tls = tls_context(self._routes.network.ca_file)
                proxy_tls = tls if proxy and proxy.startswith("https:") else None
                httpx_proxy = httpx.Proxy(proxy, ssl_context=proxy_tls) if proxy else None
                transport = httpx.HTTPTransport(verify=tls, proxy=httpx_proxy, limits=self._limits, trust_env=False)
                # httpcore accepts a backend, but httpx cannot pass it on. No other internal of theirs is used.
                transport._pool._network_backend = self._backend
                self._transports[proxy] = transport
            return self._transports[proxy]


def _with_host(request: httpx.Request, host: str) -> httpx.Request:
    """The request with another host in its URL; the header Host stays the same."""
    request.url = request.url.copy_with(host=host)
    return request
