"""The fake and the real server: the same pushes, the same requests, and responses that are equal for clients."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.oci import manifests as m
from tests.support.oci.fake import FakeRegistry
from tests.support.oci.manifests import Pushed
from tests.support.oci.pusher import Pusher
from tests.support.oci.server import DockerRegistry
from tests.support.oci.wire import Wire, WireResponse

NOWHERE = "sha256:" + "0" * 64
COMPARED = (
    "Allow",
    "Content-Length",
    "Content-Range",
    "Docker-Content-Digest",
    "Docker-Distribution-Api-Version",
    "Etag",
    "Link",
    "OCI-Subject",
    "Www-Authenticate",
)


@dataclass(frozen=True, slots=True)
class Both:
    """The two servers with the same contents; paths contain the keys of `words` as {word}."""

    urls: tuple[str, str]
    words: dict[str, str]

    def ask(self, method: str, path: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The real server's answer, and the fake's."""
        target = path.format(**self.words)
        real, fake = (said(asked_once(url, method, target, **options)) for url in self.urls)
        return real, fake


def asked_once(url: str, method: str, target: str, **options: Any) -> WireResponse:
    wire = Wire(url)
    try:
        return wire.ask(method, target, **options)
    finally:
        wire.close()


def said(answer: WireResponse) -> dict[str, Any]:
    """The part of a response that a client reads: JSON as its document, without lengths of variable text."""
    headers = {name: answer.header(name) for name in COMPARED if answer.header(name)}
    kind = answer.header("Content-Type").partition(";")[0]
    seen: dict[str, Any] = {"status": answer.status, "type": kind if answer.body else ""}
    if kind in ("application/json", "") or answer.status not in (200, 206):
        headers.pop("Content-Length", None)
    body: Any = answer.body
    if kind == "application/json" and body:
        body = errors_without_prose(json.loads(body))
    return seen | headers | {"body": body}


def errors_without_prose(document: Any) -> Any:
    """Errors by their codes; the catalog and tags as they are, tags sorted: 2.8 has no order of its own."""
    if isinstance(document, dict) and "errors" in document:
        return [error["code"] for error in document["errors"]]
    if isinstance(document, dict) and document.get("tags"):
        return document | {"tags": sorted(document["tags"])}
    return document


def fill(url: str) -> dict[str, Pushed]:
    """The same for the same server: every body is made of the same bytes."""
    pusher = Pusher(url)
    image = pusher.image("shop/api", "v1", "v2", layers=[b"base", b"one"])
    docker = pusher.image("shop/api", "docker", layers=[b"base"], docker=True)
    made = {
        "image": image,
        "docker": docker,
        "index": pusher.index("shop/api", "index", children=[image]),
        "list": pusher.index("shop/api", "list", children=[docker], platforms=[("linux", "amd64")], docker=True),
        "untagged": pusher.image("shop/api", layers=[b"untagged"]),
        "gone": pusher.image("emptied", "v1", layers=[b"gone"]),
        "by_digest": pusher.image("digests/only", layers=[b"digest"]),
        "referrer": pusher.refer(image, artifact_type="application/x", payload=b"said", listed=True),
    }
    pusher.blob("blobs/only", b"lonely")
    assert pusher.delete("emptied", made["gone"].digest).status == 202
    pusher.close()
    return made


@pytest.fixture(scope="module")
def both(real: DockerRegistry) -> Iterator[Both]:
    with FakeRegistry() as fake:
        words = {name: pushed.digest for name, pushed in fill(fake.url).items()}
        words |= {"layer": m.digest_of(b"base"), "nowhere": NOWHERE}
        yield Both((real.url, fake.url), words)


@pytest.fixture(scope="module")
def real() -> Iterator[DockerRegistry]:
    """Only read from: one for all."""
    with DockerRegistry() as server:
        fill(server.url)
        yield server


@pytest.fixture(scope="module")
def fresh() -> Iterator[Both]:
    """Two of one's own, to change."""
    with DockerRegistry() as server, FakeRegistry() as fake:
        fill(server.url)
        known = {"nowhere": NOWHERE, "good": m.digest_of(GOOD), "unsaid": m.digest_of(UNSAID)}
        known["layer"] = m.digest_of(b"base")
        words = {name: pushed.digest for name, pushed in fill(fake.url).items()}
        yield Both((server.url, fake.url), words | known)


READS = [
    "/v2/",
    "/v2/_catalog",
    "/v2/_catalog?n=2",
    "/v2/_catalog?n=2&last=digests%2Fonly",
    "/v2/_catalog?n=4",
    "/v2/_catalog?n=0",
    "/v2/_catalog?n=-1",
    "/v2/_catalog?n=abc",
    "/v2/_catalog?n=1001",
    "/v2/_catalog?last=c",
    "/v2/_catalog?last=zzz",
    "/v2/shop/api/tags/list",
    "/v2/shop/api/tags/list?n=1",
    "/v2/shop/api/tags/list?n=0&last=v1",
    "/v2/emptied/tags/list",
    "/v2/digests/only/tags/list",
    "/v2/blobs/only/tags/list",
    "/v2/nobody/tags/list",
    "/v2/A/tags/list",
    "/v2/shop/api/tags",
    "/v2/shop/api/referrers/{image}",
    "/v2/shop/api/manifests/v1",
    "/v2/shop/api/manifests/{image}",
    "/v2/shop/api/manifests/{index}",
    "/v2/shop/api/manifests/{untagged}",
    "/v2/shop/api/manifests/docker",
    "/v2/shop/api/manifests/list",
    "/v2/shop/api/manifests/{list}",
    "/v2/shop/api/manifests/nosuch",
    "/v2/shop/api/manifests/{nowhere}",
    "/v2/shop/api/manifests/sha256:abc",
    "/v2/shop/api/manifests/-no",
    "/v2/shop/api/manifests/{layer}",
    "/v2/emptied/manifests/v1",
    "/v2/emptied/manifests/{gone}",
    "/v2/nobody/manifests/v1",
    "/v2/digests/only/manifests/{image}",
    "/v2/shop/api/blobs/{layer}",
    "/v2/shop/api/blobs/{nowhere}",
    "/v2/digests/only/blobs/{layer}",
    "/v2/nobody/blobs/{layer}",
]


HEADS = [
    path for path in READS if "/manifests/" in path or "/blobs/sha256" in path or "/blobs/{" in path or path == "/v2/"
]


@pytest.mark.parametrize(("method", "path"), [*(("GET", path) for path in READS), *(("HEAD", path) for path in HEADS)])
def test_the_fake_answers_reads_as_docker_registry(both: Both, method: str, path: str) -> None:
    real, fake = both.ask(method, path, headers={"Accept": m.ACCEPT})
    assert fake == real


@pytest.mark.parametrize("accept", [None, "*/*", m.IMAGE, m.INDEX, m.DOCKER_IMAGE, f"{m.DOCKER_INDEX};q=0.1"])
@pytest.mark.parametrize("reference", ["v1", "{image}", "index", "{index}", "docker", "{docker}", "list", "{list}"])
def test_the_fake_handles_accept_as_docker_registry(both: Both, reference: str, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    real, fake = both.ask("GET", f"/v2/shop/api/manifests/{reference}", headers=headers)
    assert fake == real


RANGES = [
    "bytes=0-0",
    "bytes=1-2",
    "bytes=1-",
    "bytes=-2",
    "bytes=-9",
    "bytes=0-99",
    "bytes=4-5",
    "bytes=2-1",
    "bytes=x",
]


@pytest.mark.parametrize("asked", RANGES)
def test_the_fake_serves_ranges_as_docker_registry(both: Both, asked: str) -> None:
    real, fake = both.ask("GET", "/v2/shop/api/blobs/{layer}", headers={"Range": asked})
    assert fake == real


Step = tuple[str, str, dict[str, Any]]


def get(reference: str) -> Step:
    return ("GET", f"/v2/pushes/manifests/{reference}", {})


def delete(reference: str) -> Step:
    return ("DELETE", f"/v2/pushes/manifests/{reference}", {})


def tags() -> Step:
    return ("GET", "/v2/pushes/tags/list", {})


def mount(digest: str, source: str) -> Step:
    return ("POST", f"/v2/pushes/blobs/uploads/?mount={digest}&from={source}", {"body": b""})


def put(reference: str, body: bytes, media_type: str | None = m.IMAGE, repository: str = "pushes") -> Step:
    headers = {} if media_type is None else {"Content-Type": media_type}
    return ("PUT", f"/v2/{repository}/manifests/{reference}", {"body": body, "headers": headers})


def an_image(*layers: bytes, config: bytes = b"{}", **more: Any) -> bytes:
    def descriptor(blob: bytes, kind: str) -> dict[str, Any]:
        return {"mediaType": kind, "digest": m.digest_of(blob), "size": len(blob)}

    document = {"schemaVersion": 2, "mediaType": m.IMAGE, "config": descriptor(config, m.CONFIG)}
    return m.encoded(document | {"layers": [descriptor(layer, m.LAYER) for layer in layers]} | more)


def an_index(*digests: str, **more: Any) -> bytes:
    children = [{"mediaType": m.IMAGE, "digest": digest, "size": 7} for digest in digests]
    return m.encoded({"schemaVersion": 2, "mediaType": m.INDEX, "manifests": children} | more)


GOOD = an_image(b"base")
UNSAID = an_image(b"base", mediaType=None)
SUBJECT = {"mediaType": m.IMAGE, "digest": NOWHERE, "size": 3}

STEPS: dict[str, list[Step]] = {
    "a good push": [put("t", GOOD), get("t"), get("{good}"), tags()],
    "by digest": [put("{good}", GOOD), get("{good}"), tags()],
    "another digest": [put(NOWHERE, GOOD)],
    "a digest of nothing": [put("sha256:abc", GOOD)],
    "no type": [put("t", GOOD, None)],
    "a strange type": [put("t", GOOD, "application/json")],
    "another type": [put("t", GOOD, m.INDEX)],
    "another type within": [put("t", an_image(b"base", mediaType=m.DOCKER_IMAGE))],
    "no type within": [put("t", UNSAID), get("t")],
    "no JSON": [put("t", b"{")],
    "empty": [put("t", b"")],
    "a list": [put("t", b"[]")],
    "too large": [put("t", an_image(b"base", annotations={"x": "y" * (4 << 20)}))],
    "no layers": [put("t", an_image()), get("t")],
    "lost layers": [put("t", an_image(b"base", b"lost", b"lost, too")), get("t")],
    "a lost config": [put("t", an_image(b"base", config=b"lost"))],
    "the same layer twice": [put("t", an_image(b"base", b"base"))],
    "a lie about a size": [put("t", GOOD.replace(b'"size":4', b'"size":400'))],
    "a subject that is nowhere": [put("t", an_image(b"base", subject=SUBJECT))],
    "an empty index": [put("t", an_index(), m.INDEX), get("t")],
    "an index with a subject": [put("t", an_index(subject=SUBJECT), m.INDEX)],
    "an index of a lost child": [put("t", an_index(NOWHERE), m.INDEX)],
    "an index of what is there": [put("c", GOOD), put("t", an_index("{good}"), m.INDEX), delete("{good}"), get("t")],
    "an old artifact": [put("t", b"{}", "application/vnd.oci.artifact.manifest.v1+json")],
    "another repository": [put("t", GOOD, repository="stranger"), ("GET", "/v2/stranger/tags/list", {})],
    "deleted": [put("t", GOOD), put("u", GOOD), delete("{good}"), get("t"), get("{good}"), tags(), delete("{good}")],
    "pushed again": [put("t", GOOD), delete("{good}"), put("t", GOOD), get("t"), tags()],
    "deleted by tag": [put("t", GOOD), delete("t"), delete("nosuch"), get("t")],
    "nothing to delete": [delete(NOWHERE), delete("sha256:abc"), ("DELETE", f"/v2/nobody/manifests/{NOWHERE}", {})],
    "an overwritten tag": [
        put("t", GOOD),
        put("t", UNSAID),
        get("t"),
        get("{good}"),
        delete("{good}"),
        get("t"),
        tags(),
        delete("{unsaid}"),
        tags(),
    ],
    "mounted": [mount("{layer}", "shop/api"), ("GET", "/v2/pushes/blobs/{layer}", {})],
    "mounted from nowhere": [mount(NOWHERE, "shop/api"), mount("{layer}", "nobody")],
    "what may be done": [("OPTIONS", "/v2/pushes/manifests/t", {})],
}


@pytest.mark.parametrize("name", STEPS)
def test_the_fake_answers_changes_as_docker_registry(fresh: Both, name: str) -> None:
    """Step by step, each case in its own repository."""
    repository = name.replace(" ", "-").replace(",", "").lower()
    for url in fresh.urls:
        pusher = Pusher(url)
        pusher.blob(repository, b"base")
        pusher.blob(repository, b"{}")
        pusher.close()
    for method, path, options in STEPS[name]:
        given: dict[str, Any] = {"headers": {"Accept": m.ACCEPT}, **options}
        if "body" in given:
            given["body"] = given["body"].replace(b"{good}", m.digest_of(GOOD).encode())
        real, fake = fresh.ask(method, path.replace("/pushes/", f"/{repository}/"), **given)
        assert fake == real, f"{method} {path}"


@pytest.mark.parametrize(("option", "switch"), [({"delete": False}, "off"), ({"readonly": True}, "read-only")])
def test_the_fake_refuses_as_docker_registry(option: dict[str, bool], switch: str) -> None:
    with DockerRegistry() as server, FakeRegistry() as fake:
        fill(server.url)
        words = {name: pushed.digest for name, pushed in fill(fake.url).items()}
        server.restart(**option)
        fake.switches.deletion = switch  # type: ignore[assignment] # of the table
        both = Both((server.url, fake.url), words | {"nowhere": NOWHERE})
        steps: list[Step] = [delete("{image}"), delete(NOWHERE), delete("v1"), get("{image}"), put("t", GOOD)]
        for method, path, options in steps:
            real, faked = both.ask(method, path.replace("/pushes/", "/shop/api/"), **options)
            assert faked == real, f"{method} {path}"
