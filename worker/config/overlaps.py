"""Two entries of the file for one registry, also of different kinds: a hold on one would not protect the other.

Entries that are one registry only through DNS or a proxy are not detected.
"""

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from worker.config.addresses import HUB_HOSTS, YANDEX_HOSTS, one_endpoint
from worker.config.document import RegistrySettings

ImageRoot = tuple[str, tuple[str, ...]]  # host with its port, and the first path segments of every image address


def overlaps(registries: Iterable[RegistrySettings]) -> Iterator[tuple[str, str, str]]:
    """(name, earlier name, common address) of each entry that is the same registry as an earlier entry.

    Two entries of one kind with the same id but different endpoints are two registries: one is a copy. The same id in
    two kinds is one registry.
    """
    earlier: list[RegistrySettings] = []
    for registry in registries:
        for other in earlier:
            same_id = bool(registry.id) and registry.id == other.id
            if registry.key == other.key or (same_id and registry.kind == other.kind):
                continue
            address = _shared(registry, other) or _shared(other, registry)
            if same_id and not address:  # the two kinds of Yandex share their ids
                address = f"{min(YANDEX_HOSTS)}/{registry.id}"
            if address:
                yield registry.name, other.name, address
                break
        earlier.append(registry)


def _shared(registry: RegistrySettings, other: RegistrySettings) -> str:
    """An address of images of both registries; empty: none."""
    for host, path in _own(registry):
        for other_host, other_path in (*_own(other), *((_host(address), ()) for address in other.addresses)):
            shorter = min(len(path), len(other_path))
            if host == other_host and path[:shorter] == other_path[:shorter]:
                return "/".join((host, *max(path, other_path, key=len)))
    return ""


def _own(registry: RegistrySettings) -> list[ImageRoot]:
    """The image addresses of a registry that follow from its identity; `addresses` has further hosts."""
    if registry.id:
        docker = _host(urlsplit(registry.endpoints.docker).netloc)
        hosts = sorted(YANDEX_HOSTS) if docker in YANDEX_HOSTS else [docker]
        return [(host, (registry.id,)) for host in hosts]
    parts = urlsplit(registry.url)
    segments = tuple(segment for segment in parts.path.split("/") if segment not in ("", "v2"))
    return [(_host(parts.netloc), segments)]


def _host(netloc: str) -> str:
    """The canonical form of a host, with its port unless it is the default."""
    parts = urlsplit(f"https://{netloc}")
    port = "" if parts.port in (None, 443, 80) else f":{parts.port}"
    host = one_endpoint(f"https://{_numeric(parts.hostname or '')}").removeprefix("https://")
    return f"{'docker.io' if host in HUB_HOSTS else host}{port}"


def _numeric(host: str) -> str:
    """`127.1` and similar addresses as resolvers read them; other hosts unchanged."""
    try:
        return str(ipaddress.ip_address(socket.inet_aton(host)))
    except OSError:
        return f"[{host}]" if ":" in host else host
