"""How a registry is reached: which certificates are trusted, which proxy is asked, where plain http may go.

Nothing is sent here; `http` asks for it with every request.
"""

import ipaddress
import os
import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import certifi

from worker.config.addresses import USUAL_PORTS, is_private, is_proxy_url
from worker.config.secret import SecretError, add_certificates
from worker.config.settings import Network
from worker.registries.http.messages import LINK_LOCAL_METADATA, is_local

IN_PLACE_OF_THE_STORE = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # OpenSSL reads them by itself, as curl does
ADDRESSES_SERVE = 20.0  # seconds


class NetworkError(Exception):
    """A registry cannot be reached in the way that is configured: what is wrong, and what to do. Holds no secret."""


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """What to trust: the system's store and the certificates of `ca_file`. Raises NetworkError.

    One context serves all clients of the process: reading the certificates takes longer than most requests.
    """
    environment = tuple(os.environ.get(name) for name in IN_PLACE_OF_THE_STORE)
    stamp = None
    if ca_file is not None:
        with suppress(OSError):
            found = ca_file.stat()
            stamp = found.st_mtime_ns, found.st_size
    return _tls_context(ca_file, stamp, environment)


@lru_cache(maxsize=16)
def _tls_context(ca_file: Path | None, _stamp: object, environment: tuple[str | None, ...]) -> ssl.SSLContext:
    """`_stamp`: of the file, which is read again when it has changed."""
    context = ssl.create_default_context()
    # Python 3.13 sets it by itself. Many certificates of private authorities lack what it asks for; curl accepts them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    paths = ssl.get_default_verify_paths()
    if not any(environment) and not paths.cafile and not (paths.capath and any(Path(paths.capath).iterdir())):
        # The smallest container images have no certificates.
        context.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            add_certificates(context, ca_file)
        except SecretError as error:
            raise NetworkError(str(error)) from None
    return context


# Proxies.


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which proxy is used for which URL: the registry's own for all of them, else what the environment says."""

    own: str | None = field(default=None, repr=False)  # a URL, which may hold a password; so may these
    by_scheme: Mapping[str, str] = field(default_factory=dict, repr=False)  # "http", "https", "all"
    exceptions: str = ""  # NO_PROXY

    def of(self, url: str) -> str | None:
        """The proxy's URL; None: none. What never leaves this machine uses the environment's proxies never."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or USUAL_PORTS.get(parts.scheme, 0)
        if host == LINK_LOCAL_METADATA:
            return None
        if self.own is not None:
            return self.own
        if is_local(host) or is_excepted(host, port, self.exceptions):
            return None
        return self.by_scheme.get(parts.scheme) or self.by_scheme.get("all")


def proxies_of(network: Network, environ: Mapping[str, str] = os.environ) -> Proxies:
    """The proxies of a registry. Raises NetworkError."""
    if isinstance(network.proxy, str):
        return Proxies(own=_proxy_url(network.proxy, "the key proxy"))
    if network.proxy is not None:
        try:
            return Proxies(own=_proxy_url(network.proxy.read(), network.proxy.where))
        except SecretError as error:
            raise NetworkError(f"{error}; the configuration names it as this registry's proxy") from None
    # The lower-case name counts more, as with curl.
    names = {name: f"{name}_proxy" for name in ("http", "https", "all", "no")}
    used = {name: one if environ.get(one) else one.upper() for name, one in names.items()}
    found = {name: environ.get(one, "").strip() for name, one in used.items()}
    exceptions = found.pop("no")
    urls = {name: _proxy_url(text, f"environment variable {used[name]}") for name, text in found.items() if text}
    return Proxies(by_scheme=urls, exceptions=exceptions)


def _proxy_url(text: str, where: str) -> str:
    """The URL without a path; without a scheme it is http's. Raises NetworkError, which does not repeat it."""
    url = text if "://" in text else f"http://{text}"
    if not is_proxy_url(url):
        raise NetworkError(f"{where} is no URL of a proxy; write http://HOST:PORT (https:// is read too, socks is not)")
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether NO_PROXY names this host: by itself, by a domain above it, by a network of addresses, or as "*"."""
    for entry in re.split(r"[,\s]+", exceptions.lower()):
        name, its_port = _split_port(entry)
        if entry == "*" or (name and its_port in ("", str(port)) and _names(name, host.lower().rstrip("."))):
            return True
    return False


def _split_port(entry: str) -> tuple[str, str]:
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::([0-9]+))?", entry)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    name, colon, port = entry.partition(":")
    return (name, port) if colon and port.isdecimal() else (entry, "")


def _names(entry: str, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = entry.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


# Both.


@dataclass(frozen=True, slots=True)
class Route:
    """How one request goes: through this proxy, to one of these hosts."""

    proxy: str | None = field(repr=False)
    hosts: tuple[str, ...]


class Routes:
    """The ways to all hosts that a registry's client talks to. Safe to use from several threads."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._proxies: Proxies | None = None
        self._addresses: dict[str, tuple[tuple[str, ...], float]] = {}  # by host; until when (time.monotonic())

    def of(self, url: str, *, direct: bool) -> Route:
        """Raises NetworkError, and OSError: a name has no address."""
        proxy, parts = self.proxy(url, direct=direct), urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http" or is_local(host):
            return Route(proxy, (host,))
        addresses = self._private(url)
        if proxy is None:
            return Route(None, addresses)
        if not proxy.startswith("https:"):
            self._private(proxy)  # it hears all that is said
        return Route(proxy, (host,))  # it looks the name up by itself

    def proxy(self, url: str, *, direct: bool) -> str | None:
        """The proxy's URL. Raises NetworkError."""
        if self._proxies is None:
            self._proxies = proxies_of(self.network)
        return None if direct else self._proxies.of(url)

    def named(self, url: str, *, direct: bool) -> str:
        """The proxy, for people; empty: there is none."""
        proxy = self.proxy(url, direct=direct)
        return f"the proxy {urlsplit(proxy).netloc.rpartition('@')[2]}" if proxy else ""

    def plain_is_fine(self, url: str, *, direct: bool) -> bool:
        """Whether plain http may go there, as far as its host's name tells."""
        host = urlsplit(url).hostname or ""
        if host == LINK_LOCAL_METADATA:
            return direct  # no server sends us there
        return is_local(host) or self.network.insecure_http

    def _private(self, url: str) -> tuple[str, ...]:
        """A host's addresses, all of them private, looked up anew when they have served for a while.

        Whoever connects connects to one of these, not to the name: the next answer of the name's server may be
        another. Raises NetworkError, and OSError: it has none.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        addresses, until = self._addresses.get(host, ((), 0.0))
        if time.monotonic() < until:
            return addresses
        found = socket.getaddrinfo(host, parts.port or 80, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
        for address in addresses:
            if not is_private(address):
                what = f"plain http goes to private addresses only, and {host} is {address}"
                raise NetworkError(f"{what}; use https, or a tunnel to a loopback address")
        self._addresses[host] = addresses, time.monotonic() + ADDRESSES_SERVE
        return addresses
