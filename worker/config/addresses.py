"""What an address says about where it leads: this machine, a private network, a proxy, one registry by many names."""

import functools
import ipaddress
import re
from contextlib import suppress
from urllib.parse import urlsplit

PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1/128")
)  # RFC 1918, RFC 4193, and this machine
YANDEX_HOSTS = frozenset({"cr.yandex", "registry.yandexcloud.net"})  # by which the vendor's registries are also known
HUB_HOSTS = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)  # one registry
USUAL_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(host: str) -> bool | None:
    """Whether an address is one of a private network, or of this machine; None: it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in PRIVATE)


def is_proxy_url(text: str) -> bool:
    """Whether it is a URL of a proxy: scheme, host and port, perhaps a user and a password."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    whole = parts.scheme in USUAL_PORTS and host and port != 0 and parts.path in ("", "/")
    return bool(whole) and not (parts.query or parts.fragment or re.search(r"[^!-~]", text))


@functools.cache
def one_endpoint(root: str) -> str:
    """A service's root in the one way that stands for all ways to write it."""
    parts = urlsplit(root)
    host = _one_host((parts.hostname or "").rstrip("."))
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def api_of(url: str) -> str:
    """Where the API of an OCI registry begins: `/v2` is appended unless the url's path begins with it."""
    return url if f"{urlsplit(url).path}/".startswith("/v2/") else f"{url}/v2"


def namespace_of(url: str) -> str:
    """What every repository's full name begins with where the url leads below `/v2/`: "project" for …/v2/project."""
    path = urlsplit(url).path
    return path.removeprefix("/v2/") if path.startswith("/v2/") else ""


def _one_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        with suppress(UnicodeError):  # a name that no server can have
            return host if host.isascii() else host.encode("idna").decode()
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    if str(address) in ("127.0.0.1", "::1"):
        return "localhost"
    return f"[{address}]" if address.version == 6 else str(address)
