"""Cloud Registry's lists: pages, scopes, filters, windows of time, levels of the tree."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.simulator.caller import ARTIFACTS, NOW, REGISTRIES, CloudApi
from tests.support.simulator.client import Simulator

SECOND_REGISTRY = "crpsecond00000000000"


def text(forward: timedelta = timedelta(0)) -> str:
    return f"{NOW + forward:%Y-%m-%dT%H:%M:%S}Z"


def test_a_page_has_10_rows_unless_asked(simulator: Simulator, cloud: CloudApi) -> None:
    for _ in range(11):
        simulator.push("shop/api")
    assert len(cloud.page()["artifacts"]) == len(cloud.page(pageSize=0)["artifacts"]) == 10
    assert len(cloud.level("shop/api")) == 10
    assert "nextPageToken" not in cloud.page(pageSize=1_000)


def test_pages_hold_every_artifact_once(simulator: Simulator, cloud: CloudApi) -> None:
    pushed = {simulator.push("shop/api")["digest"] for _ in range(23)}
    rows = cloud.listed(pageSize=5)
    assert (len(rows), {row["name"] for row in rows}) == (23, pushed)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)


def test_shows_an_image_as_an_artifact(simulator: Simulator, cloud: CloudApi) -> None:
    pushed = simulator.push("shop/api", tags=["v1", "latest"], layers=["base:100", 7], config=9, created_at=NOW)
    latest, first = sorted(cloud.listed(), key=lambda row: str(row["name"]))
    assert latest["id"] != first["id"]
    assert (first["path"], first["name"], first["status"]) == ("/shop/api/v1", "v1", "ACTIVE")
    assert first["createdAt"] == first["modifiedAt"] == text()
    docker = first["content"]["docker"]
    assert docker == latest["content"]["docker"]
    assert docker["manifestDigest"] == pushed["digest"]
    blobs = [docker["imageManifest"]["config"], *docker["imageManifest"]["layers"]]
    assert {blob["digest"]: int(blob["size"]) for blob in blobs} == pushed["blobs"]


def test_shows_an_index_as_an_artifact_with_its_children(simulator: Simulator, cloud: CloudApi) -> None:
    children = [simulator.push("a")["digest"] for _ in range(2)]
    simulator.push_index("a", children, tags=["multi"])
    simulator.push_index("a", [], tags=["none"])
    rows = {row["name"]: row["content"]["docker"] for row in cloud.listed()}
    listed = rows["multi"]["manifestList"]["manifests"]
    assert [entry["manifestDescriptor"]["digest"] for entry in listed] == children
    assert [entry["platform"]["architecture"] for entry in listed] == ["amd64", "arm64"]
    assert set(rows) == {"multi", "none", *children}
    assert rows["none"]["manifestList"] == {}  # the arm of the oneof is there, and empty


def test_finds_a_listed_artifact_by_id_and_by_path(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.push("shop/api", tags=["v1"])
    simulator.push("shop/api")
    for row in cloud.listed():
        assert cloud.artifact(row["id"]).json() == cloud.by_path(row["path"]).json() == row
    assert [cloud.artifact("cn100000000000000000").status_code, cloud.by_path("/shop/web").status_code] == [404, 404]


@pytest.mark.parametrize(
    ("after", "before", "seen"),
    [
        pytest.param(None, None, "abc", id="no window"),
        pytest.param(timedelta(0), None, "bc", id="after is at or later"),
        pytest.param(None, timedelta(0), "a", id="before is before"),
        pytest.param(timedelta(0), timedelta(seconds=1), "b", id="half-open"),
        pytest.param(timedelta(seconds=-1), timedelta(0), "a", id="the window before it"),
        pytest.param(timedelta(seconds=1), timedelta(days=1), "c", id="the window behind it"),
        pytest.param(timedelta(0), timedelta(0), "", id="no time at all"),
    ],
)
def test_filters_artifacts_by_creation_time(
    simulator: Simulator, cloud: CloudApi, after: timedelta | None, before: timedelta | None, seen: str
) -> None:
    for place, name in enumerate("abc", start=-1):
        simulator.push("x", tags=[name], created_at=NOW + place * timedelta(seconds=1))
    query = {} if after is None else {"createdAfter": text(after)}
    query |= {} if before is None else {"createdBefore": text(before)}
    assert cloud.names(**query) == list(seen)


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ({"kind": []}, {"v1", "v2", "readme", "x", "docs", "pom"}),
        ({"kind": ["FOLDER", "PACKAGE"]}, {"x", "docs", "pom"}),
        ({"kind": "PACKAGE"}, {"pom"}),
        ({"nameFilter": 'name = "v1"'}, {"v1"}),
        ({"nameFilter": 'name != "v1"'}, {"v2", "readme"}),
        ({"pathFilter": 'path = "/x/v2"'}, {"v2"}),
        ({"pathFilter": 'path="x/v2"'}, {"v2"}),
        ({"pathFilter": 'path = "/x"'}, set()),  # exact: no prefix
        ({"pathFilter": 'path != "/x/v1"'}, {"v2", "readme"}),
        ({"status": "CREATING"}, {"v2"}),
        ({"status": ["ACTIVE", "CREATING"]}, {"v1", "v2", "readme"}),
        ({"status": "DELETED"}, set()),
        ({"labels": "team=docs"}, {"readme"}),
        ({"labels": ["team=docs", "size=small"]}, set()),
        ({"registryKind": ["DOCKER", "NPM"]}, {"v1", "v2", "readme"}),
        ({"registryKind": "MAVEN"}, set()),
        ({"registryType": "LOCAL"}, {"v1", "v2", "readme"}),
        ({"registryType": ["REMOTE", "VIRTUAL"]}, set()),
    ],
)
def test_filters_artifacts(simulator: Simulator, cloud: CloudApi, query: dict[str, Any], seen: set[str]) -> None:
    simulator.push("x", tags=["v1"])
    simulator.push("x", tags=["v2"])
    simulator.set_artifact(simulator.artifact("x", "v2")["id"], "CREATING")
    simulator.push_other("docs/readme", labels={"team": "docs"})
    simulator.push_other("docs", kind="FOLDER")
    simulator.push_other("docs/pom", kind="PACKAGE")
    assert {row["name"] for row in cloud.listed(**query)} == seen


@pytest.mark.parametrize(
    ("order", "seen"),
    [
        ("name", ["a", "ab", "b"]),
        ("name asc", ["a", "ab", "b"]),
        ("name desc", ["b", "ab", "a"]),
        ("created_at", ["ab", "b", "a"]),
        ("created_at desc", ["a", "b", "ab"]),
        ("modified_at desc", ["ab", "a", "b"]),
    ],
)
def test_orders_artifacts(simulator: Simulator, cloud: CloudApi, order: str, seen: list[str]) -> None:
    for name, days in (("ab", 3), ("b", 2), ("a", 1)):
        simulator.push("x", tags=[name], age=timedelta(days=days))
    simulator.tag("x", "b", "ab")  # moved now
    rows = [row["name"] for row in cloud.listed(orderBy=order, pageSize=1) if not row["name"].startswith("sha256:")]
    assert rows == seen


def test_lists_a_registry_or_a_folder(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.add_registry(SECOND_REGISTRY)
    simulator.push("a", tags=["mine"])
    simulator.push("a", tags=["other"], registry=SECOND_REGISTRY)
    assert cloud.names() == ["mine"]
    folder = cloud.get(ARTIFACTS, params={"folderId": simulator.folder_id, "kind": "ARTIFACT"}).json()
    assert {(row["name"], row["registryId"]) for row in folder["artifacts"]} == {
        ("mine", simulator.registry_id),
        ("other", SECOND_REGISTRY),
    }
    statuses = [cloud.get(ARTIFACTS, params=query).status_code for query in ({}, {"folderId": "b1gforeign"})]
    assert statuses == [400, 403]


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("", {("FOLDER", "", "shop"), ("FOLDER", "", "tools")}),
        ("/", {("FOLDER", "", "shop"), ("FOLDER", "", "tools")}),
        ("shop", {("FOLDER", "/shop/api", "api")}),
        (
            "/shop/api",
            {("ARTIFACT", "/shop/api/v1", "v1"), ("FOLDER", "/shop/api/cli", "cli"), ("PACKAGE", "/shop/api/x", "x")},
        ),
        ("/tools", {("ARTIFACT", "/tools/v2", "v2")}),
    ],
)
def test_lists_one_level_of_the_tree(
    simulator: Simulator, cloud: CloudApi, path: str, seen: set[tuple[str, str, str]]
) -> None:
    simulator.push("shop/api", tags=["v1"])
    simulator.push("shop/api/cli", tags=["v1"])
    simulator.push("tools", tags=["v2"])
    simulator.push_other("shop/api/x", kind="PACKAGE")
    assert {(row["kind"], row.get("path", ""), row["name"]) for row in cloud.level(path)} == seen


def test_a_folder_is_an_artifact_too(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.push("shop/api", tags=["v1"])
    (shop,) = cloud.level("")
    assert cloud.artifact(shop["id"]).json() == cloud.by_path("shop").json() == shop
    assert {row["name"] for row in cloud.listed(kind=[])} == {"shop", "api", "v1"}


def test_a_level_of_the_tree_has_pages(simulator: Simulator, cloud: CloudApi) -> None:
    for place in range(3):
        simulator.push("a", tags=[f"v{place}"])
    call = f"{REGISTRIES}/{simulator.registry_id}:listArtifacts"
    query: dict[str, Any] = {"path": "a", "pageSize": 2}
    first = cloud.get(call, params=query).json()
    second = cloud.get(call, params={**query, "pageToken": first["nextPageToken"]}).json()
    assert sorted(row["name"] for row in first["artifacts"] + second["artifacts"]) == ["v0", "v1", "v2"]
    assert "nextPageToken" not in second


def test_lists_registries(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.add_registry(SECOND_REGISTRY, name="cache")
    simulator.set_registry(kind="NPM", type="REMOTE", registry=SECOND_REGISTRY)

    def names(**query: Any) -> set[str]:
        answer = cloud.get(REGISTRIES, params={"folderId": simulator.folder_id, **query})
        return {row["name"] for row in answer.json().get("registries", [])}

    assert names() == names(status="ACTIVE") == {"prod-images", "cache"}
    assert names(kind=["DOCKER", "MAVEN"]) == names(type="LOCAL") == {"prod-images"}
    assert names(type="REMOTE") == names(nameFilter='name = "cache"') == {"cache"}
    assert names(type="VIRTUAL") == names(kind="DOCKER", type="REMOTE") == set()
    registry = cloud.get(f"{REGISTRIES}/{SECOND_REGISTRY}").json()
    assert (registry["kind"], registry["type"], registry["folderId"]) == ("NPM", "REMOTE", simulator.folder_id)
    assert cloud.get(f"{REGISTRIES}/crpforeign0000000000").status_code == 403


def test_a_helm_chart_and_a_signature_are_images(simulator: Simulator, cloud: CloudApi) -> None:
    image = simulator.push("charts/shop", tags=["1.4.2"])
    signature = simulator.sign("charts/shop", image["digest"])
    assert cloud.names() == sorted(["1.4.2", *signature["tags"]])
