"""Two entries of the file that are one registry, whatever their kinds: a hold on one would not bind the other.

What a name server or a proxy makes one registry of is not seen.
"""

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from worker.config.addresses import HUB_HOSTS, YANDEX_HOSTS, one_endpoint
from worker.config.document import RegistrySettings

ImageRoot = tuple[
    str, tuple[str, ...]
]  # host with its port, and the segments that every address of an image begins with


def overlaps(registries: Iterable[RegistrySettings]) -> Iterator[tuple[str, str, str]]:
    """(name, other, address): of each entry that is the same registry as one before it, with an address of both.

    Two entries of one kind with one id are two registries where their endpoints are two: one of them is a copy. Of two
    kinds that have ids, one id is one registry.
    """
    seen: list[RegistrySettings] = []
    for one in registries:
        for other in seen:
            same_id = bool(one.id) and one.id == other.id
            if one.key == other.key or (same_id and one.kind == other.kind):
                continue
            address = _shared(one, other) or _shared(other, one)
            if same_id and not address:  # of the vendor's two kinds, whatever endpoints they have
                address = f"{min(YANDEX_HOSTS)}/{one.id}"
            if address:
                yield one.name, other.name, address
                break
        seen.append(one)


def _shared(one: RegistrySettings, other: RegistrySettings) -> str:
    """An address by which one registry's own images are the other's as well; empty: there is none."""
    for host, path in _own(one):
        for other_host, other_path in (*_own(other), *((_host(address), ()) for address in other.addresses)):
            shorter = min(len(path), len(other_path))
            if host == other_host and path[:shorter] == other_path[:shorter]:
                return "/".join((host, *max(path, other_path, key=len)))
    return ""


def _own(registry: RegistrySettings) -> list[ImageRoot]:
    """Where a registry's images are by what identifies it: for people's own names of it there are `addresses`."""
    if registry.id:
        docker = _host(urlsplit(registry.endpoints.docker).netloc)
        hosts = sorted(YANDEX_HOSTS) if docker in YANDEX_HOSTS else [docker]
        return [(host, (registry.id,)) for host in hosts]
    parts = urlsplit(registry.url)
    segments = tuple(segment for segment in parts.path.split("/") if segment not in ("", "v2"))
    return [(_host(parts.netloc), segments)]


def _host(netloc: str) -> str:
    """A host, with a port that is not the usual one, in the one spelling that stands for all."""
    parts = urlsplit(f"https://{netloc}")
    port = "" if parts.port in (None, 443, 80) else f":{parts.port}"
    host = one_endpoint(f"https://{_numeric(parts.hostname or '')}").removeprefix("https://")
    return f"{'docker.io' if host in HUB_HOSTS else host}{port}"


def _numeric(host: str) -> str:
    """`127.1` and the like as resolvers read them; other names and addresses as they are."""
    try:
        return str(ipaddress.ip_address(socket.inet_aton(host)))
    except OSError:
        return f"[{host}]" if ":" in host else host
