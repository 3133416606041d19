"""The folder and the tags of an artifact, and the image of all artifacts of a digest."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET

from policies.image import Blob
from worker.registries.errors import BadResponseError
from worker.registries.yandex.cloud_images import (
    Folder,
    PossibleFolders,
    have_conflicting_manifests,
    image_of,
    images_of,
    is_in_folder,
    possible_folders,
    resolve_folder,
    tags_of,
)
from worker.registries.yandex.cloud_protocol import Artifact

REGISTRY = "crpvab5oob146rh73ilt"


D1, D2, D3 = (f"sha256:{digit * 64}" for digit in "123")


C1, L1, L2 = (f"sha256:{digit * 64}" for digit in "abc")


T0 = datetime(2026, 3, 2, 9, 15, 44, 127_000, UTC)


def artifact(digest: str = D1, name: str = "v1", **more: Any) -> Artifact:
    more = {"id": f"id-{digest[7]}-{name[:7]}", "config": Blob(C1, 500), "created_at": T0, **more}
    return Artifact(path=f"/shop/api/{name}", name=name, digest=digest, **more)


@pytest.mark.parametrize(
    ("path", "name", "place"),
    [
        ("/shop/api/1.4.2", "1.4.2", PossibleFolders("shop/api", "shop/api/1.4.2")),
        ("shop/api/1.4.2", "1.4.2", PossibleFolders("shop/api", "shop/api/1.4.2")),
        (f"/{REGISTRY}/shop/api/1.4.2", "1.4.2", PossibleFolders("shop/api", "shop/api/1.4.2")),
        (f"/shop/api/{D1}", D1, PossibleFolders("shop/api", None)),
        ("/shop/api", "1.4.2", PossibleFolders(None, "shop/api")),
        ("/shop/api/", "1.4.2", PossibleFolders(None, "shop/api")),
        ("/shop/api", "api", PossibleFolders("shop", "shop/api")),
        ("", "1.4.2", PossibleFolders(None, "")),
        ("/1.4.2", "1.4.2", PossibleFolders("", "1.4.2")),
    ],
)
def test_derives_the_folders_of_an_artifact_from_its_path(path: str, name: str, place: PossibleFolders) -> None:
    assert possible_folders(path, name, REGISTRY) == place


@pytest.mark.parametrize("path", ["/shop//api/x", "/../shop/x", "/shop/a pi/x", "/shop/-/x", "/" + "a/" * 200 + "x"])
def test_refuses_a_path_that_no_repository_can_have(path: str) -> None:
    with pytest.raises(BadResponseError, match="invalid path"):
        possible_folders(path, "x", REGISTRY)


@pytest.mark.parametrize(
    ("parents", "has_full_paths", "folder"),
    [
        pytest.param(set(), False, "shop", id="no certain path"),
        pytest.param({"web"}, False, "shop/api", id="only folder paths"),
        pytest.param({"web"}, True, "shop", id="folder paths and full paths"),
        pytest.param({"web", "shop/api"}, True, "shop/api", id="both, and the folder is a known folder"),
    ],
)
def test_resolves_the_folder_of_a_tag_named_like_its_repository(
    parents: set[str], has_full_paths: bool, folder: str
) -> None:
    assert (
        resolve_folder(possible_folders("/shop/api", "api", REGISTRY), parents, has_full_paths=has_full_paths) == folder
    )


def test_an_artifact_is_in_the_listed_folder_by_either_path() -> None:
    for path, name, answer_ in (
        ("/shop/api/v1", "v1", True),
        ("/shop/api", "v1", True),
        ("/shop/api", "api", True),
        ("/shop/api/cache/v1", "v1", False),
        ("/shop", "v1", False),
    ):
        assert is_in_folder(path, name, REGISTRY, "shop/api") is answer_, path


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
def test_the_tags_of_an_artifact_are_its_name_and_its_properties(
    name: str, properties: dict[str, str], tags: tuple[str, ...]
) -> None:
    assert tags_of(artifact(name=name, properties=properties)) == tags


@pytest.mark.parametrize("value", ["v1;v2", "[1]", "[broken", "-x"])
def test_refuses_tags_that_cannot_be_parsed(value: str) -> None:
    with pytest.raises(BadResponseError, match="invalid tags"):
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


def test_one_unknown_time_makes_the_push_time_unknown() -> None:
    assert image_of([artifact(name="v1"), artifact(name="v2", created_at=None)], [], "x").created_at is None
    assert image_of([artifact(created_at=None, modified_at=T0)], [], "x").created_at == T0


def test_conflicting_manifests_are_unknown() -> None:
    same = [artifact(name="v1"), artifact(name="v2", config=None, children=(D2,))]
    image = image_of(same, ["v1", "v2"], "x")
    assert have_conflicting_manifests(same)
    assert (image.children, image.config, image.compressed_size) == (None, None, None)


def test_an_artifact_without_a_manifest_conflicts_with_none() -> None:
    same = [artifact(name="v1"), artifact(name="v2", config=None)]
    assert not have_conflicting_manifests(same)
    assert image_of(same, [], "x").config == Blob(C1, 500)


def test_the_later_of_two_equal_artifacts_counts() -> None:
    moved = Folder("x", [artifact(name="v1", id="a"), artifact(D2, "v1", id="a")])
    assert (moved.artifacts(D1), next(digest for digest, tags in moved.tags.items() if "v1" in tags)) == ((), D2)


def folder(*artifacts: Artifact) -> Folder:
    return Folder("shop/api", artifacts)
