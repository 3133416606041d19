"""The fake registry behaves as distribution 2.8 and as its switches say."""

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.oci import manifests as m
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth
from tests.support.oci.fake_store import FakeRefusalError
from tests.support.oci.pusher import Pusher, basic
from tests.support.oci.wire import Wire, WireResponse

ALL = {"Accept": m.ACCEPT}
NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def ask(registry: FakeRegistry, method: str, path: str, **options: Any) -> WireResponse:
    wire = Wire(registry.url)
    try:
        return wire.ask(method, path, **{"headers": ALL, **options})
    finally:
        wire.close()


def codes(answer: WireResponse) -> list[str]:
    return [error["code"] for error in json.loads(answer.body)["errors"]]


def listed(registry: FakeRegistry, path: str, key: str) -> list[list[Any]]:
    """The pages of a listing, each as it came, to the end of the links."""
    pages = []
    while path:
        answer = ask(registry, "GET", path)
        assert answer.status == 200
        pages.append(json.loads(answer.body)[key])
        path = answer.header("Link").partition(">")[0].removeprefix("<")
    return pages


# Reading


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_serves_a_manifest_by_tag_and_digest(fake: FakeRegistry, by: str, docker: bool) -> None:
    image = fake.push("shop/api", "v1", docker=docker)
    path = f"/v2/shop/api/manifests/{'v1' if by == 'tag' else image.digest}"
    got, head = ask(fake, "GET", path), ask(fake, "HEAD", path)
    assert (got.body, head.body) == (image.body, b"")
    for answer in (got, head):
        assert answer.status == 200
        assert answer.header("Docker-Content-Digest") == image.digest
        assert answer.header("Etag") == f'"{image.digest}"'
        assert answer.header("Content-Type") == image.media_type
        assert answer.header("Content-Length") == str(len(image.body))
    again = ask(fake, "GET", path, headers=ALL | {"If-None-Match": f'"{image.digest}"'})
    assert (again.status, again.body) == (304, b"")
    assert fake.refused == []
    fake.switches.digest_header = False
    assert ask(fake, "HEAD", path).header("Docker-Content-Digest") == ""


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/a/manifests/nosuch", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/a/manifests/{NOWHERE}", 404, "MANIFEST_UNKNOWN"),
        ("/v2/nobody/manifests/v1", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/sha256:abc", 500, "UNKNOWN"),
        (f"/v2/a/blobs/{NOWHERE}", 404, "BLOB_UNKNOWN"),
        ("/v2/nobody/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/blobs/only/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/untagged/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/_catalog?n=1001", 400, "PAGINATION_NUMBER_INVALID"),
    ],
)
def test_answers_unknown_names_with_the_protocols_error_codes(
    fake: FakeRegistry, path: str, status: int, code: str
) -> None:
    fake.push("a", "v1")
    fake.push("untagged")
    fake.empty("blobs/only")
    answer = ask(fake, "GET", path)
    assert (answer.status, codes(answer), fake.refused) == (status, [code], [])


@pytest.mark.parametrize(
    ("stored", "reference", "accept", "status", "code"),
    [
        ("image", "tag", m.IMAGE, 200, ""),
        ("image", "tag", f"{m.DOCKER_IMAGE}, {m.IMAGE};q=0.5", 200, ""),
        ("image", "tag", "*/*", 404, "MANIFEST_UNKNOWN"),
        ("image", "digest", m.DOCKER_IMAGE, 404, "MANIFEST_UNKNOWN"),
        ("index", "digest", m.IMAGE, 404, "MANIFEST_UNKNOWN"),
        ("docker", "tag", m.IMAGE, 400, "MANIFEST_INVALID"),
        ("docker", "digest", m.IMAGE, 200, ""),
        ("docker list", "digest", "", 200, ""),
        ("docker list", "tag", m.IMAGE, 400, "MANIFEST_INVALID"),
    ],
)
def test_handles_an_accept_header_without_the_manifests_type(
    fake: FakeRegistry, stored: str, reference: str, accept: str, status: int, code: str
) -> None:
    held = one_of_each(fake)[stored]
    path = f"/v2/a/manifests/{held.tags[0] if reference == 'tag' else held.digest}"
    answer = ask(fake, "GET", path, headers={"Accept": accept})
    assert answer.status == status
    assert answer.body == held.body if status == 200 else codes(answer) == [code]
    assert len(fake.refused) == 1
    fake.switches.strict_accept = False
    assert ask(fake, "GET", path, headers={"Accept": accept}).body == held.body


def test_serves_a_child_to_a_client_that_does_not_accept_lists(fake: FakeRegistry) -> None:
    held = one_of_each(fake)
    answer = ask(fake, "HEAD", "/v2/a/manifests/list", headers={"Accept": m.DOCKER_IMAGE})
    assert answer.header("Docker-Content-Digest") == held["docker"].digest


def one_of_each(fake: FakeRegistry) -> dict[str, m.Pushed]:
    made = {"image": fake.push("a", "v1"), "docker": fake.push("a", "docker", docker=True)}
    made["index"] = fake.push_index("a", "index", children=[made["image"].digest])
    made["docker list"] = fake.push_index("a", "list", children=[made["docker"].digest], docker=True)
    return made


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("", 200, b"0123456789", ""),
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-11", 416, b"", "bytes */10"),
    ],
)
@pytest.mark.parametrize("redirect", [False, True])
def test_serves_a_blob_and_ranges_of_it(
    fake: FakeRegistry, asked: str, status: int, body: bytes, content_range: str, redirect: bool
) -> None:
    fake.switches.redirect = redirect
    image = fake.push("a", layers=[b"0123456789"])
    path, headers = f"/v2/a/blobs/{image.layers[0].digest}", {"Range": asked} if asked else {}
    answer = ask(fake, "GET", path, headers=headers)
    if redirect:
        assert (answer.status, answer.body) == (307, b"")
        there = Wire(place := answer.header("Location"))
        assert fake.host not in place
        answer = there.ask("GET", place, headers=headers)
        there.ask("GET", place, headers={"Authorization": "Bearer secret"})
        there.close()
        assert len(fake.refused) == 1
    assert (answer.status, answer.body, answer.header("Content-Range")) == (status, body, content_range)


def test_serves_ranges_of_a_layer_without_bytes(fake: FakeRegistry) -> None:
    image = fake.push("a", layers=[5_000_000_000, (NOWHERE, 7)])
    assert [(layer.digest == NOWHERE, layer.size) for layer in image.layers] == [(False, 5_000_000_000), (True, 7)]
    path = f"/v2/a/blobs/{image.layers[0].digest}"
    wire = http.client.HTTPConnection(fake.host)
    wire.request("HEAD", path)
    assert wire.getresponse().headers["Content-Length"] == "5000000000"
    wire.close()
    assert ask(fake, "GET", path, headers={"Range": "bytes=0-0"}).body == b"\0"
    assert ask(fake, "GET", path).status == 500


# Listing


PAGES = [
    ("", 2, [["a/1", "b"], ["c"]]),
    ("?n=1", 2, [["a/1"], ["b"], ["c"]]),
    ("?n=100", 2, [["a/1", "b"], ["c"]]),
    ("?last=a%2F1", 2, [["b", "c"]]),
    ("?last=bb", 2, [["c"]]),
    ("?n=0", 2, [[]]),
    ("?n=abc", 3, [["a/1", "b", "c"]]),
]


@pytest.mark.parametrize(("query", "page", "pages"), PAGES)
def test_the_catalog_has_pages(fake: FakeRegistry, query: str, page: int, pages: list[list[str]]) -> None:
    fake.switches.catalog_page = page
    for name in ("b", "a/1", "c"):
        fake.empty(name)
    assert listed(fake, f"/v2/_catalog{query}", "repositories") == pages


@pytest.mark.parametrize(
    ("query", "page", "pages"),
    [("", None, [["b", "a/1", "c"]]), ("?n=1&last=b", None, [["b", "a/1", "c"]]), *PAGES],
)
def test_the_list_of_tags_has_pages(fake: FakeRegistry, query: str, page: int | None, pages: list[list[str]]) -> None:
    fake.switches.tags_page = page
    for tag in ("b", "a-1", "c"):
        fake.push("shop/api", tag)
    wanted = [[tag.replace("/", "-") for tag in rows] for rows in pages]  # a tag has no slash
    assert listed(fake, f"/v2/shop/api/tags/list{query.replace('%2F', '-')}", "tags") == wanted


def test_a_link_is_relative_and_encoded() -> None:
    with FakeRegistry(catalog_page=1) as fake:
        fake.empty("many/a")
        fake.empty("many/b")
        assert ask(fake, "GET", "/v2/_catalog").header("Link") == '</v2/_catalog?last=many%2Fa&n=1>; rel="next"'


def test_an_emptied_repository_stays_in_the_catalog(fake: FakeRegistry) -> None:
    image = fake.push("a", "v1")
    fake.remove("a", image.digest)
    assert json.loads(ask(fake, "GET", "/v2/a/tags/list").body) == {"name": "a", "tags": None}
    assert listed(fake, "/v2/_catalog", "repositories") == [["a"]]
    assert (fake.deleted, fake.state()) == ([], {"a": {}})


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_refuses_the_catalog(status: int) -> None:
    with FakeRegistry(catalog=status) as fake:
        answer = ask(fake, "GET", "/v2/_catalog")
        assert (answer.status, bool(answer.header("Www-Authenticate"))) == (status, status == 401)
        assert fake.refused == []


def test_lists_referrers_with_pages_and_a_filter() -> None:
    with FakeRegistry(referrers=True, referrers_page=2) as fake:
        image = fake.push("a", "v1")
        made = [
            fake.push("a", layers=[kind.encode()], subject=image.descriptor, artifact_type=f"application/{kind}")
            for kind in "xyx"
        ]
        path = f"/v2/a/referrers/{image.digest}"
        pages = listed(fake, path, "manifests")
        assert [len(page) for page in pages] == [2]  # x was pushed twice: one digest
        assert [row["digest"] for page in pages for row in page] == [made[0].digest, made[1].digest]
        fake.switches.referrers_page = 1
        assert [len(page) for page in listed(fake, path, "manifests")] == [1, 1]
        filtered = ask(fake, "GET", f"{path}?artifactType=application%2Fy")
        assert [row["artifactType"] for row in json.loads(filtered.body)["manifests"]] == ["application/y"]
        assert filtered.header("OCI-Filters-Applied") == "artifactType"
        assert listed(fake, f"/v2/a/referrers/{NOWHERE}", "manifests") == [[]]
        put = ask(
            fake,
            "PUT",
            f"/v2/a/manifests/{made[0].digest}",
            body=made[0].body,
            headers={"Content-Type": made[0].media_type},
        )
        assert put.header("OCI-Subject") == image.digest
        fake.remove("a", made[0].digest)
        assert listed(fake, path, "manifests") == [[made[1].descriptor.document() | {"artifactType": "application/y"}]]
        fake.switches.referrers = False
        answer = ask(fake, "GET", path)
        assert (answer.status, answer.body) == (404, b"404 page not found\n")
        assert fake.refused == []


# Pushing


def test_accepts_the_requests_of_the_pusher(fake: FakeRegistry) -> None:
    pusher = Pusher(fake.url)
    image = pusher.image("a", "v1", "v2", layers=[b"one", b"two"])
    index = pusher.index("a", "index", children=[image])
    parts = pusher.blob_in_parts("a", b"abc", b"def")
    assert fake.state() == {"a": {image.digest: ("v1", "v2"), index.digest: ("index",)}}
    assert fake.freed() == {parts.digest: 6}
    assert ask(fake, "GET", f"/v2/a/blobs/{parts.digest}").body == b"abcdef"
    mounted = ask(fake, "POST", f"/v2/b/blobs/uploads/?mount={parts.digest}&from=a", body=b"")
    assert (mounted.status, ask(fake, "GET", f"/v2/b/blobs/{parts.digest}").body) == (201, b"abcdef")
    assert ask(fake, "POST", f"/v2/b/blobs/uploads/?mount={NOWHERE}&from=a", body=b"").status == 202
    pusher.close()
    assert fake.refused == []


@pytest.mark.parametrize(
    ("change", "reference", "media_type", "error_codes"),
    [
        ({}, "v1", m.IMAGE, []),
        ({"layers": [NOWHERE, "sha256:" + "1" * 64]}, "v1", m.IMAGE, ["MANIFEST_BLOB_UNKNOWN"] * 2),
        ({"manifests": [NOWHERE]}, "v1", m.IMAGE, ["MANIFEST_BLOB_UNKNOWN"]),
        ({}, NOWHERE, m.IMAGE, ["DIGEST_INVALID"]),
        ({}, "v1", "", ["MANIFEST_INVALID"]),
        ({}, "v1", m.INDEX, ["MANIFEST_INVALID"]),
        ({"subject": NOWHERE}, "v1", m.IMAGE, []),
        ({"mediaType": None}, "v1", m.IMAGE, []),
    ],
)
def test_checks_a_pushed_manifest(
    fake: FakeRegistry, change: dict[str, Any], reference: str, media_type: str, error_codes: list[str]
) -> None:
    def descriptors(value: Any) -> Any:
        if isinstance(value, list):
            return [descriptors(item) for item in value]
        return {"mediaType": m.LAYER, "digest": value, "size": 1} if value == str(value) and ":" in value else value

    image = fake.push("a", "v0")
    document = json.loads(image.body) | {name: descriptors(value) for name, value in change.items()}
    answer = ask(
        fake,
        "PUT",
        f"/v2/a/manifests/{reference}",
        body=m.encoded(document),
        headers={"Content-Type": media_type} if media_type else {},
    )
    assert (answer.status, codes(answer) if answer.body else []) == (400 if error_codes else 201, error_codes)
    assert ("v1" in [tag for tags in fake.state()["a"].values() for tag in tags]) == (not error_codes)


def test_blobs_are_per_repository(fake: FakeRegistry) -> None:
    image = fake.push("a", "v1")
    with pytest.raises(FakeRefusalError) as failure:
        fake.put("b", image.body, image.media_type, "v1")
    assert {detail["digest"] for detail in failure.value.details} == {blob.digest for blob in image.blobs}


# Deleting


def test_deletes_a_digest_with_its_tags(fake: FakeRegistry) -> None:
    image, other = fake.push("a", "v1", "v2", layers=[b"one"]), fake.push("a", "v3", layers=[b"two"])
    fake.push("b", "v1", layers=[b"one"], labels={"another": "config"})
    path = f"/v2/a/manifests/{image.digest}"
    assert ask(fake, "DELETE", path).status == 202
    again = ask(fake, "DELETE", path)
    assert (again.status, codes(again)) == (404, ["MANIFEST_UNKNOWN"])
    assert [ask(fake, "HEAD", f"/v2/a/manifests/{tag}").status for tag in ("v1", "v2", "v3")] == [404, 404, 200]
    assert fake.state()["a"] == {other.digest: ("v3",)}
    assert fake.deleted == [("a", image.digest)]
    assert image.config
    assert fake.freed() == {image.config.digest: image.config.size}  # the layer is b's, too
    assert ask(fake, "HEAD", f"/v2/a/blobs/{image.config.digest}").status == 200
    fake.collect()
    assert ask(fake, "GET", f"/v2/a/blobs/{image.config.digest}").status == 404
    assert fake.refused == []


@pytest.mark.parametrize(
    ("switches", "status", "code", "allow"),
    [
        ({}, 202, "", ""),
        ({"deletion": "off"}, 405, "UNSUPPORTED", ""),
        ({"deletion": "off 400"}, 400, "UNSUPPORTED", ""),
        ({"deletion": "read-only"}, 405, "", "GET, HEAD"),
        ({"protects": "denied"}, 405, "DENIED", ""),
        ({"protects": "gitlab"}, 409, "MANIFEST_REFERENCED_IN_LIST", ""),
    ],
)
def test_refuses_deletions_by_switch(switches: dict[str, Any], status: int, code: str, allow: str) -> None:
    with FakeRegistry(**switches) as fake:
        child = fake.push("a", "v1")
        index = fake.push_index("a", "index", children=[child.digest])
        answer = ask(fake, "DELETE", f"/v2/a/manifests/{child.digest}")
        assert (answer.status, answer.header("Allow")) == (status, allow)
        assert code == "" or codes(answer) == [code]
        assert (child.digest in fake.state()["a"]) == (status != 202)
        options = "GET, HEAD" if allow else "DELETE, GET, HEAD, PUT"
        assert ask(fake, "OPTIONS", "/v2/a/manifests/v1").header("Allow") == options
        if "protects" in switches:  # until the index is deleted
            assert ask(fake, "DELETE", f"/v2/a/manifests/{index.digest}").status == 202
            assert ask(fake, "DELETE", f"/v2/a/manifests/{child.digest}").status == 202


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/v2/a/manifests/v1", 400),
        ("DELETE", f"/v2/a/blobs/{NOWHERE}", 404),
        ("GET", "/v2/a/manifests/-impossible", 404),
        ("GET", "/v2/a!/tags/list", 404),
        ("GET", "/v2/a/tags", 404),
        ("GET", "/", 404),
        ("POST", "/v2/a/manifests/v1", 404),
        ("HEAD", "/v2/a/tags/list", 404),
    ],
)
def test_records_requests_that_no_driver_may_send(fake: FakeRegistry, method: str, path: str, status: int) -> None:
    image = fake.push("a", "v1")
    assert ask(fake, method, path).status == status
    assert len(fake.refused) == 1
    assert fake.refused[0].startswith(f"{method} {path}: ")
    assert fake.state() == {"a": {image.digest: ("v1",)}}


# Signing in


def test_requires_a_password() -> None:
    with FakeRegistry(BasicAuth("anna", "secret")) as fake:
        refused = ask(fake, "GET", "/v2/")
        assert (refused.status, refused.header("Www-Authenticate")) == (401, 'Basic realm="fake"')
        statuses = [
            ask(fake, "GET", "/v2/", headers={"Authorization": basic("anna", password)}).status
            for password in ("secret", "other")
        ]
        assert statuses == [200, 401]
        assert [request.authorization for request in fake.requests] == ["", "basic", "basic"]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/", ""),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        ("GET", "/v2/shop/api/tags/list", "repository:shop/api:pull"),
        ("HEAD", "/v2/shop/api/manifests/v1", "repository:shop/api:pull"),
        ("GET", f"/v2/shop/api/blobs/{NOWHERE}", "repository:shop/api:pull"),
        ("GET", f"/v2/shop/api/referrers/{NOWHERE}", "repository:shop/api:pull"),
        ("DELETE", f"/v2/shop/api/manifests/{NOWHERE}", "repository:shop/api:delete"),
        ("PUT", "/v2/shop/api/manifests/v1", "repository:shop/api:pull,push"),
        ("POST", "/v2/a/blobs/uploads/?mount=x&from=b", "repository:a:pull,push repository:b:pull"),
    ],
)
def test_requires_a_token_with_the_scope_of_the_request(method: str, path: str, scope: str) -> None:
    tokens = TokenAuth(user=BasicAuth("anna", "secret"))
    with FakeRegistry(tokens, referrers=True) as fake:

        def challenged(token: str) -> str:
            answer = ask(fake, method, path, headers=ALL | ({"Authorization": f"Bearer {token}"} if token else {}))
            return answer.header("Www-Authenticate") if answer.status == 401 else ""

        challenge = f'Bearer realm="{fake.url}/token",service="fake-registry"' + (f',scope="{scope}"' if scope else "")
        assert challenged("") == challenge
        assert challenged("strange") == f'{challenge},error="invalid_token"'
        target = "/token?service=fake-registry" + "".join(f"&scope={name}" for name in scope.split())
        assert ask(fake, "GET", target).status == 401
        token = issued(fake, target)
        assert challenged(token) == ""
        assert tokens.asked == [tuple(scope.split())]
        tokens.expire()
        assert challenged(token) == f'{challenge},error="invalid_token"'
        if scope:
            assert challenged(issued(fake, "/token")) == f'{challenge},error="insufficient_scope"'
            tokens.granted = {"repository:another:pull"}
            assert challenged(issued(fake, target)) == f'{challenge},error="insufficient_scope"'


def issued(fake: FakeRegistry, target: str) -> str:
    answer = ask(fake, "GET", target, headers={"Authorization": basic("anna", "secret")})
    assert answer.status == 200
    return str(json.loads(answer.body)["token"])


# Faults and hooks


@pytest.mark.parametrize(
    ("kind", "options", "status", "body"),
    [
        ("status", {"status": 429, "code": "TOOMANYREQUESTS", "headers": {"Retry-After": "7"}}, 429, None),
        ("html", {"status": 502}, 502, b"<html><body>Bad gateway</body></html>"),
        ("cut body", {}, 200, b'{"name": "a", "'),
        ("broken body", {}, 200, None),
        ("cut", {}, 0, None),
    ],
)
def test_a_fault_spoils_one_response(
    fake: FakeRegistry, kind: Any, options: dict[str, Any], status: int, body: bytes | None
) -> None:
    fake.push("a", "v1")
    fake.fault(kind, "GET", "/tags/list$", after=1, **options)
    wire = http.client.HTTPConnection(fake.host, timeout=10)
    seen = []
    for _ in range(3):
        try:
            wire.request("GET", "/v2/a/tags/list")
            answer = wire.getresponse()
            try:
                seen.append((answer.status, answer.read(), answer.headers.get("Retry-After")))
            except http.client.IncompleteRead as error:
                seen.append((answer.status, error.partial, None))
                wire.close()
        except http.client.RemoteDisconnected:
            seen.append((0, b"", None))
            wire.close()
    wire.close()
    assert seen[0] == seen[2] == (200, b'{"name": "a", "tags": ["v1"]}\n', None)
    assert seen[1][0] == status
    assert seen[1][1] != seen[0][1]
    assert body is None or seen[1][1] == body
    assert seen[1][2] == ("7" if status == 429 else None)
    assert [request.status for request in fake.requests] == [200, status, 200]


@pytest.mark.parametrize("kind", ["cut", "status", "html"])
@pytest.mark.parametrize("carried_out", [False, True])
def test_a_fault_strikes_before_or_after_a_deletion(fake: FakeRegistry, kind: Any, carried_out: bool) -> None:
    image = fake.push("a", "v1")
    fake.fault(kind, "DELETE", carried_out=carried_out, status=500)
    wire = http.client.HTTPConnection(fake.host, timeout=10)
    wire.request("DELETE", f"/v2/a/manifests/{image.digest}")
    if kind == "cut":
        with pytest.raises(http.client.RemoteDisconnected):
            wire.getresponse()
    else:
        assert wire.getresponse().status == 500
    wire.close()
    assert (fake.deleted == [("a", image.digest)]) == carried_out


def test_calls_a_hook_right_before_a_response(fake: FakeRegistry) -> None:
    old, new = fake.push("a", "v1", layers=[b"old"]), fake.push("a", layers=[b"new"])
    fake.before("HEAD", "/manifests/v1$", lambda: fake.move_tag("a", "v1", new.digest), after=1)
    digests = [ask(fake, "HEAD", "/v2/a/manifests/v1").header("Docker-Content-Digest") for _ in range(3)]
    assert digests == [old.digest, new.digest, new.digest]
    fake.untag("a", "v1")
    assert fake.state() == {"a": {old.digest: (), new.digest: ()}}
    assert fake.lines("HEAD") == ["HEAD /v2/a/manifests/v1"] * 3


# All of it


def test_deletes_many_images_from_several_threads(fake: FakeRegistry) -> None:
    images = fake.fill("a", 400)
    assert len({image.digest for image in images}) == 400
    assert all(m.digest_of(image.body) == image.digest for image in images)
    assert images[7].tags == ("t00007",)

    def delete(part: int) -> None:
        wire = Wire(fake.url)
        for image in images[part::4]:
            wire.expect(202, "DELETE", f"/v2/a/manifests/{image.digest}")
        wire.close()

    threads = [threading.Thread(target=delete, args=[part]) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fake.state() == {"a": {}}
    assert sorted(fake.deleted) == sorted(("a", image.digest) for image in images)
    assert len(fake.freed()) == 800
