"""The protocol of the OCI distribution specification as plain functions: requests and responses. Sends no request.

Sources: distribution-spec 1.1.1, image-spec 1.1.1; deviations were observed on distribution 2.8.2.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import SplitResult, parse_qsl, quote, urljoin, urlsplit

from msgspec import UNSET, Struct, UnsetType

from worker.registries.docker import manifests
from worker.registries.docker.manifests import Descriptor
from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    PermissionDeniedError,
    RegistryError,
)
from worker.registries.http.challenges import find_challenge
from worker.registries.http.messages import BrokenBodyError, Request, Response
from worker.registries.http.responses import TAG, bad, decode, decode_any_text, server_time, succeeded
from worker.text import one_line

PAGE_SIZE = 1000  # the most that distribution allows
# Wider than the specification: some registries have capitals in names. "." and ".." are not allowed.
SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~+-]+"
NAME = re.compile(rf"{SEGMENT}(?:/{SEGMENT})*")
STANDARD_SEGMENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
STANDARD_NAME = re.compile(rf"{STANDARD_SEGMENT}(?:/{STANDARD_SEGMENT})*")
PARAMETER = r"""\s*;\s*([\w!#$&+.^`|~*-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s;,"']*))?"""
LINK = re.compile(rf"[\s,]*<([^>]*)>((?:{PARAMETER}|\s*;)*)\s*(?:,|$)")
NO_LIST = (401, 403, 404, 405)  # of the catalog, which is not part of the specification
RETRYABLE = (408, 429, 500, 502, 503, 504)  # of the referrers API: a later attempt may succeed


# Wire formats. Every field may be absent or null.


class WireCatalog(Struct):
    repositories: list[str] | None = None


class WireTags(Struct):
    tags: list[str] | None = None


class WireReferrers(Struct):
    manifests: list[Descriptor] | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing. `following`: the query of the next page; None: the last page."""

    rows: list[str]
    following: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class ResolvedManifest:
    """The manifest that a reference names; `body` only if it was downloaded."""

    digest: str
    media_type: str
    body: bytes = field(default=b"", repr=False)


# Requests. `api`: the base URL of the API, "https://registry.example.com/v2"; `name`: the path of the repository.


def ping(api: str) -> Request:
    return _get(f"{api}/", "/v2/")


def list_repositories(api: str, query: Mapping[str, str]) -> Request:
    return _get(f"{api}/_catalog", "/v2/_catalog", query)


def list_tags(api: str, name: str, query: Mapping[str, str]) -> Request:
    return _get(f"{api}/{quote(name)}/tags/list", name, query)


def list_referrers(api: str, name: str, digest: str, query: Mapping[str, str]) -> Request:
    return _get(f"{api}/{quote(name)}/referrers/{digest}", f"referrers of {manifests.about(name, digest)}", query)


def _get(url: str, what: str, query: Mapping[str, str] | None = None) -> Request:
    return Request(method="GET", url=url, about=what, query=query or {}, repeatable=True)


# Responses.


def refusal(response: Response) -> RegistryError:
    """The error of a response that is not 2xx. A 401 after a new token means a missing permission. So a 401 with a
    Bearer challenge is a PermissionDeniedError, any other 401 a SignInError. Source: distribution's token
    specification; a token server may grant less than was requested.
    """
    error = manifests.refusal(response)
    if response.status == 401 and find_challenge("bearer", response.headers.get("www-authenticate", "")):
        return PermissionDeniedError(error.message, status=401, request_id=error.request_id)
    return error


def accepted(response: Response) -> Response:
    """The response, if it is 2xx. Raises the error of any other response."""
    if not succeeded(response):
        raise refusal(response)
    return response


def repositories_page(response: Response) -> Page | None:
    """A page of the catalog; None: the registry has no catalog, or refuses it. Raises RegistryError."""
    if response.status in NO_LIST:
        return None
    body = accepted(response).body
    try:
        listed = decode(body, WireCatalog)
    except BrokenBodyError:
        if (repaired := decode_any_text(body, WireCatalog)) is None:
            raise
        listed = repaired
    # A name that is not Unicode is escaped. No request can contain it, so only this repository is unreadable.
    names = [name.encode(errors="backslashreplace").decode() for name in listed.repositories or ()]
    return Page(names, next_query(response, "/_catalog"))


def tags_page(response: Response, name: str) -> Page | None:
    """A page of tags, which may be null or absent; None: no such repository. Raises RegistryError."""
    if response.status == 404 and any(code == "NAME_UNKNOWN" for code, _, _ in manifests.errors_of(response)):
        return None
    tags = decode(accepted(response).body, WireTags).tags or []
    for tag in tags:
        if not TAG.fullmatch(tag):
            bad(f"the list has an invalid tag: {tag[:200]!r}")
    return Page(tags, next_query(response, f"/{name}/tags/list"))


def referrers_page(response: Response, name: str, digest: str) -> Page | None:
    """A page of the referrers of a digest; None: the registry has no such API.

    An older registry, or a proxy, may send any response to an unknown path. Raises RegistryError if the response may be
    the failure of a registry that has the API: a server error, a refusal of credentials, a truncated list.
    """
    asked_to_sign_in = response.status in (401, 403) and "www-authenticate" in response.headers
    if response.status in RETRYABLE or response.status > 504 or asked_to_sign_in:
        raise refusal(response)
    if response.status != 200 or not response.body.lstrip().startswith(b"{"):
        return None
    try:
        listed = decode(response.body, WireReferrers).manifests
    except BrokenBodyError:
        raise
    except BadResponseError:
        return None
    if listed is UNSET:
        return None
    digests = [_digest(referrer.digest or "", "a referrer") for referrer in listed or ()]
    return Page(digests, next_query(response, f"/{name}/referrers/{digest}"))


def next_query(response: Response, path: str) -> Mapping[str, str] | None:
    """The query of the next page, from the header Link; None: no next page. Raises BadResponseError.

    Only the query of the link is used: proxies may rewrite its host and the beginning of its path.
    """
    for target, relations in _links(response.headers.get("link", "")):
        if "next" in relations:
            parts = address(path, target)
            if parts is None or not parts.path.endswith(path):
                bad(f"the next page is at another address: {target[:200]!r}")
            return dict(parse_qsl(parts.query, keep_blank_values=True))
    return None


def _links(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The targets and relations of a header Link (RFC 8288). Raises BadResponseError.

    An unreadable header is an error: otherwise the rest of a list would be missing without notice.
    """
    at = 0
    while text[at:].strip(" \t,"):
        link = LINK.match(text, at)
        parameters = re.findall(PARAMETER, link[2]) if link else []
        relations = [value.strip("\"'") for name, value in parameters if name.lower() == "rel"]
        if link is None or not any(relations):
            bad(f"the header Link cannot be parsed: {text[:200]!r}")
        yield link[1], frozenset(relations[0].lower().split())
        at = link.end()


def head(response: Response, reference: str) -> ResolvedManifest | int:
    """The manifest that a reference names, from the response to a HEAD; a status: a GET has to follow.

    The error of a HEAD has no body, so a refused media type looks like a missing manifest.
    """
    if response.status in (401, 429):
        raise refusal(response)
    digest = response.headers.get("docker-content-digest", "")
    if response.status != 200 or not digest:
        return response.status
    if ":" in reference and _digest(digest, "a manifest") != reference:
        bad(f"requested {reference}, received {digest}")
    return ResolvedManifest(_digest(digest, "a manifest"), manifests.type_of(response))


def fetched(response: Response, reference: str) -> ResolvedManifest:
    """A downloaded manifest, checked against its digest. Raises NotFoundError and any other RegistryError."""
    accepted(response)
    header = response.headers.get("docker-content-digest", "")
    digest = reference if ":" in reference else header or f"sha256:{hashlib.sha256(response.body).hexdigest()}"
    if manifests.content_of(_digest(digest, "a manifest"), response.body) is None:
        raise BrokenBodyError(f"the manifest does not have the digest {one_line(digest, 150)}")
    return ResolvedManifest(digest, manifests.type_of(response), response.body)


def time_of(response: Response, api: str) -> datetime:
    """The time of the registry, from the response to `ping`. Raises RegistryError. Aware, UTC. NotFoundError: no
    registry answers there. BadResponseError: no valid header Date.
    """
    if response.status == 404:
        raise NotFoundError(f"HTTP 404: no registry answers at {api}/", status=404)
    return server_time(accepted(response))


def is_name(path: str) -> bool:
    """Whether a request can contain this repository name."""
    return len(path) <= 255 and NAME.fullmatch(path) is not None


def address(base: str, target: str) -> SplitResult | None:
    """The absolute URL of a link; None: invalid. A server chose the link, so it may lead to any scheme and host: the
    caller must check what it uses.
    """
    try:
        return urlsplit(urljoin(base, target))
    except ValueError:
        return None


def _digest(text: str, what: str) -> str:
    if not manifests.is_digest(text):
        bad(f"{what} has an invalid digest: {text[:150]!r}")
    return text
