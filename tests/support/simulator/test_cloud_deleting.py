"""Deleting artifacts one by one: the deleted artifacts, the lost bytes, concurrent changes by others."""

import uuid
from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.simulator.caller import ARTIFACTS, NOW, REGISTRIES, CloudApi, docker_login, refusals
from tests.support.simulator.client import Simulator
from tests.support.simulator.cloud_artifacts import ArtifactDeletion, ArtifactStore
from tests.support.simulator.registry import DEFAULT_REGISTRY, Blob, Cloud, digest_of
from tests.support.simulator.switches import Switches


def test_the_deletion_of_the_last_artifact_deletes_the_image(simulator: Simulator, cloud: CloudApi) -> None:
    image = simulator.push("shop/api", tags=["v1", "v2"], layers=["base:5000", 70], config=8)
    simulator.push("shop/web", tags=["v1"], layers=["base:5000"], config=8)
    rows = {row["name"]: row["id"] for row in simulator.artifacts("shop/api")}
    cloud.deleted(rows["v2"])
    assert (simulator.state()["lost_bytes"], simulator.deleted_ids()) == (0, set())
    cloud.deleted(rows["v1"])
    state = simulator.state()
    assert (state["lost_bytes"], state["lost_bytes_by_request"], state["registry_bytes"]) == (78, 78, 5_008)
    assert [(gone["id"], gone["tags"]) for gone in state["deleted"]] == [(image["id"], ["v2", "v1"])]
    assert state["deletes"] == {rows["v1"]: 1, rows["v2"]: 1}


@given(
    pushes=st.lists(st.tuples(st.sets(st.sampled_from("xyz")), st.sets(st.integers(0, 5))), max_size=8),
    whole=st.booleans(),
    stays=st.booleans(),
    data=st.data(),
)
def test_lost_bytes_are_those_of_unreferenced_blobs(
    pushes: list[tuple[set[str], set[int]]], whole: bool, stays: bool, data: st.DataObject
) -> None:
    """Against sets, whatever the deletion of one artifact takes along."""
    switches = Switches(
        deleted_artifact="manifest" if whole else "tag", last_tag="manifest_stays" if stays else "manifest_gone"
    )
    cloud = Cloud(NOW)
    artifact_store, registry = ArtifactStore(cloud, lambda: switches), cloud.registries[DEFAULT_REGISTRY]
    for tags, layers in pushes:
        blobs = [Blob(digest_of(str(layer).encode()), 2**layer) for layer in sorted(layers)]
        cloud.push("a", tags=sorted(tags), layers=blobs, config=Blob(digest_of(b"config"), 64), created_at=NOW)
    ever = {held for image in registry.images() for held in image.blobs}
    for row in data.draw(st.permutations([row for row in artifact_store.artifacts(registry) if row.image])):
        deletion = ArtifactDeletion(artifact_store, row.id, with_history=False)
        if deletion.objection(switches) is None:  # it may have been deleted with another artifact
            deletion.carry_out(switches, NOW)
            assert artifact_store.get(row.id) is None
        left = {held for image in registry.images() for held in image.blobs}
        assert registry.bytes == sum(held.size for held in left)
        assert registry.lost_bytes == registry.lost_bytes_by_request == sum(held.size for held in ever - left)
    assert stays or not list(registry.images())


def test_the_operation_names_the_artifact(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.push("a", tags=["v1"])
    artifact = simulator.artifact("a", "v1")["id"]
    operation = cloud.deleted(artifact)
    assert operation["metadata"] == {
        "@type": "type.googleapis.com/yandex.cloud.cloudregistry.v1.DeleteArtifactMetadata",
        "artifactId": artifact,
    }
    assert operation["description"] == "Delete artifact"
    assert cloud.artifact(artifact).status_code == cloud.ask_to_delete(artifact).status_code == 404


def test_a_tag_pushed_again_is_another_artifact(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.push("a", tags=["v1"], content="same")
    first = simulator.artifact("a", "v1")["id"]
    cloud.deleted(first)
    simulator.push("a", tags=["v1"], content="same")
    assert simulator.artifact("a", "v1")["id"] != first
    assert cloud.artifact(first).status_code == 404


def test_ids_stay_while_other_tags_come_and_go(simulator: Simulator, cloud: CloudApi) -> None:
    image = simulator.push("a", tags=["v1"])
    first = simulator.artifact("a", "v1")
    simulator.tag("a", "v1", "v2")
    simulator.push("a", tags=["v2"])
    simulator.push_index("a", [image["digest"]], tags=["multi"])
    assert simulator.artifact("a", "v1") == first
    assert cloud.artifact(first["id"]).json()["content"]["docker"]["manifestDigest"] == image["digest"]


def test_the_docker_api_shows_the_same_images(simulator: Simulator, cloud: CloudApi) -> None:
    child = simulator.push("a/b", layers=["base:100"])
    index = simulator.push_index("a/b", [child["digest"]], tags=["multi", "v1"])
    simulator.switch(child_artifacts="not_listed")
    url = f"{simulator.url}/v2/{simulator.registry_id}/a/b"
    (listed,) = cloud.listed(nameFilter='name = "multi"')
    digests = [
        entry["manifestDescriptor"]["digest"] for entry in listed["content"]["docker"]["manifestList"]["manifests"]
    ]
    response = httpx.get(f"{url}/manifests/{digests[0]}", headers=docker_login(simulator))
    assert digest_of(response.content) == child["digest"]
    cloud.deleted(listed["id"])
    tags = httpx.get(f"{url}/tags/list", headers=docker_login(simulator)).json()["tags"]
    assert tags == ["v1"]
    assert httpx.get(f"{url}/manifests/{index['digest']}", headers=docker_login(simulator)).status_code == 200
    cloud.deleted(simulator.artifact("a/b", "v1")["id"])
    assert httpx.get(f"{url}/manifests/{index['digest']}", headers=docker_login(simulator)).status_code == 404


def test_a_softly_deleted_image_cannot_be_pulled(simulator: Simulator) -> None:
    image = simulator.push("a", tags=["v1"])
    simulator.push("a", tags=["v2"])
    simulator.soft_delete(image["id"])
    url = f"{simulator.url}/v2/{simulator.registry_id}/a"
    for reference in ("v1", image["digest"]):
        assert httpx.get(f"{url}/manifests/{reference}", headers=docker_login(simulator)).status_code == 404
    assert httpx.get(f"{url}/tags/list", headers=docker_login(simulator)).json()["tags"] == ["v2"]
    assert [image["softly_deleted"] for image in simulator.images()] == [True, False]


@pytest.mark.parametrize(
    ("switches", "deleted"),
    [
        pytest.param({"moved_tag": "same_artifact"}, "new", id="the artifact moves with its tag"),
        pytest.param({"moved_tag": "new_artifact"}, "old", id="it stays with its image"),
    ],
)
def test_a_tag_moves_just_before_its_deletion(
    simulator: Simulator, cloud: CloudApi, switches: dict[str, str], deleted: str
) -> None:
    """The risk of a client that deletes by an id of its listing."""
    simulator.switch(**switches)
    ids = {"old": simulator.push("a", tags=["main"])["id"]}
    artifact = simulator.artifact("a", "main")["id"]
    ids["new"] = simulator.push("a", tags=["v2"], layers=[77])["id"]
    simulator.untag("a", "v2")
    simulator.before("DELETE", artifact, "tag", image=ids["new"], tag="main")
    cloud.deleted(artifact)
    assert simulator.deleted_ids() == {ids[deleted]}


def test_pushes_and_moves_between_two_pages(simulator: Simulator, cloud: CloudApi) -> None:
    for place in range(4):
        simulator.push("a", tags=[f"v{place}"])
    simulator.after("GET", r"/artifacts\?", "push", repository="a", tags=["pushed"])
    simulator.after("GET", r"/artifacts\?", "tag", repository="a", reference="v0", tag="moved")
    first = cloud.page(pageSize=3)
    rest = cloud.page(pageSize=1_000, pageToken=first["nextPageToken"])
    names = [row["name"] for row in first["artifacts"] + rest["artifacts"]]
    assert len(names) == len(set(names))
    assert {"v0", "v1", "v2", "v3"} <= set(names)
    assert cloud.names() == ["moved", "pushed", "v0", "v1", "v2", "v3"]


def test_commands_know_the_artifact_and_its_image(simulator: Simulator, cloud: CloudApi) -> None:
    """A new index needs an image that is about to be deleted."""
    simulator.switch(deleted_child="refused")
    image = simulator.push("a", tags=["v1"])
    artifact = simulator.artifact("a", "v1")["id"]
    simulator.before("DELETE", f"^{ARTIFACTS}/", "adopt", image="{image}", tags=["multi"])
    assert cloud.ask_to_delete(artifact).json()["code"] == 9
    simulator.before("GET", artifact, "set_artifact", artifact="{artifact}", status="CREATING")
    assert cloud.artifact(artifact).json()["status"] == "CREATING"
    asked = simulator.requests(method="DELETE")
    assert [(request["image"], request["artifact"]) for request in asked] == [(image["id"], artifact)]


def test_the_second_deletion_of_an_artifact_fails(simulator: Simulator, cloud: CloudApi) -> None:
    """Both are accepted while the image exists; the operation of the slower deletion reports that it is gone."""
    simulator.switch(operation_seconds_from=60, operation_seconds_to=60)
    simulator.push("a", tags=["v1"])
    artifact, key = simulator.artifact("a", "v1")["id"], str(uuid.uuid4())
    first, same, second = (cloud.ask_to_delete(artifact, by).json()["id"] for by in (key, key, ""))
    assert first == same != second
    simulator.clock(forward=61)
    assert "response" in cloud.operation(first)
    assert cloud.operation(second)["error"]["code"] == 5


def test_a_deleted_artifact_is_shown_beside_the_living(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.switch(after_deletion="status")
    simulator.push("a", tags=["v1", "v2"])
    cloud.deleted(simulator.artifact("a", "v1")["id"])
    assert sorted((row["name"], row["status"]) for row in cloud.listed()) == [("v1", "DELETED"), ("v2", "ACTIVE")]
    assert cloud.by_path("/a/v1").json()["status"] == "DELETED"
    simulator.push("a", tags=["v1"])
    assert cloud.by_path("/a/v1").json()["status"] == "ACTIVE"
    assert cloud.names() == ["v1", "v1", "v2"]


def test_a_deletion_that_failed_leaves_the_artifact_as_it_was(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.switch(
        after_deletion="status", deleted_child="refused", operation_seconds_from=60, operation_seconds_to=60
    )
    image = simulator.push("a", tags=["v1"])
    artifact = simulator.artifact("a", "v1")["id"]
    accepted = cloud.ask_to_delete(artifact).json()
    assert cloud.artifact(artifact).json()["status"] == "DELETING"
    simulator.push_index("a", [image["id"]], tags=["multi"])
    simulator.clock(forward=61)
    assert cloud.operation(accepted["id"])["error"]["code"] == 9
    assert cloud.artifact(artifact).json()["status"] == "ACTIVE"


def test_a_deletion_by_another_client_is_not_recorded_as_ours(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.switch(after_deletion="status")
    image = simulator.push("a", tags=["v1", "v2"])
    simulator.untag("a", "v1")
    simulator.remove(image["id"])
    assert {(row["name"], row["status"]) for row in cloud.listed()} == {("v1", "DELETED"), ("v2", "DELETED")}
    assert simulator.deleted_ids() == set()


@pytest.mark.parametrize(
    ("what", "registry"),
    [
        pytest.param("readme", {}, id="no Docker artifact"),
        pytest.param("a", {}, id="a folder"),
        pytest.param("v1", {"type": "REMOTE"}, id="in a cache"),
        pytest.param("v1", {"type": "VIRTUAL"}, id="in a view of others"),
        pytest.param("v1", {"kind": "MAVEN"}, id="in a registry of another kind"),
        pytest.param("soft", {}, id="deleted softly"),
    ],
)
def test_refuses_to_delete_what_is_no_docker_image(
    simulator: Simulator, cloud: CloudApi, what: str, registry: dict[str, str]
) -> None:
    simulator.push("a", tags=["v1"])
    simulator.soft_delete(simulator.push("a", tags=["soft"])["id"])
    simulator.push_other("a/readme", age=timedelta(days=400))
    simulator.set_registry(**registry)
    rows = {row["name"]: row["id"] for row in cloud.listed(kind=[])}
    assert cloud.ask_to_delete(rows[what]).status_code == 400
    assert len(simulator.images()) == 2
    assert len(refusals(simulator)) == 1


def test_a_transitional_registry_can_be_deleted_from(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.set_registry(type="TRANSITIONAL")
    simulator.push("a", tags=["v1"])
    cloud.deleted(simulator.artifact("a", "v1")["id"])
    assert cloud.get(f"{REGISTRIES}/{simulator.registry_id}").json()["type"] == "TRANSITIONAL"


def test_a_filled_registry_is_the_same_by_both_services(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.fill("300")
    images = simulator.images()
    digests = {row["content"]["docker"]["manifestDigest"] for row in cloud.listed()}
    assert digests == {image["digest"] for image in images}
    assert len(cloud.listed()) == sum(len(image["tags"]) or 1 for image in images)
