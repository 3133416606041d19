"""Deletions of the OCI protocol: the request, and the meaning of a refusal. Sends no request."""

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
# Messages for registries that do not delete by the OCI protocol.
GHCR = (
    "GHCR deletes by GitHub's own API only, by versions of a package: DELETE"
    " /orgs/ORG/packages/container/NAME/versions/ID (or /users/USER/…); registry-gc can plan here, but not delete"
)
HUB = "Docker Hub deletes by its own API and its web pages only, tag by tag; registry-gc can plan here, but not delete"
DELETION_DISABLED = (
    "the registry has deletions disabled, or deletes by another API. In Distribution set storage.delete.enabled: true"
    " (REGISTRY_STORAGE_DELETE_ENABLED=true in its environment) and restart it; a pull-through cache accepts no"
    " deletions; GHCR and Docker Hub delete by their own APIs only"
)


def delete_manifest(api: str, name: str, digest: str, seconds: float, not_after: float | None) -> Request:
    """A deletion by digest: by tag, some registries delete the tag only and keep the manifest. `seconds`: the time-out;
    the call may take so long even if `Retries` allows less. `not_after`: `time.monotonic()`. Raises BadResponseError:
    `digest` is not a digest. Source: OCI distribution specification, "Deleting Manifests".
    """
    if not manifests.is_digest(digest):
        raise BadResponseError(f"refused to delete by anything but a digest: {one_line(digest, 80)!r}")
    # Not repeatable: the result of a deletion must be known before the next attempt.
    more = {"repeatable": False, "timeout": seconds, "max_seconds": seconds, "not_after": not_after}
    return manifests.manifest_request("DELETE", api, name, digest, **more)


def check_deletion(response: Response, url: str = "", name: str = "", tags: Iterable[str] = ()) -> None:
    """Raises the error of a refused deletion. A 405 has three meanings; a 400 may have the first of them.

    `url`: identifies registries that delete by another API. `name`, `tags`: of the image. The text of a 403 is only a
    hint, as the reason may be the caller.
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
        remedy = vendor_deletion(url, response.headers) or DELETION_DISABLED
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
        remedy = "the registry is read-only; its operator can change that (storage.maintenance.readonly)"
        raise PermanentlyReadOnlyError(f"{error.message}; {remedy}", status=405)
    raise (UsedByImageListsError if "DENIED" in codes else ReadOnlyError)(error.message, status=405)


def allows_deletion(response: Response) -> bool | None:
    """False: by its header Allow, the registry is read-only now; None: not reported. `response`: to OPTIONS for a
    manifest. Never True: a registry with disabled deletions may still name DELETE there.
    """
    allowed = _allowed(response) if succeeded(response) or response.status == 405 else set()
    return None if not allowed or "DELETE" in allowed else False


def _allowed(response: Response) -> set[str]:
    return {method.strip().upper() for method in response.headers.get("allow", "").split(",")} - {""}


def vendor_deletion(url: str, headers: Mapping[str, str]) -> str:
    """How a registry deletes instead, by its host or by the headers of a response; empty: unknown."""
    host = urlsplit(url).hostname or ""
    if host == "ghcr.io" or "x-github-request-id" in headers:
        return GHCR
    return HUB if host in HUB_HOSTS or "docker-ratelimit-source" in headers else ""
