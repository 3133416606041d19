"""One question to one registry: pages, the catalog, redirects of blobs with and without credentials, odd answers."""

from datetime import UTC, datetime

import pytest

from policies.image import Image
from tests.registries.oci.conftest import Opener
from tests.registries.oci.scripted import (
    NO_PAGE,
    Asked,
    Guarded,
    Reply,
    Scripted,
    ScriptedRepository,
    an_image,
    document,
    error,
)
from tests.support.oci.manifests import digest_of
from worker.planning.inventory import take_inventory
from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    RegistryError,
    UnavailableError,
)


def image(digest: str, *tags: str) -> Image:
    return Image(digest=digest, tags=tags)


def test_reads_pages_of_tags_with_a_repeated_tag(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), *(f"v{number}" for number in range(5)))

    def pages(asked: Asked) -> Reply | None:
        if not asked.path.endswith("/tags/list"):
            return None
        if (last := asked.query.get("last", "0")).startswith("v"):
            return error(400, "UNSUPPORTED", "no page has that name")  # it names its pages by its own words
        at = int(last)
        link = f'</v2/a/tags/list?last={at + 2}>; rel="next"' if at < 4 else ""
        return document({"tags": [f"v{number}" for number in range(at, min(at + 3, 5))]}, Link=link)

    stored.before = pages
    (image,) = opened(server.url).images("a")
    assert (image.digest, image.tags) == (digest, ("v0", "v1", "v2", "v3", "v4"))


@pytest.mark.parametrize("following", ["last=x", "last={}"])
def test_rejects_a_listing_that_does_not_end(
    opened: Opener, stored: ScriptedRepository, server: Scripted, following: str
) -> None:
    def pages(_: Asked) -> Reply:
        link = f"</v2/a/tags/list?{following.format(len(server.asked))}>; rel=next"
        return document({"tags": ["v1"]}, Link=link)

    stored.before = pages
    with pytest.raises(BadResponseError, match="the listing does not end"):
        opened(server.url).images("a")


def test_repeats_a_failed_head_as_get(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: Reply(404) if asked.method == "HEAD" else None
    driver = opened(server.url)
    assert [(image.digest, image.tags) for image in driver.images("a")] == [(digest, ("v1",))]
    stored.before = lambda asked: Reply(404) if asked.method == "HEAD" else error(500, "UNKNOWN")
    with pytest.raises(UnavailableError):
        driver.images("a")


@pytest.mark.parametrize("reply", [NO_PAGE, Reply(401), Reply(403), error(405, "UNSUPPORTED")])
def test_requires_the_names_of_repositories_without_a_catalog(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply
) -> None:
    challenge = {"Www-Authenticate": 'Bearer realm="/token"'} if reply.status == 401 else {}
    stored.before = lambda asked: (
        document({"token": "x"}) if asked.path == "/token" else Reply(reply.status, reply.body, challenge)
    )
    for globs in ((), ("shop/*",), ("shop/api", "ml/**")):
        driver = opened(server.url, repositories=globs)
        with pytest.raises(RegistryError):
            driver.images("nowhere")
        with pytest.raises(NotFoundError, match="name each of them under repositories"):
            list(driver.repositories())
    assert list(opened(server.url, repositories=("b", "a")).repositories()) == ["a", "b"]


def test_reads_and_filters_the_names_of_the_catalog(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    def pages(asked: Asked) -> Reply:
        if "last" in asked.query:
            return document({"repositories": ["shop/b", "Bad//name"]})
        return document({"repositories": ["shop/b", "shop/a"]}, Link='</v2/_catalog?last=x>; rel="next"')

    stored.before = pages
    assert list(opened(server.url, repositories=("shop/*",)).repositories()) == ["shop/a", "shop/b"]
    driver = opened(server.url)
    assert list(driver.repositories()) == ["Bad//name", "shop/a", "shop/b"]
    with pytest.raises(BadResponseError, match="invalid repository name: 'Bad//name'"):
        driver.images("Bad//name")
    assert not any("Bad" in line for line in server.lines())


NO_UNICODE = {
    b'{"repositories": ["a", "sur\\ud800"]}': "sur\\ud800",
    b'{"repositories": ["\\udfff/b", "a"]}': "\\udfff/b",
    b'{"repositories": ["caf\xe9", "a"]}': "caf\\udce9",
    b'{"repositories": ["sur\xed\xa0\x80", "a"]}': "sur\\udced\\udca0\\udc80",
}


@pytest.mark.parametrize(("body", "name"), NO_UNICODE.items())
def test_only_the_repository_whose_name_is_not_unicode_is_unreadable(
    opened: Opener, stored: ScriptedRepository, server: Scripted, body: bytes, name: str
) -> None:
    digest = stored.put(an_image("x"), "v1")
    stored.before = lambda asked: Reply(200, body) if asked.path == "/v2/_catalog" else None
    inventory = take_inventory(opened(server.url), now=datetime.now(UTC), concurrency=2)
    assert [(listed.path, [image.digest for image in listed.images]) for listed in inventory.repositories()] == [
        ("a", [digest])
    ]
    assert [image.repository for image in inventory.unreadable] == [name]
    assert "invalid repository name" in inventory.unreadable[0].reason


@pytest.mark.parametrize("body", [b'{"repositories": ["a", "sur\\ud800"', b'{"repositories": 7, "x": "\xff"}', b"\xff"])
def test_rejects_a_truncated_catalog(opened: Opener, stored: ScriptedRepository, server: Scripted, body: bytes) -> None:
    stored.before = lambda asked: Reply(200, body)
    with pytest.raises(BadResponseError, match="the response "):
        list(opened(server.url).repositories())


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_downloads_a_redirected_blob_without_credentials(
    opened: Opener, stored: ScriptedRepository, server: Scripted, code: int
) -> None:
    takes = "repository:a:pull"
    blob = digest_of(b"blob")
    guard = Guarded(stored, f'Bearer realm="/token",scope="{takes}"', lambda shown: takes in shown)

    def storage(asked: Asked) -> Reply:
        assert "authorization" not in asked.headers
        assert asked.headers["range"] == "bytes=0-0"
        return Reply(206, b"b") if asked.query.get("sig") == "a/b" else Reply(403)

    with Scripted(storage) as elsewhere:
        to = {"Location": f"{elsewhere.url}/x?sig=a%2Fb"}
        stored.before = lambda asked: guard(asked) or (Reply(code, b"", to) if "/blobs/" in asked.path else None)
        assert opened(server.url).missing_blobs("a", [blob]) == ()
        assert len(elsewhere.asked) == 1


def test_redirects_at_home_keep_the_credentials_and_end(
    opened: Opener, stored: ScriptedRepository, server: Scripted
) -> None:
    takes = "repository:a:pull"
    guard = Guarded(stored, f'Bearer realm="/token",scope="{takes}"', lambda shown: takes in shown)
    hops = 3

    def hop(asked: Asked) -> Reply | None:
        at = int(asked.query.get("hop", "0"))
        return guard(asked) or (Reply(206, b"b") if at == hops else Reply(307, b"", {"Location": f"?hop={at + 1}"}))

    stored.before = hop
    assert opened(server.url).missing_blobs("a", [digest_of(b"x")]) == ()
    hops = 4
    with pytest.raises(BadResponseError, match="more than 3 redirects"):
        opened(server.url).missing_blobs("a", [digest_of(b"x")])


@pytest.mark.parametrize(
    ("reply", "lost"),
    [
        pytest.param(Reply(206, b"b"), False, id="a byte"),
        pytest.param(Reply(200, b"blob" * 1000), False, id="all of them"),
        pytest.param(Reply(200, b"blob", cut=True), True, id="no bytes, despite a length"),
        pytest.param(Reply(200, b""), True, id="nothing"),
        pytest.param(error(404, "BLOB_UNKNOWN"), True, id="unknown"),
    ],
)
def test_recognizes_a_lost_blob(
    opened: Opener, stored: ScriptedRepository, server: Scripted, reply: Reply, lost: bool
) -> None:
    blob = digest_of(b"blob")
    stored.before = lambda _: reply
    assert opened(server.url).missing_blobs("a", [blob]) == ((blob,) if lost else ())
    if reply.status == 200:
        assert opened(server.url).missing_blobs("a", [digest_of(b"")]) == ()


def test_retries_a_blob_after_a_broken_connection(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.before = lambda _: Reply(206, b"b", cut=len(server.asked) == 1)
    assert opened(server.url).missing_blobs("a", [digest_of(b"blob")]) == ()


def test_reports_a_url_without_a_registry(opened: Opener, stored: ScriptedRepository, server: Scripted) -> None:
    stored.before = lambda _: NO_PAGE
    with pytest.raises(NotFoundError, match=rf"no registry answers at {server.url}/v2/$"):
        opened(server.url).clock()
