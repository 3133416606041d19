"""Deletions of the OCI protocol: how one is asked for, and what a refusal means. Nothing is sent here."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from worker.config.settings import HUB_HOSTS
from worker.registries.docker import manifests
from worker.registries.errors import (
    BadResponseError,
    MaybeProtectedError,
    PermanentlyReadOnlyError,
    ProtectedError,
    ReadOnlyError,
    UsedByImageListsError,
)
from worker.registries.http.messages import Request, Response
from worker.registries.http.responses import protects, succeeded, without_names
from worker.registries.oci.protocol import refusal
from worker.text import one_line

NEEDED = re.compile(r"\b(index|indexes|indices|image lists?|manifest lists?|referenced)\b", re.IGNORECASE)
# Registries that delete in a way of their own: what to say where a deletion is refused.
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


def delete_manifest(api: str, name: str, digest: str, seconds: float, not_after: float | None) -> Request:
    """By digest only: with a tag, some registries take the tag and leave the manifest."""
    if not manifests.is_digest(digest):
        raise BadResponseError(f"refusing to delete by anything but a digest: {one_line(digest, 80)!r}")
    # Not repeatable: what became of it is to be seen before it is asked for again.
    more = {"repeatable": False, "timeout": seconds, "max_seconds": seconds, "not_after": not_after}
    return manifests.manifest_request("DELETE", api, name, digest, **more)


def deletion_begun(response: Response, url: str = "", name: str = "", tags: Iterable[str] = ()) -> None:
    """Raises what a refused deletion means. A 405 has three meanings, and a 400 may have the first.

    `url`: the registry's, by which some are known that delete in another way; `name` and `tags`: the image's. The
    words of a 403 are a hint only: they may be about the caller.
    """
    if succeeded(response):
        return
    error = refusal(response)
    codes = {code for code, _, _ in manifests.errors_of(response)}
    parts = urlsplit(url)
    names = {name, *name.split("/"), *tags, parts.netloc, parts.hostname or "", *parts.path.split("/")}
    words = without_names(manifests.error_text(response) or error.message, names).replace("_", " ")
    needed = NEEDED.search(words) is not None
    if response.status in (400, 405) and "UNSUPPORTED" in codes:
        remedy = own_deletion(url, response.headers) or SWITCHED_OFF
        raise PermanentlyReadOnlyError(f"{error.message}; {remedy}", status=response.status)
    if response.status == 403 and (needed or protects(words)):
        raise MaybeProtectedError(error.message, status=403)
    if response.status in (400, 405, 409, 412, 422) and needed:
        raise UsedByImageListsError(error.message, status=response.status)
    if response.status in (412, 423) or (response.status in (400, 405, 409, 422) and protects(words)):
        raise ProtectedError(error.message, status=response.status)
    if response.status != 405:
        raise error
    if (allowed := _allowed(response)) and "DELETE" not in allowed:
        remedy = "the registry is read-only; whoever runs it may end that (storage.maintenance.readonly)"
        raise PermanentlyReadOnlyError(f"{error.message}; {remedy}", status=405)
    raise (UsedByImageListsError if "DENIED" in codes else ReadOnlyError)(error.message, status=405)


def allows_deletion(response: Response) -> bool | None:
    """False: the registry takes no changes now, by its header Allow; None: it does not say. Raises nothing."""
    allowed = _allowed(response) if succeeded(response) or response.status == 405 else set()
    return None if not allowed or "DELETE" in allowed else False


def _allowed(response: Response) -> set[str]:
    return {method.strip().upper() for method in response.headers.get("allow", "").split(",")} - {""}


def own_deletion(url: str, headers: Mapping[str, str]) -> str:
    """Which kind of deletion a registry has instead, by its host or by an answer's headers; empty: none is known."""
    host = urlsplit(url).hostname or ""
    if host == "ghcr.io" or "x-github-request-id" in headers:
        return GHCR
    return HUB if host in HUB_HOSTS or "docker-ratelimit-source" in headers else ""
