"""Facts about an address: loopback, private network, proxy, and the canonical form of a registry's address."""

import functools
import ipaddress
import re
from contextlib import suppress
from urllib.parse import urlsplit

PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1/128")
)  # RFC 1918, RFC 4193, and this machine
YANDEX_HOSTS = frozenset({"cr.yandex", "registry.yandexcloud.net"})  # hosts of the same registries
HUB_HOSTS = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)  # hosts of the same registry
USUAL_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether requests to `host` stay on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(host: str) -> bool | None:
    """Whether an address belongs to a private network or to this machine; None: it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in PRIVATE)


def is_proxy_url(text: str) -> bool:
    """Whether it is the URL of a proxy: scheme, host and port, optionally a user and a password."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    whole = parts.scheme in USUAL_PORTS and host and port != 0 and parts.path in ("", "/")
    return bool(whole) and not (parts.query or parts.fragment or re.search(r"[^!-~]", text))


@functools.cache
def one_endpoint(root: str) -> str:
    """The canonical form of a service's root: two spellings of one root give the same form. Without the default port
    and the last slash; 127.0.0.1 and ::1 become localhost. Resolves no name. Raises ValueError if the port is no
    number.
    """
    parts = urlsplit(root)
    host = _one_host((parts.hostname or "").rstrip("."))
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def api_of(url: str) -> str:
    """The root of an OCI registry's API: `/v2` is appended unless the url's path starts with it."""
    return url if f"{urlsplit(url).path}/".startswith("/v2/") else f"{url}/v2"


def namespace_of(url: str) -> str:
    """The prefix of every repository's full name if the url has a path below `/v2/`: "project" for …/v2/project. Empty:
    the url has no such path. The url ends without a slash, as `read_url` returns it.
    """
    path = urlsplit(url).path
    return path.removeprefix("/v2/") if path.startswith("/v2/") else ""


def _one_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        with suppress(UnicodeError):  # an invalid host name
            return host if host.isascii() else host.encode("idna").decode()
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    if str(address) in ("127.0.0.1", "::1"):
        return "localhost"
    return f"[{address}]" if address.version == 6 else str(address)
