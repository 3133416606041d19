"""The OCI distribution specification's protocol as plain functions: requests built, answers read. Nothing is sent here.

Sources: distribution-spec 1.1.1, image-spec 1.1.1; what servers do otherwise was seen on distribution 2.8.2.
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
# More than the specification's grammar: some registries have capitals in names. No "." or ".." leads elsewhere.
SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~+-]+"
NAME = re.compile(rf"{SEGMENT}(?:/{SEGMENT})*")
STANDARD_SEGMENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
STANDARD_NAME = re.compile(rf"{STANDARD_SEGMENT}(?:/{STANDARD_SEGMENT})*")
PARAMETER = r"""\s*;\s*([\w!#$&+.^`|~*-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s;,"']*))?"""
LINK = re.compile(rf"[\s,]*<([^>]*)>((?:{PARAMETER}|\s*;)*)\s*(?:,|$)")
NO_LIST = (401, 403, 404, 405)  # of the catalog, which no specification demands
SICK = (408, 429, 500, 502, 503, 504)  # of the referrers API: it may be there, and tell more another time


# What is on the wire. Everything may be absent or null.


class WireCatalog(Struct):
    repositories: list[str] | None = None


class WireTags(Struct):
    tags: list[str] | None = None


class WireReferrers(Struct):
    manifests: list[Descriptor] | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing, and the query of the next page; None: it was the last."""

    rows: list[str]
    following: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class ResolvedManifest:
    """What a reference names: the manifest's digest and media type; its body where it was fetched."""

    digest: str
    media_type: str
    body: bytes = field(default=b"", repr=False)


# Requests. `api`: where the registry's API begins, "https://registry.example.com/v2"; `name`: the repository's path.


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


# Answers.


def refusal(response: Response) -> RegistryError:
    """What an answer that is no 2xx means. A 401 after a fresh token is no matter of signing in."""
    error = manifests.refusal(response)
    if response.status == 401 and find_challenge("bearer", response.headers.get("www-authenticate", "")):
        return PermissionDeniedError(error.message, status=401, request_id=error.request_id)
    return error


def accepted(response: Response) -> Response:
    """The same answer, if it is a good one. Raises what a bad one means."""
    if not succeeded(response):
        raise refusal(response)
    return response


def repositories_page(response: Response) -> Page | None:
    """A page of the catalog; None: the registry has none, or not for us. Raises RegistryError."""
    if response.status in NO_LIST:
        return None
    body = accepted(response).body
    try:
        listed = decode(body, WireCatalog)
    except BrokenBodyError:
        if (perhaps := decode_any_text(body, WireCatalog)) is None:
            raise
        listed = perhaps
    # A name that is no Unicode is shown escaped, and is one that nobody can ask for: it alone is unreadable.
    names = [name.encode(errors="backslashreplace").decode() for name in listed.repositories or ()]
    return Page(names, next_query(response, "/_catalog"))


def tags_page(response: Response, name: str) -> Page | None:
    """A page of a repository's tags: null, [] and nothing at all are one; None: there is no such repository.

    Raises RegistryError.
    """
    if response.status == 404 and any(code == "NAME_UNKNOWN" for code, _, _ in manifests.errors_of(response)):
        return None
    tags = decode(accepted(response).body, WireTags).tags or []
    for tag in tags:
        if not TAG.fullmatch(tag):
            bad(f"an impossible tag: {tag[:200]!r}")
    return Page(tags, next_query(response, f"/{name}/tags/list"))


def referrers_page(response: Response, name: str, digest: str) -> Page | None:
    """A page of the digests that refer to a digest; None: the registry has no such API.

    An older registry, or what stands before it, may say anything to a path that it does not know. Raises RegistryError
    where that may also be the failure of a registry that has the API: a sick server, a refusal of credentials, a list
    that breaks off or cannot be read.
    """
    asked_to_sign_in = response.status in (401, 403) and "www-authenticate" in response.headers
    if response.status in SICK or response.status > 504 or asked_to_sign_in:
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
    digests = [_digest(one.digest or "", "a referrer") for one in listed or ()]
    return Page(digests, next_query(response, f"/{name}/referrers/{digest}"))


def next_query(response: Response, path: str) -> Mapping[str, str] | None:
    """The query of the page after this one, by the header Link alone; None: there is none. Raises BadResponseError.

    Only the query is taken from it: whatever host or path above a proxy on the way writes there, ours is asked.
    """
    for target, relations in _links(response.headers.get("link", "")):
        if "next" in relations:
            parts = address(path, target)
            if parts is None or not parts.path.endswith(path):
                bad(f"a next page at another address: {target[:200]!r}")
            return dict(parse_qsl(parts.query, keep_blank_values=True))
    return None


def _links(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The targets of a header Link and what they are (RFC 8288). Raises BadResponseError.

    One that cannot be read must not be taken for none: the rest of a list would be missing, and nobody would know.
    """
    at = 0
    while text[at:].strip(" \t,"):
        found = LINK.match(text, at)
        parameters = re.findall(PARAMETER, found[2]) if found else []
        relations = [value.strip("\"'") for name, value in parameters if name.lower() == "rel"]
        if found is None or not any(relations):
            bad(f"a header Link that cannot be read: {text[:200]!r}")
        yield found[1], frozenset(relations[0].lower().split())
        at = found.end()


def head(response: Response, reference: str) -> ResolvedManifest | int:
    """What a reference names, from the answer to a HEAD; a status: only the answer to a GET can say what it means.

    An error of a HEAD has no body, so that a refused type looks like a manifest that is not there.
    """
    if response.status in (401, 429):
        raise refusal(response)
    digest = response.headers.get("docker-content-digest", "")
    if response.status != 200 or not digest:
        return response.status
    if ":" in reference and _digest(digest, "a manifest") != reference:
        bad(f"asked for {reference}, told of {digest}")
    return ResolvedManifest(_digest(digest, "a manifest"), manifests.type_of(response))


def fetched(response: Response, reference: str) -> ResolvedManifest:
    """A manifest as it is, hashed. Raises RegistryError, and NotFoundError: there is none."""
    accepted(response)
    told = response.headers.get("docker-content-digest", "")
    digest = reference if ":" in reference else told or f"sha256:{hashlib.sha256(response.body).hexdigest()}"
    if manifests.content_of(_digest(digest, "a manifest"), response.body) is None:
        raise BrokenBodyError(f"a manifest that is not the one that {one_line(digest, 150)} names")
    return ResolvedManifest(digest, manifests.type_of(response), response.body)


def time_of(response: Response, api: str) -> datetime:
    """The registry's own time, from an answer to `ping`. Raises RegistryError."""
    if response.status == 404:
        raise NotFoundError(f"HTTP 404: no registry answers at {api}/", status=404)
    return server_time(accepted(response))


def is_name(path: str) -> bool:
    """Whether a registry can be asked for a repository of this name."""
    return len(path) <= 255 and NAME.fullmatch(path) is not None


def address(base: str, target: str) -> SplitResult | None:
    """Where a link leads; None: it is no address."""
    try:
        return urlsplit(urljoin(base, target))
    except ValueError:
        return None


def _digest(text: str, what: str) -> str:
    if not manifests.is_digest(text):
        bad(f"{what} with the digest {text[:150]!r}")
    return text
