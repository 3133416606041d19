"""The OCI distribution specification's protocol as plain functions: requests built, answers read. Nothing is sent here.

Sources: distribution-spec 1.1.1, image-spec 1.1.1; what servers do otherwise was seen on distribution 2.8.2.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, quote, urljoin, urlsplit

from msgspec import UNSET, Struct, UnsetType

from worker.registries.docker import manifests
from worker.registries.docker.manifests import Descriptor
from worker.registries.errors import (
    BadAnswerError,
    BlobsMissingError,
    MaybeProtectedError,
    NotFoundError,
    PermissionDeniedError,
    ProtectedError,
    ReadOnlyError,
    RefusesAllError,
    RegistryError,
    UsedByImageListsError,
)
from worker.registries.http.answers import (
    decode,
    decode_any_text,
    one_line,
    protects,
    succeeded,
    time_told,
    without_names,
)
from worker.registries.http.challenges import asks_for
from worker.registries.http.messages import Answer, BrokenBodyError, Request
from worker.registries.oci.vendors import SWITCHED_OFF, own_deletion

PAGE_SIZE = 1000  # the most that distribution allows
# More than the specification's grammar: some registries have capitals in names. No "." or ".." leads elsewhere.
SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~+-]+"
NAME = re.compile(rf"{SEGMENT}(?:/{SEGMENT})*")
STANDARD_SEGMENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
STANDARD_NAME = re.compile(rf"{STANDARD_SEGMENT}(?:/{STANDARD_SEGMENT})*")
TAG = re.compile("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
PARAMETER = r"""\s*;\s*([\w!#$&+.^`|~*-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s;,"']*))?"""
LINK = re.compile(rf"[\s,]*<([^>]*)>((?:{PARAMETER}|\s*;)*)\s*(?:,|$)")
NO_LIST = (401, 403, 404, 405)  # of the catalog, which no specification demands
SICK = (408, 429, 500, 502, 503, 504)  # of the referrers API: it may be there, and tell more another time
NEEDED = re.compile(r"\b(index|indexes|indices|image lists?|manifest lists?|referenced)\b", re.IGNORECASE)
UPLOAD = re.compile(r"(?!.*(?:/\.{0,2}(?:/|$)|%2f|%2e))/.*/blobs/uploads/[^/]+", re.IGNORECASE)
NOTHING = frozenset(f"{one}:{hashlib.new(one).hexdigest()}" for one in manifests.DIGESTS)  # digests of no bytes at all


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
class Found:
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
    return _get(f"{api}/{quote(name)}/referrers/{digest}", f"referrers of {about(name, digest)}", query)


def head_manifest(api: str, name: str, reference: str, accept: str = manifests.ACCEPT) -> Request:
    return _manifest("HEAD", api, name, reference, headers={"Accept": accept})


def get_manifest(api: str, name: str, reference: str, accept: str = manifests.ACCEPT) -> Request:
    return _manifest("GET", api, name, reference, headers={"Accept": accept})


def delete_manifest(api: str, name: str, digest: str, seconds: float, not_after: float | None) -> Request:
    """By digest only: with a tag, some registries take the tag and leave the manifest."""
    if not manifests.is_digest(digest):
        raise BadAnswerError(f"refusing to delete by anything but a digest: {one_line(digest, 80)!r}")
    # Not repeatable: what became of it is to be seen before it is asked for again.
    more = {"repeatable": False, "timeout": seconds, "patience": seconds, "not_after": not_after}
    return _manifest("DELETE", api, name, digest, **more)


def ask_what_is_allowed(api: str, name: str, digest: str) -> Request:
    return _manifest("OPTIONS", api, name, digest)


def put_manifest(api: str, name: str, reference: str, media_type: str, body: bytes) -> Request:
    # By a tag it is not repeated: somebody may have pushed another image there meanwhile.
    more = {"headers": {"Content-Type": media_type}, "body": body, "repeatable": ":" in reference}
    return _manifest("PUT", api, name, reference, **more)


def get_blob(api: str, name: str, digest: str, first_bytes: int | None = None) -> Request:
    """`first_bytes`: only so many of them."""
    some = {} if first_bytes is None else {"Range": f"bytes=0-{first_bytes - 1}"}
    return Request(
        method="GET",
        url=f"{api}/{quote(name)}/blobs/{quote(digest, safe=':')}",
        about=f"blob {about(name, digest)}",
        headers={"Accept-Encoding": "identity"} | some,
        repeatable=True,
        first_bytes=first_bytes,
    )


def head_blob(api: str, name: str, digest: str) -> Request:
    url = f"{api}/{quote(name)}/blobs/{quote(digest, safe=':')}"
    return Request(method="HEAD", url=url, about=f"blob {about(name, digest)}", repeatable=True)


def mount_blob(api: str, name: str, digest: str, source: str) -> Request:
    return Request(
        method="POST",
        url=f"{api}/{quote(name)}/blobs/uploads/",
        about=f"blob {about(name, digest)} from {source}",
        query={"mount": digest, "from": source},
        body=b"",
        repeatable=False,
    )


def about(name: str, reference: str) -> str:
    """shop/api@sha256:9f86…, or shop/api:tag."""
    return f"{name}@{reference[:19]}…" if ":" in reference else f"{name}:{reference}"


def _get(url: str, what: str, query: Mapping[str, str] | None = None) -> Request:
    return Request(method="GET", url=url, about=what, query=query or {}, repeatable=True)


def _manifest(method: Any, api: str, name: str, reference: str, **more: Any) -> Request:
    url = f"{api}/{quote(name)}/manifests/{quote(reference, safe=':')}"
    return Request(method=method, url=url, about=about(name, reference), **({"repeatable": True} | more))


# Answers.


def refusal(answer: Answer) -> RegistryError:
    """What an answer that is no 2xx means. A 401 after a fresh token is no matter of signing in."""
    error = manifests.refusal(answer)
    if answer.status == 401 and asks_for("bearer", answer.headers.get("www-authenticate", "")):
        return PermissionDeniedError(error.message, status=401, request_id=error.request_id)
    return error


def accepted(answer: Answer) -> Answer:
    """The same answer, if it is a good one. Raises what a bad one means."""
    if not succeeded(answer):
        raise refusal(answer)
    return answer


def repositories_page(answer: Answer) -> Page | None:
    """A page of the catalog; None: the registry has none, or not for us. Raises RegistryError."""
    if answer.status in NO_LIST:
        return None
    body = accepted(answer).body
    try:
        listed = decode(body, WireCatalog)
    except BrokenBodyError:
        if (perhaps := decode_any_text(body, WireCatalog)) is None:
            raise
        listed = perhaps
    # A name that is no Unicode is shown escaped, and is one that nobody can ask for: it alone is unreadable.
    names = [name.encode(errors="backslashreplace").decode() for name in listed.repositories or ()]
    return Page(names, next_query(answer, "/_catalog"))


def tags_page(answer: Answer, name: str) -> Page:
    """A page of a repository's tags: null, [] and nothing at all are one. Raises RegistryError."""
    tags = decode(accepted(answer).body, WireTags).tags or []
    for tag in tags:
        if not TAG.fullmatch(tag):
            _bad(f"an impossible tag: {tag[:200]!r}")
    return Page(tags, next_query(answer, f"/{name}/tags/list"))


def referrers_page(answer: Answer, name: str, digest: str) -> Page | None:
    """A page of the digests that refer to a digest; None: the registry has no such API.

    An older registry, or what stands before it, may say anything to a path that it does not know. Raises RegistryError
    where that may also be the failure of a registry that has the API: a sick server, a refusal of credentials, a list
    that breaks off or cannot be read.
    """
    asked_to_sign_in = answer.status in (401, 403) and "www-authenticate" in answer.headers
    if answer.status in SICK or answer.status > 504 or asked_to_sign_in:
        raise refusal(answer)
    if answer.status != 200 or not answer.body.lstrip().startswith(b"{"):
        return None
    try:
        listed = decode(answer.body, WireReferrers).manifests
    except BrokenBodyError:
        raise
    except BadAnswerError:
        return None
    if listed is UNSET:
        return None
    digests = [_digest(one.digest or "", "a referrer") for one in listed or ()]
    return Page(digests, next_query(answer, f"/{name}/referrers/{digest}"))


def next_query(answer: Answer, path: str) -> Mapping[str, str] | None:
    """The query of the page after this one, by the header Link alone; None: there is none. Raises BadAnswerError.

    Only the query is taken from it: whatever host or path above a proxy on the way writes there, ours is asked.
    """
    for target, relations in _links(answer.headers.get("link", "")):
        if "next" in relations:
            parts = _address(path, target)
            if parts is None or not parts.path.endswith(path):
                _bad(f"a next page at another address: {target[:200]!r}")
            return dict(parse_qsl(parts.query, keep_blank_values=True))
    return None


def _links(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The targets of a header Link and what they are (RFC 8288). Raises BadAnswerError.

    One that cannot be read must not be taken for none: the rest of a list would be missing, and nobody would know.
    """
    at = 0
    while text[at:].strip(" \t,"):
        found = LINK.match(text, at)
        parameters = re.findall(PARAMETER, found[2]) if found else []
        relations = [value.strip("\"'") for name, value in parameters if name.lower() == "rel"]
        if found is None or not any(relations):
            _bad(f"a header Link that cannot be read: {text[:200]!r}")
        yield found[1], frozenset(relations[0].lower().split())
        at = found.end()


def is_no_such_repository(answer: Answer) -> bool:
    return answer.status == 404 and any(code == "NAME_UNKNOWN" for code, _ in manifests.errors_of(answer))


def head(answer: Answer, reference: str) -> Found | int:
    """What a reference names, from the answer to a HEAD; a status: only the answer to a GET can say what it means.

    An error of a HEAD has no body, so that a refused type looks like a manifest that is not there.
    """
    if answer.status in (401, 429):
        raise refusal(answer)
    digest = answer.headers.get("docker-content-digest", "")
    if answer.status != 200 or not digest:
        return answer.status
    return Found(_same(_digest(digest, "a manifest"), reference), manifests.type_of(answer))


def fetched(answer: Answer, reference: str) -> Found:
    """A manifest as it is, hashed. Raises RegistryError, and NotFoundError: there is none."""
    accepted(answer)
    told = answer.headers.get("docker-content-digest", "")
    digest = reference if ":" in reference else told or f"sha256:{manifests.sha256_of(answer.body)}"
    if manifests.content_of(_digest(digest, "a manifest"), answer.body) is None:
        raise BrokenBodyError(f"a manifest that is not the one that {one_line(digest, 150)} names")
    return Found(digest, manifests.type_of(answer), answer.body)


def deletion_begun(answer: Answer, url: str = "", name: str = "", tags: Iterable[str] = ()) -> None:
    """Raises what a refused deletion means. A 405 has three meanings, and a 400 may have the first.

    `url`: the registry's, by which some are known that delete in another way; `name` and `tags`: the image's. The
    words of a 403 are a hint only: they may be about the caller.
    """
    if succeeded(answer):
        return
    error = refusal(answer)
    codes = {code for code, _ in manifests.errors_of(answer)}
    parts = urlsplit(url)
    names = {name, *name.split("/"), *tags, parts.netloc, parts.hostname or "", *parts.path.split("/")}
    words = without_names(manifests.words_of(answer) or error.message, names).replace("_", " ")
    needed = NEEDED.search(words) is not None
    if answer.status in (400, 405) and "UNSUPPORTED" in codes:
        remedy = own_deletion(url, answer.headers) or SWITCHED_OFF
        raise RefusesAllError(f"{error.message}; {remedy}", status=answer.status)
    if answer.status == 403 and (needed or protects(words)):
        raise MaybeProtectedError(error.message, status=403)
    if answer.status in (400, 405, 409, 412, 422) and needed:
        raise UsedByImageListsError(error.message, status=answer.status)
    if answer.status in (412, 423) or (answer.status in (400, 405, 409, 422) and protects(words)):
        raise ProtectedError(error.message, status=answer.status)
    if answer.status == 405:
        raise _not_allowed(answer, codes, error.message)
    raise error


def allows_deletion(answer: Answer) -> bool | None:
    """False: the registry takes no changes now, by its header Allow; None: it does not say. Raises nothing."""
    allowed = _allowed(answer) if succeeded(answer) or answer.status == 405 else set()
    return None if not allowed or "DELETE" in allowed else False


def _allowed(answer: Answer) -> set[str]:
    return {method.strip().upper() for method in answer.headers.get("allow", "").split(",")} - {""}


def _not_allowed(answer: Answer, codes: Iterable[str], message: str) -> RegistryError:
    if (allowed := _allowed(answer)) and "DELETE" not in allowed:
        remedy = "the registry is read-only; whoever runs it may end that (storage.maintenance.readonly)"
        return RefusesAllError(f"{message}; {remedy}", status=405)
    if "DENIED" in codes:
        return UsedByImageListsError(message, status=405)
    return ReadOnlyError(message, status=405)


def blob(answer: Answer) -> Answer | str:
    """A blob, or a part of it, or where it is served instead. Raises RegistryError."""
    if answer.status in (301, 302, 303, 307, 308) and (location := answer.headers.get("location")):
        return location
    return accepted(answer)


def blob_is_told_of(answer: Answer) -> bool:
    """Whether a registry says that it has a blob, or where. Raises RegistryError."""
    return answer.status != 404 and isinstance(blob(answer), Answer | str)


def redirected(request: Request, location: str) -> Request:
    """The same question asked at another address. Raises BadAnswerError."""
    parts, before = _address(request.url, location), urlsplit(request.url)
    if parts is None:
        _bad(f"a blob that is to be fetched from {location[:200]!r}")
    if parts.scheme not in ("https", before.scheme) or not parts.hostname or "@" in parts.netloc:
        _bad(f"a blob that is to be fetched from {parts.scheme}://{parts.netloc}")
    return replace(request, url=parts.geturl(), query={})


def first_byte(answer: Answer | str, digest: str) -> bool:
    """Whether a byte of a blob came: a server may tell of a blob, and have nothing to send. Of nothing none comes."""
    return isinstance(answer, Answer) and (bool(answer.body) or digest in NOTHING)


def put_back(answer: Answer, digest: str) -> None:
    """Raises BlobsMissingError, and what any other refusal of a manifest means."""
    if succeeded(answer):
        told = answer.headers.get("docker-content-digest", digest)
        if told != digest:
            _bad(f"a manifest that was put as {digest} and taken as {told[:150]}")
        return
    error = refusal(answer)
    if answer.status in (400, 404) and any(code.endswith("BLOB_UNKNOWN") for code, _ in manifests.errors_of(answer)):
        named = dict.fromkeys(re.findall("sha256:[0-9a-f]{64}", answer.body.decode(errors="replace")))
        raise BlobsMissingError(
            f"{error.message}: {', '.join(named)}" if named else error.message, status=answer.status
        )
    if answer.status == 405:
        raise ReadOnlyError(f"{error.message}; the registry is read-only, or takes nothing by pushing", status=405)
    raise error


def mounted(answer: Answer) -> bool:
    """Whether a blob was taken over; 202: an upload was begun instead, at the answer's Location."""
    if answer.status in (201, 202):
        return answer.status == 201
    if answer.status == 404:
        return False
    raise refusal(accepted(answer))


def end_upload(begun: Request, answer: Answer) -> Request | None:
    """Ends the upload that an answer to a mount says was begun; None: there is none, or it is not of that registry."""
    location = answer.headers.get("location", "")
    target = _address(begun.url, location)
    if answer.status != 202 or not location or target is None:
        return None
    here = urlsplit(begun.url)
    # No other DELETE may come of what a server writes there.
    if (target.scheme, target.netloc) != (here.scheme, here.netloc) or not UPLOAD.fullmatch(target.path):
        return None
    stem, _, upload = target.path.rpartition("/")
    if f"{here.path}/".endswith(f"{stem.removeprefix('/v2')}//"):  # a server behind a proxy that adds a path
        target = target._replace(path=f"{here.path}{upload}")
    return Request(method="DELETE", url=target.geturl(), about=f"the upload of a {begun.about}", repeatable=False)


def ended(answer: Answer) -> None:
    """Raises what a refusal to end an upload means."""
    accepted(answer)


def time_of(answer: Answer, api: str) -> datetime:
    """The registry's own time, from an answer to `ping`. Raises RegistryError."""
    if answer.status == 404:
        raise NotFoundError(f"HTTP 404: no registry answers at {api}/", status=404)
    return time_told(accepted(answer))


def is_name(path: str) -> bool:
    """Whether a registry can be asked for a repository of this name."""
    return len(path) <= 255 and NAME.fullmatch(path) is not None


def is_standard_name(path: str) -> bool:
    """Whether the distribution specification allows a repository of this name."""
    return STANDARD_NAME.fullmatch(path) is not None


def _address(base: str, target: str) -> SplitResult | None:
    """Where a link leads; None: it is no address."""
    try:
        return urlsplit(urljoin(base, target))
    except ValueError:
        return None


def _digest(text: str, what: str) -> str:
    if not manifests.is_digest(text):
        _bad(f"{what} with the digest {text[:150]!r}")
    return text


def _same(digest: str, reference: str) -> str:
    if ":" in reference and digest != reference:
        _bad(f"asked for {reference}, told of {digest}")
    return digest


def _bad(what: str) -> NoReturn:
    raise BadAnswerError(one_line(what))
