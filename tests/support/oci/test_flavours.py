"""Behaviours in which other registries differ, by raw requests to the fake."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers import QUICK, with_defaults
from tests.support.oci.fake import FLAVOURS, BasicAuth, FakeRegistry, TokenAuth
from tests.support.oci.manifests import ACCEPT, IMAGE, Pushed
from tests.support.oci.pusher import basic
from tests.support.oci.wire import Wire, WireResponse
from worker.config.settings import Credentials, Secret
from worker.registries import open_registry
from worker.registries.interface import Registry


def ask(registry: FakeRegistry, method: str, path: str, url: str = "", **options: Any) -> WireResponse:
    wire = Wire(url or registry.url)
    try:
        return wire.ask(method, path, **{"headers": {"Accept": ACCEPT}, **options})
    finally:
        wire.close()


def code(answer: WireResponse) -> str:
    return str(json.loads(answer.body)["errors"][0]["code"]) if answer.body else ""


def opened(registry: FakeRegistry, **changes: Any) -> Registry:
    given = {"kind": "oci", "url": registry.url, "credentials": Credentials(anonymous=True), "repositories": ("a",)}
    return open_registry(with_defaults(**{**given, **changes}), retries=QUICK, manifests=None)


@pytest.mark.parametrize(
    ("by_tag", "status", "error_code", "left"),
    [
        ("refused", 400, "DIGEST_INVALID", ("v1", "v2")),
        ("unsupported", 405, "UNSUPPORTED", ("v1", "v2")),
        ("takes the tag", 202, "", ("v2",)),
    ],
)
def test_a_deletion_by_tag_depends_on_the_switch(
    by_tag: str, status: int, error_code: str, left: tuple[str, ...]
) -> None:
    with FakeRegistry(by_tag=by_tag) as registry:
        image = registry.push("a", "v1", "v2")
        answer = ask(registry, "DELETE", "/v2/a/manifests/v1")
        assert (answer.status, code(answer)) == (status, error_code)
        assert registry.state() == {"a": {image.digest: left}}
        assert len(registry.refused) == 1
        assert ask(registry, "DELETE", "/v2/a/manifests/sha256:abc").status == 400
        assert ask(registry, "DELETE", "/v2/a/manifests/nosuch").status == {202: 404}.get(status, status)


@pytest.mark.parametrize(
    ("deleted", "by_digest", "by_tag", "listed"),
    [
        ("at once", 404, 404, None),
        ("late", 200, 200, ["v1"]),
        ("tags listed", 404, 404, ["v1"]),
        ("tags answer", 404, 200, ["v1"]),
    ],
)
def test_a_deleted_image_stays_visible_as_the_switch_says(
    deleted: str, by_digest: int, by_tag: int, listed: list[str] | None
) -> None:
    with FakeRegistry(deleted=deleted) as registry:
        image = registry.push("a", "v1")
        assert ask(registry, "DELETE", f"/v2/a/manifests/{image.digest}").status == 202
        seen = [ask(registry, "GET", f"/v2/a/manifests/{reference}").status for reference in (image.digest, "v1")]
        assert seen == [by_digest, by_tag]
        assert json.loads(ask(registry, "GET", "/v2/a/tags/list").body)["tags"] == listed
        for _ in range(2):  # the second time there is nothing to finish
            registry.finish_deletions()
        assert registry.deleted == [("a", image.digest)]
        assert ask(registry, "DELETE", f"/v2/a/manifests/{image.digest}").status == 404
        registry.put("a", image.body, image.media_type, "v1")  # the remedy
        registry.switches.deleted = "at once"
        assert ask(registry, "DELETE", f"/v2/a/manifests/{image.digest}").status == 202
        assert ask(registry, "GET", "/v2/a/manifests/v1").status == 404


def test_forgets_a_manifest_whose_last_tag_moves() -> None:
    with FakeRegistry(forgets_untagged=True) as registry:
        old, new = registry.push("a", "v1", layers=[b"old"]), registry.push("a", layers=[b"new"])

        def push(tag: str, pushed: Pushed) -> None:
            answer = ask(registry, "PUT", f"/v2/a/manifests/{tag}", body=pushed.body, headers={"Content-Type": IMAGE})
            assert answer.status == 201

        push("v2", old)
        push("v1", new)
        assert registry.state() == {"a": {old.digest: ("v2",), new.digest: ("v1",)}}
        push("v2", old)
        push("v2", new)
        assert registry.state() == {"a": {new.digest: ("v1", "v2")}}


def test_reports_the_bytes_that_a_deletion_would_free() -> None:
    with FakeRegistry() as registry:
        image = registry.push("a", "v1", layers=[b"shared", b"own"])
        other = registry.push("b", "v1", layers=[b"shared"])
        assert image.config
        assert registry.freed() == {}
        assert registry.freed(image.digest) == {image.config.digest: image.config.size, image.layers[1].digest: 3}
        assert len(registry.freed(image.digest, other.digest)) == 4


def test_tags_have_pages_only_with_n() -> None:
    with FakeRegistry(**FLAVOURS["distribution-3"] | {"tags_page": 3}) as registry:
        pushed = registry.fill("a", 5)
        tags = [tag for image in pushed for tag in image.tags]

        def listed(query: str) -> tuple[int, list[str] | None, str]:
            answer = ask(registry, "GET", f"/v2/a/tags/list{query}")
            return answer.status, json.loads(answer.body).get("tags"), answer.header("Link")

        assert listed("") == (200, tags, "")
        assert listed("?last=t00001") == (200, tags[2:], "")
        assert listed("?n=9") == (200, tags[:3], '</v2/a/tags/list?last=t00002&n=9>; rel="next"')
        for number in ("-1", "many"):
            assert listed(f"?n={number}") == (400, None, "")
        with opened(registry) as driver:
            assert {image.tags for image in driver.images("a")} == {image.tags for image in pushed}
            for image in pushed:
                registry.remove("a", image.digest)
            assert listed("") == listed("?n=9") == (200, [], "")
            assert driver.images("a") == ()


@pytest.mark.parametrize("flavour", ["distribution-2.8", "distribution-3"])
def test_the_collector_deletes_untagged_manifests(flavour: str) -> None:
    with FakeRegistry(**FLAVOURS[flavour]) as registry, opened(registry) as driver:
        lone, child = (registry.push("a", layers=[name]) for name in (b"lone", b"child"))
        inner = registry.push_index("a", children=[child.digest])
        index = registry.push_index("a", "all", children=[inner.digest])
        registry.collect(untagged=True)
        kept = {index.digest} if flavour == "distribution-2.8" else {index.digest, inner.digest, child.digest}
        assert {image.digest for image in driver.images("a")} == kept
        assert ask(registry, "GET", f"/v2/a/blobs/{lone.layers[0].digest}").status == 404


def anna(folder: Path) -> Credentials:
    (folder / "password").write_text("secret")
    return Credentials(username="anna", password=Secret(file=folder / "password"))


def test_the_token_server_can_use_another_port() -> None:
    tokens = TokenAuth(user=BasicAuth("anna", "secret"), elsewhere=True, named="access_token", tells_lifetime=False)
    with FakeRegistry(tokens) as registry:
        challenge = ask(registry, "GET", "/v2/").header("Www-Authenticate")
        assert challenge == f'Bearer realm="http://{registry.token_host}/token",service="fake-registry"'
        assert registry.token_host != registry.host
        there = f"http://{registry.token_host}"
        signed = {"Authorization": basic("anna", "secret")}
        assert ask(registry, "GET", "/token", headers=signed).status == 404  # not here
        assert ask(registry, "GET", "/v2/", there).status == 404
        assert ask(registry, "GET", "/token", there).status == 401
        given = json.loads(ask(registry, "GET", "/token", there, headers=signed).body)
        assert given.keys() == {"access_token"}
        bearer = {"Authorization": f"Bearer {given['access_token']}"}
        assert ask(registry, "GET", "/v2/", headers=bearer).status == 200
