"""Network routes: trusted certificates, proxies, and the addresses that allow plain http. Sends no request."""

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

STORE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # they replace the system's store; OpenSSL reads them
CACHE_SECONDS = 20.0  # for which the addresses of a host are valid


class NetworkError(Exception):
    """A mistake in the network settings of a registry. Its message says what to do and contains no secret."""


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trust the system's store and the certificates of `ca_file`. Raises NetworkError.

    All clients of the process share a context: loading the certificates takes longer than most requests.
    """
    environment = tuple(os.environ.get(name) for name in STORE_VARIABLES)
    stamp = None
    if ca_file is not None:
        with suppress(OSError):
            status = ca_file.stat()
            stamp = status.st_mtime_ns, status.st_size
    return _tls_context(ca_file, stamp, environment)


@lru_cache(maxsize=16)
def _tls_context(ca_file: Path | None, _stamp: object, environment: tuple[str | None, ...]) -> ssl.SSLContext:
    """`_stamp`: changes with the file, which is then loaded again."""
    context = ssl.create_default_context()
    # Python 3.13 sets this flag, but many certificates of private authorities do not comply; curl accepts them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    paths = ssl.get_default_verify_paths()
    if not any(environment) and not paths.cafile and not (paths.capath and any(Path(paths.capath).iterdir())):
        # Minimal container images have no certificates.
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
    """The proxy for each URL: the registry's own proxy, or else those of the environment."""

    own: str | None = field(default=None, repr=False)  # URLs; they may contain passwords
    by_scheme: Mapping[str, str] = field(default_factory=dict, repr=False)  # "http", "https", "all"
    exceptions: str = ""  # NO_PROXY

    def of(self, url: str) -> str | None:
        """The URL of the proxy; None: no proxy. Requests to this machine never use the proxies of the environment."""
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
    by_scheme: dict[str, str] = {}
    for scheme in ("http", "https", "all"):
        variable = _variable(f"{scheme}_proxy", environ)
        if text := environ.get(variable, "").strip():
            by_scheme[scheme] = _proxy_url(text, f"environment variable {variable}")
    exceptions = environ.get(_variable("no_proxy", environ), "").strip()
    return Proxies(by_scheme=by_scheme, exceptions=exceptions)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    """The lower-case name takes precedence, as in curl."""
    return name if environ.get(name) else name.upper()


def _proxy_url(text: str, where: str) -> str:
    """The URL without its path; the default scheme is http. Raises NetworkError, which does not quote the URL."""
    url = text if "://" in text else f"http://{text}"
    if not is_proxy_url(url):
        raise NetworkError(f"{where} is not a proxy URL; write http://HOST:PORT or https://HOST:PORT (not SOCKS)")
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether NO_PROXY has this host, a parent domain, a network that contains it, or "*"."""
    for entry in re.split(r"[,\s]+", exceptions.lower()):
        name, _, entry_port = entry.partition(":")
        if bracketed := re.fullmatch(r"\[([^\]]+)\](?::([0-9]+))?", entry):
            name, entry_port = bracketed[1], bracketed[2] or ""
        elif not entry_port.isdecimal():
            name, entry_port = entry, ""
        if entry == "*" or (name and entry_port in ("", str(port)) and _matches(name, host.lower().rstrip("."))):
            return True
    return False


def _matches(entry: str, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = entry.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


# Routes.


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one request: its proxy, if any, and the hosts to try."""

    proxy: str | None = field(repr=False)
    hosts: tuple[str, ...]


class Routes:
    """The routes of one registry's client. Safe to use from several threads."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._proxies: Proxies | None = None
        self._addresses: dict[str, tuple[tuple[str, ...], float]] = {}  # by host; valid until (time.monotonic())

    def of(self, url: str, *, direct: bool) -> Route:
        """The route to a URL. Raises NetworkError, and OSError: a host name has no address."""
        proxy, parts = self.proxy(url, direct=direct), urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http" or is_local(host):
            return Route(proxy, (host,))
        addresses = self._private(url)
        if proxy is None:
            return Route(None, addresses)
        if not proxy.startswith("https:"):
            self._private(proxy)  # the proxy receives requests and responses in plain text
        return Route(proxy, (host,))  # the proxy resolves the host name

    def proxy(self, url: str, *, direct: bool) -> str | None:
        """The URL of the proxy; None: no proxy. Raises NetworkError. The URL may contain a password: for messages, use
        `proxy_name`. `direct`: never through a proxy. The settings are read at the first call and then kept.
        """
        if self._proxies is None:
            self._proxies = proxies_of(self.network)
        return None if direct else self._proxies.of(url)

    def proxy_name(self, url: str, *, direct: bool) -> str:
        """The proxy, for messages; empty: no proxy. Host and port without the user name and the password. Raises
        NetworkError.
        """
        proxy = self.proxy(url, direct=direct)
        return f"the proxy {urlsplit(proxy).netloc.rpartition('@')[2]}" if proxy else ""

    def allows_plain_http(self, url: str, *, direct: bool) -> bool:
        """Whether plain http is allowed for this URL. `of` checks the addresses of the host, too. `direct`: the request
        uses no proxy; only then is the metadata service allowed. Resolves no host name.
        """
        host = urlsplit(url).hostname or ""
        if host == LINK_LOCAL_METADATA:
            return direct  # no redirect or realm leads there
        return is_local(host) or self.network.insecure_http

    def _private(self, url: str) -> tuple[str, ...]:
        """The addresses of a host, cached for CACHE_SECONDS. Connections use these addresses, as DNS may change.

        Raises NetworkError: an address is not private. Raises OSError: the host has no address.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        addresses, until = self._addresses.get(host, ((), 0.0))
        if time.monotonic() < until:
            return addresses
        entries = socket.getaddrinfo(host, parts.port or 80, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))
        for address in addresses:
            if not is_private(address):
                what = f"plain http is allowed for private addresses only, and {host} has the address {address}"
                raise NetworkError(f"{what}; use https, or a tunnel to a loopback address")
        self._addresses[host] = addresses, time.monotonic() + CACHE_SECONDS
        return addresses
