"""Plain functions of Cloud Registry: rows, places, tags, images, and what a deletion left."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from policies.image import Blob
from worker.registries.errors import BadAnswerError, RegistryError, UnsuitableError
from worker.registries.http.messages import Answer
from worker.registries.yandex import cloud_protocol as protocol
from worker.registries.yandex.cloud_following import left_of, rest_of
from worker.registries.yandex.cloud_images import (
    Folder,
    Place,
    disagrees,
    image_of,
    images_of,
    in_folder,
    place_of,
    settled,
    tags_of,
)
from worker.registries.yandex.cloud_protocol import Artifact

REGISTRY = "crpvab5oob146rh73ilt"
ROOT = "https://registry.api.cloud.yandex.net"
D1, D2, D3 = (f"sha256:{digit * 64}" for digit in "123")
C1, L1, L2 = (f"sha256:{digit * 64}" for digit in "abc")
T0 = datetime(2026, 3, 2, 9, 15, 44, 127_000, UTC)


def answer(document: Any, status: int = 200) -> Answer:
    return Answer(status, {}, json.dumps(document).encode())


def row(**changes: Any) -> dict[str, Any]:
    """A row of a listing; None takes a field away."""
    docker = {
        "manifestDigest": D1,
        "imageManifest": {"config": {"digest": C1, "size": "500"}, "layers": [{"digest": L1, "size": "1000"}]},
    }
    full = {
        "id": "cn1pt5g8rgojmrt5ttft",
        "path": "/shop/api/1.4.2",
        "name": "1.4.2",
        "kind": "ARTIFACT",
        "status": "ACTIVE",
        "createdAt": "2026-03-02T09:15:44.127Z",
        "modifiedAt": "2026-03-04T09:15:44Z",
        "properties": {},
        "content": {"docker": docker},
        "registryId": REGISTRY,
    }
    return {name: value for name, value in {**full, **changes}.items() if value is not None}


def docker(**content: Any) -> dict[str, Any]:
    return {"docker": {"manifestDigest": D1, **content}}


def read(**changes: Any) -> Artifact | None:
    (found,) = protocol.page(answer({"artifacts": [row(**changes)]}), REGISTRY).rows
    return protocol.artifact_of(found)


def artifact(digest: str = D1, name: str = "v1", **more: Any) -> Artifact:
    more = {"id": f"id-{digest[7]}-{name[:7]}", "config": Blob(C1, 500), "created_at": T0, **more}
    return Artifact(path=f"/shop/api/{name}", name=name, digest=digest, **more)


# Rows


def test_an_artifact_in_full() -> None:
    assert read() == Artifact(
        id="cn1pt5g8rgojmrt5ttft",
        path="/shop/api/1.4.2",
        name="1.4.2",
        digest=D1,
        created_at=T0,
        modified_at=datetime(2026, 3, 4, 9, 15, 44, tzinfo=UTC),
        config=Blob(C1, 500),
        layers=(Blob(L1, 1000),),
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": "CREATING"}, id="being made"),
        pytest.param({"status": "DELETING"}, id="going"),
        pytest.param({"status": "DELETED"}, id="gone"),
        pytest.param({"kind": "FOLDER"}, id="a folder"),
        pytest.param({"kind": "PACKAGE"}, id="a package"),
        pytest.param({"content": None}, id="no content"),
        pytest.param({"content": {}}, id="content of another kind"),
        pytest.param({"properties": {"softDeletedAt": "2026-11-01T00:00:00Z"}}, id="softly deleted, and when"),
        pytest.param({"properties": {"soft_deleted": "true"}}, id="softly deleted"),
    ],
)
def test_what_is_no_image(changes: dict[str, Any]) -> None:
    assert read(**changes) is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": None}, id="the filter has said so"),
        pytest.param({"kind": None}, id="the filter has said that, too"),
        pytest.param({"properties": {"softDeleted": "false"}}, id="not softly deleted"),
        pytest.param({"properties": {"deletionProtection": "true"}}, id="protected"),
    ],
)
def test_what_is_an_image_all_the_same(changes: dict[str, Any]) -> None:
    assert read(**changes) is not None


@pytest.mark.parametrize(
    ("content", "children", "told"),
    [
        pytest.param(
            {"manifestList": {"manifests": [{"manifestDescriptor": {"digest": D2}}] * 2}}, (D2,), True, id="index"
        ),
        pytest.param({"manifestList": {}}, None, False, id="an empty arm says nothing"),
        pytest.param({"imageManifest": {}}, None, False, id="an empty image neither"),
        pytest.param({"imageManifest": {"layers": [{"digest": L1}]}}, None, False, id="layers without a config"),
        pytest.param({}, None, False, id="no arm"),
        pytest.param({"imageManifest": {"config": {"digest": C1}}}, None, True, id="an image"),
    ],
)
def test_what_a_manifest_was_told_to_hold(
    content: dict[str, Any], children: tuple[str, ...] | None, told: bool
) -> None:
    found = read(content=docker(**content))
    assert found is not None
    assert (found.children, found.told) == (children, told)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (docker(manifestDigest="sha256:12"), "with the digest 'sha256:12'"),
        (docker(manifestDigest=None), "with the digest None"),
        (docker(imageManifest={"config": {"digest": C1, "size": "-1"}}), "size is out of range"),
        (docker(manifestList={"manifests": [{}]}), "a blob with the digest None"),
    ],
)
def test_what_cannot_be_right_speaks_against_its_folder(content: dict[str, Any], words: str) -> None:
    found = read(content=content)
    assert found is not None
    assert words in found.broken
    with pytest.raises(BadAnswerError, match=re.escape(words)):
        Folder("shop/api", [artifact(), found])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": None}, "an artifact with the id None"),
        ({"id": "../x"}, r"an artifact with the id '\.\./x'"),
        ({"registryId": "crpother"}, "of the registry 'crpother'"),
    ],
)
def test_a_page_that_cannot_be_believed(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadAnswerError, match=words):
        read(**changes)


@pytest.mark.parametrize(
    ("kind", "type_", "words"),
    [
        ("MAVEN", "LOCAL", "of the kind MAVEN: only registries of the kind DOCKER"),
        (None, "LOCAL", "of the kind no kind"),
        ("DOCKER", "REMOTE", "of the type REMOTE: it shows what is kept elsewhere; name the LOCAL registry"),
        ("DOCKER", "VIRTUAL", "of the type VIRTUAL"),
        ("DOCKER", None, "of the type no type"),
    ],
)
def test_a_registry_that_is_refused(kind: str | None, type_: str | None, words: str) -> None:
    with pytest.raises(UnsuitableError, match=words) as failure:
        protocol.registry(answer({"id": REGISTRY, "kind": kind, "type": type_}), REGISTRY)
    assert failure.value.final
    assert failure.value.systemic


def test_a_registry_that_was_not_asked_for() -> None:
    with pytest.raises(BadAnswerError, match="told of 'crpother'"):
        protocol.registry(answer({"id": "crpother", "kind": "DOCKER", "type": "LOCAL"}), REGISTRY)


def test_what_is_asked() -> None:
    assert dict(protocol.list_artifacts(ROOT, REGISTRY, "next").query) == {
        "registryId": REGISTRY,
        "kind": "ARTIFACT",
        "status": "ACTIVE",
        "pageSize": "1000",
        "pageToken": "next",
    }
    deletion = protocol.delete_artifact(ROOT, "cn1/../x", "shop/api", "0f0c4c1e", 7.0)
    assert deletion.url == f"{ROOT}/cloud-registry/v1/artifacts/cn1%2F..%2Fx"
    assert (dict(deletion.query), dict(deletion.headers)) == ({}, {"Idempotency-Key": "0f0c4c1e"})
    assert deletion.not_after == 7.0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["artifacts", "id", "path", "content", "docker", "manifestDigest", "manifestList", "manifests"]
                ),
                x,
            )
        ),
    )
)
def test_whatever_comes_is_a_page_or_one_of_our_errors(document: Any) -> None:
    try:
        rows = protocol.page(answer(document), REGISTRY).rows
    except RegistryError:
        return
    assert all(isinstance(protocol.artifact_of(one), Artifact | None) for one in rows)


# Places


@pytest.mark.parametrize(
    ("path", "name", "place"),
    [
        ("/shop/api/1.4.2", "1.4.2", Place("shop/api", "shop/api/1.4.2")),
        ("shop/api/1.4.2", "1.4.2", Place("shop/api", "shop/api/1.4.2")),
        (f"/{REGISTRY}/shop/api/1.4.2", "1.4.2", Place("shop/api", "shop/api/1.4.2")),
        (f"/shop/api/{D1}", D1, Place("shop/api", None)),
        ("/shop/api", "1.4.2", Place(None, "shop/api")),
        ("/shop/api/", "1.4.2", Place(None, "shop/api")),
        ("/shop/api", "api", Place("shop", "shop/api")),
        ("", "1.4.2", Place(None, "")),
        ("/1.4.2", "1.4.2", Place("", "1.4.2")),
    ],
)
def test_places(path: str, name: str, place: Place) -> None:
    assert place_of(path, name, REGISTRY) == place


@pytest.mark.parametrize("path", ["/shop//api/x", "/../shop/x", "/shop/a pi/x", "/shop/-/x", "/" + "a/" * 200 + "x"])
def test_a_path_that_no_repository_can_have(path: str) -> None:
    with pytest.raises(BadAnswerError, match="impossible path"):
        place_of(path, "x", REGISTRY)


@pytest.mark.parametrize(
    ("parents", "some_full", "folder"),
    [
        pytest.param(set(), False, "shop", id="all may be full"),
        pytest.param({"web"}, False, "shop/api", id="some are parents and none is full"),
        pytest.param({"web"}, True, "shop", id="there are both: as its last segment says"),
        pytest.param({"web", "shop/api"}, True, "shop/api", id="there are both, and the folder is one"),
    ],
)
def test_a_tag_that_is_named_like_its_repository(parents: set[str], some_full: bool, folder: str) -> None:
    assert settled(place_of("/shop/api", "api", REGISTRY), parents, some_full=some_full) == folder


def test_what_lies_in_a_folder_that_was_asked_for() -> None:
    for path, name, answer_ in (
        ("/shop/api/v1", "v1", True),
        ("/shop/api", "v1", True),
        ("/shop/api", "api", True),
        ("/shop/api/cache/v1", "v1", False),
        ("/shop", "v1", False),
    ):
        assert in_folder(path, name, REGISTRY, "shop/api") is answer_, path


# Images


@pytest.mark.parametrize(
    ("name", "properties", "tags"),
    [
        ("1.4.2", {}, ("1.4.2",)),
        (D1, {}, ()),
        (D1.removeprefix("sha256:"), {}, ()),
        (D1.replace(":", "-"), {}, ()),
        (f"{D1.replace(':', '-')}.sig", {}, (f"{D1.replace(':', '-')}.sig",)),
        (f"{D2.replace(':', '-')}.sig", {}, (f"{D2.replace(':', '-')}.sig",)),
        (D2, {}, ()),
        ("no tag", {}, ()),
        ("x" * 129, {}, ()),
        (D1, {"tags": "v1,latest"}, ("v1", "latest")),
        (D1, {"docker.tag": "v1 v1"}, ("v1",)),
        (D1, {"Tags": '["v1", "latest"]'}, ("v1", "latest")),
        (D1, {"tags": ""}, ()),
        (D1, {"stage": "prod"}, ()),
        ("v1", {"tags": "v1,v2"}, ("v1", "v2")),
    ],
)
def test_tags(name: str, properties: dict[str, str], tags: tuple[str, ...]) -> None:
    assert tags_of(artifact(name=name, properties=properties)) == tags


@pytest.mark.parametrize("value", ["v1;v2", "[1]", "[broken", "-x"])
def test_tags_that_cannot_be_read_are_no_guess(value: str) -> None:
    with pytest.raises(BadAnswerError, match="tags that are none"):
        Folder("shop/api", [artifact(name=D1, properties={"tags": value})])


def test_artifacts_of_a_digest_are_one_image() -> None:
    layers = (Blob(L1, 1000), Blob(L1, 1000), Blob(L2, 30))
    first = artifact(name="v1", id="b", layers=layers, modified_at=T0 + timedelta(days=3))
    second = artifact(name="latest", id="a", layers=layers, created_at=T0 + timedelta(days=2))
    (image,) = images_of(Folder("shop/api", [first, second]), REGISTRY).values()
    assert (image.id, image.name, image.tags) == ("a", f"{REGISTRY}/shop/api", ("latest", "v1"))
    assert (image.config, image.layers, image.compressed_size) == (Blob(C1, 500), layers, 1530)
    assert (image.created_at, image.children, image.subject) == (T0 + timedelta(days=3), UNSET, None)


def test_the_artifact_of_the_digest_itself_gives_its_id() -> None:
    image = image_of([artifact(name="v1", id="a"), artifact(name=D1, id="b")], ["v1"], "x")
    assert image.id == "b"


def test_a_time_that_is_not_told_makes_all_unknown() -> None:
    assert image_of([artifact(name="v1"), artifact(name="v2", created_at=None)], [], "x").created_at is None
    assert image_of([artifact(created_at=None, modified_at=T0)], [], "x").created_at == T0


def test_artifacts_that_tell_different_manifests_tell_nothing() -> None:
    same = [artifact(name="v1"), artifact(name="v2", config=None, children=(D2,))]
    image = image_of(same, ["v1", "v2"], "x")
    assert disagrees(same)
    assert (image.children, image.config, image.compressed_size) == (None, None, None)


def test_an_artifact_that_tells_nothing_disagrees_with_none() -> None:
    same = [artifact(name="v1"), artifact(name="v2", config=None)]
    assert not disagrees(same)
    assert image_of(same, [], "x").config == Blob(C1, 500)


def test_of_an_artifact_that_came_twice_the_later_counts() -> None:
    moved = Folder("x", [artifact(name="v1", id="a"), artifact(D2, "v1", id="a")])
    assert (moved.of(D1), next(one for one, tags in moved.tags.items() if "v1" in tags)) == ((), D2)


# What a deletion left


def folder(*artifacts: Artifact) -> Folder:
    return Folder("shop/api", artifacts)


INDEX = artifact(D1, "idx", config=None, children=(D2,))
CHILD = artifact(D2, D2)
TAGGED = artifact(D2, "child")
OTHER = artifact(D3, "v3")
BARE = artifact(D3, D3)


@pytest.mark.parametrize(
    ("before", "after", "asked", "strays"),
    [
        pytest.param((INDEX, OTHER), (OTHER,), (), (), id="it alone"),
        pytest.param((INDEX, OTHER), (), (), ("v3",), id="another's tag"),
        pytest.param((INDEX, OTHER), (), (D3,), (), id="another that was asked for as well"),
        pytest.param((INDEX, OTHER), (BARE,), (), ("v3",), id="another's tag alone"),
        pytest.param((INDEX, OTHER), (artifact(D2, "v3"),), (), (), id="another's tag moved on"),
        pytest.param((INDEX, CHILD), (), (), (D2,), id="an untagged child"),
        pytest.param((INDEX, TAGGED), (CHILD,), (), ("child",), id="a child's tag"),
        pytest.param((INDEX, BARE), (), (), (), id="something untagged that it does not list"),
        pytest.param((INDEX, TAGGED), (CHILD,), (D2,), (), id="a child that was asked for"),
    ],
)
def test_what_went_along(
    before: tuple[Artifact, ...], after: tuple[Artifact, ...], asked: tuple[str, ...], strays: tuple[str, ...]
) -> None:
    image = image_of([INDEX], ["idx"], "x")
    assert left_of(image, folder(*before), folder(*after), asked).strays == strays
    assert left_of(image, None, folder(*after), asked).strays == ()


def test_what_is_left_of_an_image() -> None:
    image = replace(image_of([artifact()], ["v1", "v2", "v3"], "x"), tags=("v1", "v2", "v3"))
    left = left_of(image, None, folder(artifact(D1, "v1"), artifact(D1, "new"), artifact(D2, "v2")))
    assert (left.tags, left.new_tags, left.raced) == (("v1",), ("new",), ("v2",))
    assert len(left.artifacts) == 2


LATER = T0 + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("tags", "asked", "after", "rest", "again"),
    [
        pytest.param(("v1",), {("a", True)}, {"id": "a"}, 1, False, id="the same artifact without its tag"),
        pytest.param(("v1",), {("a", True)}, {"id": "b"}, 1, False, id="another"),
        pytest.param(("v1",), {("a", True), ("b", False)}, {"id": "b"}, 0, False, id="it was asked for, too"),
        pytest.param(("v1",), set(), {"id": "b"}, 1, False, id="another process has asked for the tags"),
        pytest.param((), {("b", False)}, {"id": "b"}, 0, False, id="an untagged image that is still listed"),
        pytest.param((), set(), {"id": "b"}, 0, False, id="and another process has asked"),
        pytest.param(("v1",), {("a", True)}, {"id": "b", "created_at": LATER}, 0, True, id="pushed meanwhile"),
        pytest.param((), {("b", False)}, {"id": "c", "created_at": LATER}, 0, True, id="pushed meanwhile, untagged"),
        pytest.param(("v1",), {("a", True)}, {"id": "b", "created_at": None}, 0, False, id="nobody knows when"),
        pytest.param(("v1",), {("a", True)}, {"id": "b", "name": "v1"}, 0, False, id="its tag is still there"),
    ],
)
def test_what_the_last_tag_leaves(
    tags: tuple[str, ...], asked: set[tuple[str, bool]], after: dict[str, Any], rest: int, again: bool
) -> None:
    image = replace(image_of([artifact()], tags, "x"), tags=tags)
    left = left_of(image, None, folder(artifact(**{"name": D1, **after})))
    assert len(rest_of(image, left, asked)) == rest
    assert left.pushed_again is again


def test_an_index_in_an_index_is_below_it_too() -> None:
    nested = folder(artifact(D1, "x", config=None, children=(D2,)), artifact(D2, "y", config=None, children=(D3, D1)))
    assert nested.below(D1) == {D1, D2, D3}
