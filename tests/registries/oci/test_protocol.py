"""Responses of the OCI protocol: pages, manifests of references, refusals, redirects."""

import hashlib
import json
from typing import Any

import pytest

from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RegistryError,
    SignInError,
    UnavailableError,
)
from worker.registries.http.messages import BrokenBodyError, Response
from worker.registries.oci import protocol
from worker.registries.oci.protocol import ResolvedManifest

BODY = b'{"schemaVersion": 2}'
DIGEST = "sha256:17dbee0b55196e3ffb3c65e5c3c3f0a4fb5ddf6cc8f37bbbe5ec61b6b7b5b3a5"
A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
ROOT = "https://registry.example.com"
API = f"{ROOT}/v2"


def answered(status: int, code: str = "", message: str = "", **headers: str) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode() if code else b""
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("link", "query"),
    [
        ("", None),
        ('</v2/a/tags/list?last=x&n=5>; rel="next"', {"last": "x", "n": "5"}),
        ("</v2/a/tags/list?last=x%2Fy&n=5>; rel=next", {"last": "x/y", "n": "5"}),
        ('</v2/a/tags/list?last=>; rel="next"', {"last": ""}),
        ('<http://inside:5000/v2/a/tags/list?n=5>; rel="next"', {"n": "5"}),
        ('<https://evil.example/prefix/v2/a/tags/list?next_page=t>; REL="next"', {"next_page": "t"}),
        ('</v2/a/tags/list?n=1>; rel="prev", </v2/a/tags/list?n=2>; title="a, b"; rel="next"', {"n": "2"}),
        ('</v2/a/tags/list?n=1>; rel="first"', None),
        ("</v2/a/tags/list?n=2>; rel = next", {"n": "2"}),
        ("</v2/a/tags/list?n=2>; rel='next'", {"n": "2"}),
        ('</v2/a/tags/list?n=2>; rel="prev next"', {"n": "2"}),
        ('</v2/a/tags/list?n=2>; title="x;y, z"; REL="Next"', {"n": "2"}),
        ('</v2/a/tags/list?n=2>; ; rel="next";', {"n": "2"}),
        (", </v2/a/tags/list?n=1>; rel=prev, , </v2/a/tags/list?n=2>; rel=next, ", {"n": "2"}),
    ],
)
def test_a_link_leads_to_the_next_page(link: str, query: dict[str, str] | None) -> None:
    assert protocol.next_query(Response(200, {"link": link} if link else {}, b""), "/v2/a/tags/list") == query


@pytest.mark.parametrize(
    "link", ["rubbish", "</v2/a/tags/list?n=2>", "</v2/a/tags/list?n=2", "<x>; rel", ';rel="next"']
)
def test_rejects_an_unreadable_link(link: str) -> None:
    with pytest.raises(BadResponseError, match="the header Link cannot be parsed"):
        protocol.next_query(Response(200, {"link": link}, b""), "/v2/a/tags/list")


@pytest.mark.parametrize("target", ["http://[x/v2/a/tags/list?n=2", "//[/v2/a/tags/list"])
def test_rejects_a_next_page_with_an_invalid_url(target: str) -> None:
    with pytest.raises(BadResponseError, match="the next page is at another address"):
        protocol.next_query(Response(200, {"link": f"<{target}>; rel=next"}, b""), "/v2/a/tags/list")


def test_rejects_a_next_page_of_another_listing() -> None:
    response = Response(200, {"link": '</v2/b/tags/list?n=5>; rel="next"'}, b"")
    with pytest.raises(BadResponseError, match="the next page is at another address"):
        protocol.next_query(response, "/v2/a/tags/list")


@pytest.mark.parametrize("body", [b'{"name":"a","tags":null}', b'{"name":"a","tags":[]}', b"{}", b'{"name":"a"}'])
def test_a_repository_may_list_no_tags(body: bytes) -> None:
    assert protocol.tags_page(Response(200, {}, body), "a") == protocol.Page([], None)


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a b", "../x", "ü", "a" * 129, "a\n"])
def test_rejects_a_page_with_an_invalid_tag(tag: str) -> None:
    with pytest.raises(BadResponseError, match="the list has an invalid tag"):
        protocol.tags_page(Response(200, {}, json.dumps({"tags": ["v1", tag]}).encode()), "a")


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("a", True), ("a/b", True), ("a.b/c_d/e__f/g-h/i---j", True), ("0/1", True), ("a" * 255, True),
        ("A", True), ("Team/app", True), ("a..b", True), ("a___b", True), ("-a", True), ("a-", True), ("...", True),
        ("", False), ("a//b", False), ("/a", False), ("a/", False), (".", False), ("a/.", False), ("./a", False),
        ("../a", False), ("a/../b", False), ("a b", False), ("a:b", False), ("a@b", False), ("a" * 256, False),
        ("a\n", False), ("a?b", False), ("a%2fb", False),
    ],
)  # fmt: skip
def test_accepts_only_valid_repository_names(path: str, good: bool) -> None:
    assert protocol.is_name(path) is good


@pytest.mark.parametrize(
    ("status", "headers", "reference", "resolved"),
    [
        (200, {"docker-content-digest": A, "content-type": "x/y; charset=utf-8"}, "v1", ResolvedManifest(A, "x/y")),
        (200, {"docker-content-digest": A}, A, ResolvedManifest(A, "")),
        (200, {}, A, 200),
        (200, {}, "v1", 200),
        (404, {"docker-content-digest": A}, "v1", 404),
        (405, {}, "v1", 405),
        (500, {}, A, 500),
    ],
)
def test_reads_a_digest_or_a_404_from_head(
    status: int, headers: dict[str, str], reference: str, resolved: ResolvedManifest | int
) -> None:
    assert protocol.head(Response(status, headers, b""), reference) == resolved


@pytest.mark.parametrize(
    ("status", "headers", "reference", "kind"),
    [
        (200, {"docker-content-digest": B}, A, BadResponseError),
        (200, {"docker-content-digest": "sha256:../x"}, "v1", BadResponseError),
        (200, {"docker-content-digest": f"md5:{'a' * 32}"}, "v1", BadResponseError),
        (200, {"docker-content-digest": A.upper()}, "v1", BadResponseError),
        (401, {}, "v1", SignInError),
        (401, {"www-authenticate": 'Bearer realm="x"'}, "v1", PermissionDeniedError),
        (429, {}, "v1", RateLimitedError),
    ],
)
def test_rejects_a_head_with_another_digest(
    status: int, headers: dict[str, str], reference: str, kind: type[RegistryError]
) -> None:
    with pytest.raises(RegistryError) as failure:
        protocol.head(Response(status, headers, b""), reference)
    assert type(failure.value) is kind


def test_checks_a_downloaded_manifest_against_its_digest() -> None:
    sha256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    sha512 = f"sha512:{hashlib.sha512(BODY).hexdigest()}"
    for reference in ("v1", sha256, sha512):
        digest_header = {} if reference == "v1" else {"docker-content-digest": reference}
        manifest = protocol.fetched(Response(200, digest_header | {"content-type": "x/y"}, BODY), reference)
        assert manifest == ResolvedManifest(sha256 if reference == "v1" else reference, "x/y", BODY)
    with pytest.raises(BrokenBodyError, match="does not have the digest sha256:aaa"):
        protocol.fetched(Response(200, {}, BODY), A)
    with pytest.raises(BrokenBodyError, match="does not have the digest sha256:aaa"):
        protocol.fetched(Response(200, {"docker-content-digest": A}, BODY), "v1")
    with pytest.raises(NotFoundError):
        protocol.fetched(answered(404, "MANIFEST_UNKNOWN"), "v1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFoundError), (401, SignInError), (403, PermissionDeniedError), (200, BadResponseError)],
)
def test_reports_why_the_time_of_the_registry_is_unknown(status: int, kind: type[RegistryError]) -> None:
    with pytest.raises(kind) as failure:
        protocol.time_of(Response(status, {}, b""), API)
    assert (f"no registry answers at {ROOT}/v2/" in str(failure.value)) is (status == 404)


READERS: list[Any] = [
    protocol.repositories_page,
    lambda response: protocol.tags_page(response, "a"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"7", b'{"tags": 7, "repositories": 7, "manifests": 7}', b"\xff"]
)
def test_reports_a_missing_catalog(read: Any, body: bytes) -> None:
    with pytest.raises(BadResponseError):
        read(Response(200, {}, body))


def test_returns_none_without_a_listing() -> None:
    for status in (401, 403, 404, 405):
        assert protocol.repositories_page(Response(status, {}, b"404 page not found")) is None
    for status in (303, 400, 401, 403, 404, 405, 406, 410, 424, 501):
        assert protocol.referrers_page(Response(status, {}, b"404 page not found"), "a", A) is None
    for body in (b"", b"<html></html>", b"null", b"[]", b"{}", b'{"errors": []}', b'{"manifests": 5}'):
        assert protocol.referrers_page(Response(200, {}, body), "a", A) is None
    for body in (b'{"manifests": []}', b'{"manifests": null}'):
        assert protocol.referrers_page(Response(200, {}, body), "a", A) == protocol.Page([], None)
    with pytest.raises(BrokenBodyError):  # an incomplete list is not an empty list
        protocol.referrers_page(Response(200, {}, b'{"manifests": [{"dig'), "a", A)
    for status in (408, 429, 500, 502, 503, 504, 520):
        with pytest.raises((UnavailableError, RateLimitedError)):
            protocol.referrers_page(Response(status, {}, b""), "a", A)
    for status in (401, 403):
        challenge = {"www-authenticate": 'Bearer realm="https://a/token"'}
        with pytest.raises((PermissionDeniedError, SignInError)):
            protocol.referrers_page(Response(status, challenge, b""), "a", A)
    with pytest.raises(BadResponseError, match="a referrer has an invalid digest"):
        protocol.referrers_page(Response(200, {}, b'{"manifests": [{"digest": "latest"}]}'), "a", A)
