"""Registries that speak the OCI protocol and delete in a way of their own: what to say where a deletion is refused."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from worker.config.settings import HUB_HOSTS

GHCR = (
    "GHCR deletes by GitHub's own API only, by versions of a package: DELETE"
    " /orgs/ORG/packages/container/NAME/versions/ID (or /users/USER/…); registry-gc can plan here, and not delete"
)
HUB = "Docker Hub deletes by its own API and its web pages only, tag by tag; registry-gc can plan here, and not delete"
SWITCHED_OFF = (
    "deletion is switched off there, or this registry has another way to delete. Distribution has it switched on by"
    " storage.delete.enabled: true (REGISTRY_STORAGE_DELETE_ENABLED=true in its environment) and a restart;"
    " a pull-through cache takes no deletions; GHCR and Docker Hub delete by their own APIs only"
)


def own_deletion(url: str, headers: Mapping[str, str]) -> str:
    """Which kind of deletion a registry has instead, by its host or by an answer's headers; empty: none is known."""
    host = urlsplit(url).hostname or ""
    if host == "ghcr.io" or "x-github-request-id" in headers:
        return GHCR
    return HUB if host in HUB_HOSTS or "docker-ratelimit-source" in headers else ""
