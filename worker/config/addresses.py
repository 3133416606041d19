"""What an address says about where it leads: this machine, a private network, a proxy."""

import ipaddress
import re
from urllib.parse import urlsplit

PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1/128")
)  # RFC 1918, RFC 4193, and this machine
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
