"""The OCI protocol's answers, one by one: pages, what a reference names, refusals, redirects."""

import hashlib
import json
from typing import Any

import pytest

from worker.registries.errors import (
    BadAnswerError,
    BlobsMissingError,
    MaybeProtectedError,
    NotFoundError,
    PermissionDeniedError,
    ProtectedError,
    RateLimitedError,
    ReadOnlyError,
    RefusesAllError,
    RegistryError,
    SignInError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.http.messages import Answer, BrokenBodyError
from worker.registries.oci import blobs, deletion, protocol
from worker.registries.oci.protocol import Found

BODY = b'{"schemaVersion": 2}'
DIGEST = "sha256:17dbee0b55196e3ffb3c65e5c3c3f0a4fb5ddf6cc8f37bbbe5ec61b6b7b5b3a5"
A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
SYSTEMIC = (RefusesAllError, ReadOnlyError, PermissionDeniedError, MaybeProtectedError, SignInError, UnavailableError)
ROOT = "https://registry.example.com"
API = f"{ROOT}/v2"


def told(status: int, code: str = "", message: str = "", **headers: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode() if code else b""
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


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
def test_the_next_page(link: str, query: dict[str, str] | None) -> None:
    assert protocol.next_query(Answer(200, {"link": link} if link else {}, b""), "/v2/a/tags/list") == query


@pytest.mark.parametrize(
    "link", ["rubbish", "</v2/a/tags/list?n=2>", "</v2/a/tags/list?n=2", "<x>; rel", ';rel="next"']
)
def test_a_link_that_cannot_be_read_is_not_the_end(link: str) -> None:
    with pytest.raises(BadAnswerError, match="a header Link that cannot be read"):
        protocol.next_query(Answer(200, {"link": link}, b""), "/v2/a/tags/list")


@pytest.mark.parametrize("target", ["http://[x/v2/a/tags/list?n=2", "//[/v2/a/tags/list"])
def test_a_next_page_at_no_address(target: str) -> None:
    with pytest.raises(BadAnswerError, match="a next page at another address"):
        protocol.next_query(Answer(200, {"link": f"<{target}>; rel=next"}, b""), "/v2/a/tags/list")


def test_a_next_page_of_another_listing() -> None:
    answer = Answer(200, {"link": '</v2/b/tags/list?n=5>; rel="next"'}, b"")
    with pytest.raises(BadAnswerError, match="a next page at another address"):
        protocol.next_query(answer, "/v2/a/tags/list")


@pytest.mark.parametrize("body", [b'{"name":"a","tags":null}', b'{"name":"a","tags":[]}', b"{}", b'{"name":"a"}'])
def test_no_tags(body: bytes) -> None:
    assert protocol.tags_page(Answer(200, {}, body), "a") == protocol.Page([], None)


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a b", "../x", "ü", "a" * 129, "a\n"])
def test_impossible_tags(tag: str) -> None:
    with pytest.raises(BadAnswerError, match="an impossible tag"):
        protocol.tags_page(Answer(200, {}, json.dumps({"tags": ["v1", tag]}).encode()), "a")


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
def test_names(path: str, good: bool) -> None:
    assert protocol.is_name(path) is good


@pytest.mark.parametrize(
    ("status", "headers", "reference", "found"),
    [
        (200, {"docker-content-digest": A, "content-type": "x/y; charset=utf-8"}, "v1", Found(A, "x/y")),
        (200, {"docker-content-digest": A}, A, Found(A, "")),
        (200, {}, A, 200),
        (200, {}, "v1", 200),
        (404, {"docker-content-digest": A}, "v1", 404),
        (405, {}, "v1", 405),
        (500, {}, A, 500),
    ],
)
def test_a_head(status: int, headers: dict[str, str], reference: str, found: Found | int) -> None:
    assert protocol.head(Answer(status, headers, b""), reference) == found


@pytest.mark.parametrize(
    ("status", "headers", "reference", "kind"),
    [
        (200, {"docker-content-digest": B}, A, BadAnswerError),
        (200, {"docker-content-digest": "sha256:../x"}, "v1", BadAnswerError),
        (200, {"docker-content-digest": f"md5:{'a' * 32}"}, "v1", BadAnswerError),
        (200, {"docker-content-digest": A.upper()}, "v1", BadAnswerError),
        (401, {}, "v1", SignInError),
        (401, {"www-authenticate": 'Bearer realm="x"'}, "v1", PermissionDeniedError),
        (429, {}, "v1", RateLimitedError),
    ],
)
def test_a_head_that_is_none(status: int, headers: dict[str, str], reference: str, kind: type[RegistryError]) -> None:
    with pytest.raises(RegistryError) as failure:
        protocol.head(Answer(status, headers, b""), reference)
    assert type(failure.value) is kind


def test_what_was_fetched_is_hashed() -> None:
    sha256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    sha512 = f"sha512:{hashlib.sha512(BODY).hexdigest()}"
    for reference in ("v1", sha256, sha512):
        told_digest = {} if reference == "v1" else {"docker-content-digest": reference}
        found = protocol.fetched(Answer(200, told_digest | {"content-type": "x/y"}, BODY), reference)
        assert found == Found(sha256 if reference == "v1" else reference, "x/y", BODY)
    with pytest.raises(BrokenBodyError, match="not the one that sha256:aaa"):
        protocol.fetched(Answer(200, {}, BODY), A)
    with pytest.raises(BrokenBodyError, match="not the one that sha256:aaa"):
        protocol.fetched(Answer(200, {"docker-content-digest": A}, BODY), "v1")
    with pytest.raises(NotFoundError):
        protocol.fetched(told(404, "MANIFEST_UNKNOWN"), "v1")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (told(405, "UNSUPPORTED", "The operation is unsupported."), RefusesAllError, "REGISTRY_STORAGE_DELETE_ENABLED"),
        (told(400, "UNSUPPORTED", "unsupported"), RefusesAllError, "storage.delete.enabled: true"),
        (told(405, "UNSUPPORTED", "no", x_github_request_id="1"), RefusesAllError, "GHCR deletes by GitHub's own API"),
        (told(405, "UNSUPPORTED", "no", docker_ratelimit_source="1"), RefusesAllError, "Docker Hub deletes by its own"),
        (told(405, "UNSUPPORTED", "no"), RefusesAllError, "a pull-through cache takes no deletions"),
        (told(405, allow="GET, HEAD"), RefusesAllError, "the registry is read-only"),
        (told(405, "DENIED", "requested access to the resource is denied"), UsedByImageListsError, "DENIED"),
        (told(405, "MANIFEST_INVALID", "manifest is referenced by an index image"), UsedByImageListsError, "index"),
        (told(409, "MANIFEST_REFERENCED_IN_LIST", "a manifest list"), UsedByImageListsError, "MANIFEST_REFERENCED"),
        (told(400, "MANIFEST_REFERENCED_IN_LIST", ""), UsedByImageListsError, "MANIFEST_REFERENCED"),
        (told(412, "PRECONDITION", "due to 'v1' configured as immutable."), ProtectedError, "immutable"),
        (told(412), ProtectedError, "HTTP 412"),
        (told(403, "DENIED", "the tag v1 is protected from deletion"), MaybeProtectedError, "protected"),
        (told(403, "PROTECTED_TAG", ""), MaybeProtectedError, "PROTECTED_TAG"),
        (told(403, "DENIED", "the manifest is referenced by an index"), MaybeProtectedError, "index"),
        (told(422, "TAG_LOCKED", "the tag is locked"), ProtectedError, "locked"),
        (told(422, "INVALID", "the manifest is referenced by an index"), UsedByImageListsError, "index"),
        (told(423), ProtectedError, "HTTP 423"),
        (told(405, "DENIED", "disallowed on this registry, repository or image"), ProtectedError, "disallowed"),
        (told(400, "FAILED_PRECONDITION", "the tag is immutable"), ProtectedError, "immutable"),
        (told(409, "TAG_LOCKED", "the tag is locked"), ProtectedError, "locked"),
        (told(412, "PRECONDITION", "the manifest is referenced by an index"), UsedByImageListsError, "index"),
        (told(403, "DENIED", "you may not access this protected resource"), PermissionDeniedError, "resource"),
        (told(500, "UNKNOWN", "the tag is immutable"), UnavailableError, "immutable"),
        (told(405, "SOMETHING", "else"), ReadOnlyError, "SOMETHING"),
        (told(405, allow="DELETE, GET"), ReadOnlyError, "HTTP 405"),
        (told(409, "MANIFEST_INVALID", "multiple manifests found"), RegistryError, "MANIFEST_INVALID"),
        (told(403, "DENIED", "no"), PermissionDeniedError, "DENIED"),
        (told(401, "UNAUTHORIZED", "no", www_authenticate='Bearer realm="x"'), PermissionDeniedError, "UNAUTHORIZED"),
        (told(401, "UNAUTHORIZED", "no", www_authenticate='Basic realm="x"'), SignInError, "UNAUTHORIZED"),
        (told(404, "MANIFEST_UNKNOWN", "manifest unknown"), NotFoundError, "MANIFEST_UNKNOWN"),
        (told(400, "DIGEST_INVALID", "no"), RegistryError, "DIGEST_INVALID"),
        (told(429, "TOOMANYREQUESTS", "slow"), RateLimitedError, "TOOMANYREQUESTS"),
        (told(500, "UNKNOWN", "index of nothing"), UnavailableError, "UNKNOWN"),
        (told(302, location="https://x"), BadAnswerError, "302"),
    ],
)
def test_why_a_deletion_is_refused(answer: Answer, kind: type[RegistryError], words: str) -> None:
    with pytest.raises(RegistryError, match=words) as failure:
        deletion.deletion_begun(answer)
    assert type(failure.value) is kind
    assert failure.value.systemic is (kind in SYSTEMIC)


@pytest.mark.parametrize(
    ("name", "tags", "message", "detail", "kind"),
    [
        ("infra/protected", (), "robot may not delete in infra/protected", None, PermissionDeniedError),
        ("infra/protected", (), "action delete on protected: no", None, PermissionDeniedError),
        ("Protected/api", (), "no right for project 'protected'", None, PermissionDeniedError),
        ("shop/index", (), "you may not delete in shop/index", None, PermissionDeniedError),
        ("shop/api", ("immutable",), "you may not delete the tag immutable", None, PermissionDeniedError),
        ("shop/api", (), "robot$protected may not delete", None, PermissionDeniedError),
        ("shop/api", (), "not for registry.protected.example.com/other/path", None, PermissionDeniedError),
        ("shop/api", (), "denied", [{"Name": "legacy/protected", "Action": "delete"}], PermissionDeniedError),
        ("protection/im", ("v1",), "denied", "tag v1 is immutable", MaybeProtectedError),
        ("shop/api", ("v1",), "denied", {"reason": "tag v1 is immutable"}, MaybeProtectedError),
        ("infra/protected", (), "this image is immutable in infra/protected", None, MaybeProtectedError),
    ],
)
def test_names_in_a_refusal_say_nothing(
    name: str, tags: tuple[str, ...], message: str, detail: object, kind: type[RegistryError]
) -> None:
    error = {"code": "DENIED", "message": message} | ({} if detail is None else {"detail": detail})
    answer = Answer(403, {}, json.dumps({"errors": [error]}).encode())
    with pytest.raises(RegistryError) as failure:
        deletion.deletion_begun(answer, "https://registry.example.com", name, tags)
    assert type(failure.value) is kind


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_deletion_begun(status: int) -> None:
    deletion.deletion_begun(Answer(status, {}, b""))


@pytest.mark.parametrize("reference", ["v1", "latest", "sha256:abc", A[:-1], f"md5:{'a' * 32}", ""])
def test_only_digests_are_deleted(reference: str) -> None:
    with pytest.raises(BadAnswerError, match="refusing to delete by anything but a digest"):
        deletion.delete_manifest(API, "a", reference, 25.0, None)


def test_how_a_deletion_is_sent() -> None:
    request = deletion.delete_manifest(API, "shop/api", A, 25.0, 7.0)
    assert (request.method, request.url) == ("DELETE", f"{ROOT}/v2/shop/api/manifests/{A}")
    assert (request.repeatable, request.timeout, request.patience, request.not_after) == (False, 25.0, 25.0, 7.0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (told(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"), BlobsMissingError),
        (told(404, "BLOB_UNKNOWN", "blob unknown"), BlobsMissingError),
        (told(400, "MANIFEST_INVALID", "no"), RegistryError),
        (told(403, "DENIED", "no"), PermissionDeniedError),
        (told(201, docker_content_digest=B), BadAnswerError),
    ],
)
def test_a_manifest_that_is_not_taken(answer: Answer, kind: type[RegistryError]) -> None:
    with pytest.raises(RegistryError) as failure:
        blobs.put_back(answer, A)
    assert type(failure.value) is kind


def test_a_manifest_that_is_taken() -> None:
    blobs.put_back(told(201, docker_content_digest=A), A)
    blobs.put_back(told(201), A)


@pytest.mark.parametrize(("status", "done"), [(201, True), (202, False), (404, False)])
def test_a_mount(status: int, done: bool) -> None:
    assert blobs.mounted(Answer(status, {}, b"")) is done


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/v2/a/blobs/uploads/1?_state=x%2Fy", f"{ROOT}/v2/a/blobs/uploads/1?_state=x%2Fy"),
        (f"{ROOT}/prefix/v2/a/blobs/uploads/1", f"{ROOT}/prefix/v2/a/blobs/uploads/1"),
        ("", None),
        ("https://evil.example/v2/a/blobs/uploads/1", None),
        ("http://registry.example.com/v2/a/blobs/uploads/1", None),
        ("https://x@registry.example.com/v2/a/blobs/uploads/1", None),
        ("https://[x/v2/a/blobs/uploads/1", None),
        ("/v2/a/manifests/latest", None),
        ("/v2/a/blobs/uploads/", None),
        ("/v2/a/blobs/uploads/x/manifests/latest", None),
        ("/v2/a/manifests/latest?x=/blobs/uploads/1", None),
        ("/v2/a/blobs/uploads/%2e%2e", None),
        ("/v2/a/blobs/uploads/..%2fmanifests", None),
    ],
)
def test_an_upload_that_a_mount_began(location: str, url: str | None) -> None:
    begun = blobs.mount_blob(API, "a", A, "b")
    request = blobs.end_upload(begun, Answer(202, {"location": location}, b""))
    assert (request and (request.method, request.url)) == (url and ("DELETE", url))
    assert blobs.end_upload(begun, Answer(201, {"location": "/v2/a/blobs/uploads/1"}, b"")) is None


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://storage.example/x?sig=a%2Fb", "https://storage.example/x?sig=a%2Fb"),
        ("/elsewhere", f"{ROOT}/elsewhere"),
        ("http://storage.example/x", None),
        ("http://127.0.0.1/x", None),
        ("ftp://storage.example/x", None),
        ("https://user@storage.example/x", None),
        ("file:///etc/passwd", None),
    ],
)
def test_a_redirect(location: str, target: str | None) -> None:
    request = blobs.read_blob("GET", API, "a", A, first_bytes=1)
    if target is None:
        with pytest.raises(BadAnswerError, match="to be fetched from"):
            blobs.redirected(request, location)
        return
    followed = blobs.redirected(request, location)
    assert followed.url == target
    assert followed.headers["Range"] == "bytes=0-0"


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFoundError), (401, SignInError), (403, PermissionDeniedError), (200, BadAnswerError)]
)
def test_no_time(status: int, kind: type[RegistryError]) -> None:
    with pytest.raises(kind) as failure:
        protocol.time_of(Answer(status, {}, b""), API)
    assert (f"no registry answers at {ROOT}/v2/" in str(failure.value)) is (status == 404)


READERS: list[Any] = [
    protocol.repositories_page,
    lambda answer: protocol.tags_page(answer, "a"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"7", b'{"tags": 7, "repositories": 7, "manifests": 7}', b"\xff"]
)
def test_listings_that_are_none(read: Any, body: bytes) -> None:
    with pytest.raises(BadAnswerError):
        read(Answer(200, {}, body))


def test_where_there_is_no_listing() -> None:
    for status in (401, 403, 404, 405):
        assert protocol.repositories_page(Answer(status, {}, b"404 page not found")) is None
    for status in (303, 400, 401, 403, 404, 405, 406, 410, 424, 501):
        assert protocol.referrers_page(Answer(status, {}, b"404 page not found"), "a", A) is None
    for body in (b"", b"<html></html>", b"null", b"[]", b"{}", b'{"errors": []}', b'{"manifests": 5}'):
        assert protocol.referrers_page(Answer(200, {}, body), "a", A) is None
    for body in (b'{"manifests": []}', b'{"manifests": null}'):
        assert protocol.referrers_page(Answer(200, {}, body), "a", A) == protocol.Page([], None)
    with pytest.raises(BrokenBodyError):  # a list that broke off is none that is empty
        protocol.referrers_page(Answer(200, {}, b'{"manifests": [{"dig'), "a", A)
    for status in (408, 429, 500, 502, 503, 504, 520):
        with pytest.raises((UnavailableError, RateLimitedError)):
            protocol.referrers_page(Answer(status, {}, b""), "a", A)
    for status in (401, 403):
        challenge = {"www-authenticate": 'Bearer realm="https://a/token"'}
        with pytest.raises((PermissionDeniedError, SignInError)):
            protocol.referrers_page(Answer(status, challenge, b""), "a", A)
    with pytest.raises(BadAnswerError, match="a referrer with the digest"):
        protocol.referrers_page(Answer(200, {}, b'{"manifests": [{"digest": "latest"}]}'), "a", A)
