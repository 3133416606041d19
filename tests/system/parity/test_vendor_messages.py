"""The simulator's answers against the vendor's own messages: each parses into its protobuf and prints back equal."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from google.api import annotations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2  # noqa: F401 - registers RequestInfo, which errors carry as an Any
from google.rpc.status_pb2 import Status
from yandex.cloud.cloudregistry.v1 import artifact_pb2, artifact_service_pb2
from yandex.cloud.cloudregistry.v1 import registry_pb2 as cloud_registry_pb2
from yandex.cloud.cloudregistry.v1 import registry_service_pb2 as cloud_registry_service_pb2
from yandex.cloud.containerregistry.v1 import (
    image_pb2,
    image_service_pb2,
    registry_pb2,
    registry_service_pb2,
    repository_pb2,
    repository_service_pb2,
)
from yandex.cloud.iam.v1 import iam_token_service_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from tests.support.simulator.client import AUDIENCE, Simulator
from tests.support.waiting import until

DELETE_METADATA = image_service_pb2.DeleteImageMetadata
ARTIFACTS = "/cloud-registry/v1/artifacts"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        base = running.push("shop/api", tags=["v1", "latest"], layers=["base:29126000", 1_000], age=timedelta(days=30))
        running.push("shop/api", layers=["base:29126000"], age=timedelta(days=3))
        running.push_index("shop/api", [base["digest"]], tags=["multi"])
        running.push("shop/web", created_at=running.clock().replace(microsecond=0))  # a whole second has no fraction
        yield running


@pytest.fixture
def api(simulator: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulator.url, headers={"Authorization": f"Bearer {simulator.token}"}) as client:
        yield client


def prints_back(answer: httpx.Response, message: Any) -> dict[str, Any]:
    """Parses with no unknown field let through, prints, compares; gives the answer back.

    An operation's `response` is held against its own type: the service prints Empty with a `value`, which this library
    does for types with a JSON form of their own only.
    """
    document: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/json"
    rest = {name: value for name, value in document.items() if name != "response"}
    ParseDict(rest, message, ignore_unknown_fields=False)
    assert MessageToDict(message) == rest
    if "response" in document:
        response = document["response"]
        assert response["@type"] == f"type.googleapis.com/{Empty.DESCRIPTOR.full_name}"
        assert MessageToDict(ParseDict(response["value"], Empty())) == response["value"]
    return document


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("images?registryId={id}", image_service_pb2.ListImagesResponse, id="images"),
        pytest.param("images?registryId={id}&pageSize=1", image_service_pb2.ListImagesResponse, id="a page of images"),
        pytest.param("images?repositoryName={id}/shop/api", image_service_pb2.ListImagesResponse, id="images of one"),
        pytest.param(
            "repositories?registryId={id}", repository_service_pb2.ListRepositoriesResponse, id="repositories"
        ),
        pytest.param("registries?folderId={folder}", registry_service_pb2.ListRegistriesResponse, id="registries"),
        pytest.param("registries/{id}", registry_pb2.Registry, id="a registry"),
    ],
)
def test_listings_parse_as_the_vendors_messages(
    simulator: Simulator, api: httpx.Client, path: str, message: Any
) -> None:
    where = path.format(id=simulator.registry_id, folder=simulator.folder_id)
    document = prints_back(api.get(f"/container-registry/v1/{where}"), message())
    assert document  # an empty answer would print back equal too


@pytest.mark.parametrize("place", range(4))
def test_an_image_parses_as_the_vendors_message(simulator: Simulator, api: httpx.Client, place: int) -> None:
    image = simulator.images()[place]
    document = prints_back(api.get(f"/container-registry/v1/images/{image['id']}"), image_pb2.Image())
    assert document["digest"] == image["digest"]


def test_a_repository_parses_as_the_vendors_message(api: httpx.Client, simulator: Simulator) -> None:
    rows = api.get("/container-registry/v1/repositories", params={"registryId": simulator.registry_id}).json()
    for row in rows["repositories"]:
        assert (
            prints_back(api.get(f"/container-registry/v1/repositories/{row['id']}"), repository_pb2.Repository()) == row
        )


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("images/crp00000000000000000", 5, id="no such image"),
        pytest.param("images?registryId=crpforeign0000000000", 7, id="a foreign registry"),
        pytest.param("images", 3, id="no scope"),
    ],
)
def test_errors_parse_as_google_rpc_status(api: httpx.Client, path: str, code: int) -> None:
    answer = api.get(f"/container-registry/v1/{path}")
    assert answer.is_client_error
    assert prints_back(answer, Status())["code"] == code


def test_an_unknown_token_is_answered_as_google_rpc_status(simulator: Simulator) -> None:
    answer = httpx.get(f"{simulator.url}/operations/crp0", headers={"Authorization": "Bearer t1.nobody"})
    assert (answer.status_code, prints_back(answer, Status())["code"]) == (401, 16)


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        pytest.param(None, "response", id="done"),
        pytest.param({"kind": "fail_operation", "code": 9, "message": "no"}, "error", id="failed"),
    ],
)
def test_an_operation_parses_as_the_vendors_message(
    simulator: Simulator, api: httpx.Client, fault: dict[str, Any] | None, ends: str
) -> None:
    image = simulator.push("shop/operations")
    simulator.switch(operation_seconds_from=0.2, operation_seconds_to=0.2)
    if fault:
        simulator.fault(method="DELETE", times=1, **fault)
    accepted = prints_back(api.delete(f"/container-registry/v1/images/{image['id']}"), Operation())
    assert "done" not in accepted

    def finished() -> dict[str, Any]:
        document = prints_back(api.get(f"/operations/{accepted['id']}"), Operation())
        return document if document.get("done") else {}

    document = until(finished, what="the operation")
    assert {"response", "error"} & document.keys() == {ends}
    assert document["metadata"] == MessageToDict(DELETE_METADATA(image_id=image["id"])) | {
        "@type": f"type.googleapis.com/{DELETE_METADATA.DESCRIPTOR.full_name}"
    }


def test_the_refusal_of_an_index_child_parses_as_google_rpc_status(simulator: Simulator, api: httpx.Client) -> None:
    child = next(image for image in simulator.images("shop/api") if "v1" in image["tags"])
    index = next(image for image in simulator.images("shop/api") if image["index"])
    answer = api.delete(f"/container-registry/v1/images/{child['id']}")
    status = prints_back(answer, Status())
    assert (answer.status_code, status["code"]) == (400, 9)
    assert status["message"] == f"Images {child['id']} are used by image lists {index['id']}"


def test_the_token_for_a_signed_key_parses_as_the_vendors_message(simulator: Simulator) -> None:
    key = simulator.service_account_key()
    now = int(time.time())
    claims = {"iss": key["service_account_id"], "aud": AUDIENCE, "iat": now, "exp": now + 3_600}
    signed = jwt.encode(claims, key["private_key"], algorithm="PS256", headers={"kid": key["id"]})
    answer = httpx.post(f"{simulator.url}/iam/v1/tokens", json={"jwt": signed})
    ParseDict({"jwt": signed}, iam_token_service_pb2.CreateIamTokenRequest())
    document = prints_back(answer, iam_token_service_pb2.CreateIamTokenResponse())
    assert document["iamToken"].startswith("t1.")


def test_printed_empty_fields_parse(simulator: Simulator, api: httpx.Client) -> None:
    """The other style of empty fields: the printed values are exactly the defaults of the messages."""
    try:
        simulator.switch(empty_fields="printed")
        answer = api.get("/container-registry/v1/images", params={"registryId": simulator.registry_id})
    finally:
        simulator.switch(empty_fields="omitted")
    message = ParseDict(answer.json(), image_service_pb2.ListImagesResponse())
    assert MessageToDict(message, always_print_fields_with_no_presence=True) == answer.json()
    assert "0" in {image["compressedSize"] for image in answer.json()["images"]}  # an index


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("artifacts?registryId={id}", artifact_service_pb2.ListArtifactsWithFiltersResponse, id="all"),
        pytest.param(
            "artifacts?registryId={id}&pageSize=1", artifact_service_pb2.ListArtifactsWithFiltersResponse, id="a page"
        ),
        pytest.param(
            "registries/{id}:listArtifacts?path=shop",
            cloud_registry_service_pb2.ListArtifactsResponse,
            id="a level of folders",
        ),
        pytest.param(
            "registries/{id}:listArtifacts?path=shop/api",
            cloud_registry_service_pb2.ListArtifactsResponse,
            id="a level of artifacts",
        ),
        pytest.param("registries/{id}/artifacts:getByPath?path=shop/api/v1", artifact_pb2.Artifact, id="by path"),
        pytest.param("registries/{id}", cloud_registry_pb2.Registry, id="a registry"),
        pytest.param(
            "registries?folderId={folder}", cloud_registry_service_pb2.ListRegistriesResponse, id="registries"
        ),
    ],
)
def test_responses_of_cloud_registry_parse_as_the_vendors_messages(
    simulator: Simulator, api: httpx.Client, path: str, message: Any
) -> None:
    where = path.format(id=simulator.registry_id, folder=simulator.folder_id)
    assert prints_back(api.get(f"/cloud-registry/v1/{where}"), message())


@pytest.mark.parametrize("switches", [{}, {"artifacts_of_image": "per_digest"}, {"artifact_path": "parent"}], ids=str)
def test_artifacts_of_every_kind_parse_as_the_vendors_message(
    simulator: Simulator, api: httpx.Client, switches: dict[str, str]
) -> None:
    """Of tags, digests and an index, and one that is no image."""
    simulator.push_other("docs/readme", properties={"made": "by hand"})
    usual = simulator.switch()
    try:
        simulator.switch(**switches)
        rows = simulator.artifacts()
        documents = [prints_back(api.get(f"{ARTIFACTS}/{row['id']}"), artifact_pb2.Artifact()) for row in rows]
    finally:
        simulator.switch(**{name: usual[name] for name in switches})
    assert [document.get("content", {}).get("docker", {}).get("manifestDigest", "") for document in documents] == [
        row["digest"] for row in rows
    ]
    arms = {arm for document in documents for arm in document.get("content", {}).get("docker", {})}
    assert arms == {"manifestDigest", "imageManifest", "manifestList"}


@pytest.mark.parametrize(
    ("message", "path", "parameters"),
    [
        (
            artifact_service_pb2.ListArtifactsWithFiltersRequest,
            ARTIFACTS,
            {
                "registryId": "{id}",
                "registryKind": ["DOCKER"],
                "registryType": ["LOCAL"],
                "pageSize": "7",
                "nameFilter": 'name = "v1"',
                "pathFilter": 'path = "/shop/api/v1"',
                "status": ["ACTIVE"],
                "kind": ["ARTIFACT"],
                "labels": ["team=shop"],
                "createdAfter": "2026-01-01T00:00:00Z",
                "createdBefore": "2027-01-01T00:00:00Z",
                "orderBy": "name",
            },
        ),
        (
            cloud_registry_service_pb2.ListRegistriesRequest,
            "/cloud-registry/v1/registries",
            {
                "folderId": "{folder}",
                "pageSize": "7",
                "nameFilter": 'name = "x"',
                "kind": ["DOCKER"],
                "type": ["LOCAL"],
                "status": ["ACTIVE"],
            },
        ),
    ],
)
def test_query_parameters_are_fields_of_the_vendors_request(
    simulator: Simulator, api: httpx.Client, message: Any, path: str, parameters: dict[str, Any]
) -> None:
    """All parameters; the remaining ones are the page token and the other scope."""
    here = {"{id}": simulator.registry_id, "{folder}": simulator.folder_id}
    sent = {name: here.get(value, value) if isinstance(value, str) else value for name, value in parameters.items()}
    assert MessageToDict(ParseDict(sent, message())) == sent
    assert api.get(path, params=sent).status_code == 200
    fields = {field.json_name for field in message.DESCRIPTOR.fields}
    assert fields - sent.keys() <= {"pageToken", "folderId"}


def test_the_deletion_of_an_artifact_parses_as_the_vendors_message(simulator: Simulator, api: httpx.Client) -> None:
    simulator.push("shop/operations", tags=["gone"])
    artifact = simulator.artifact("shop/operations", "gone")["id"]
    accepted = prints_back(api.delete(f"{ARTIFACTS}/{artifact}"), Operation())
    metadata = artifact_service_pb2.DeleteArtifactMetadata(artifact_id=artifact)
    assert accepted["metadata"] == MessageToDict(metadata) | {
        "@type": f"type.googleapis.com/{metadata.DESCRIPTOR.full_name}"
    }

    def finished() -> dict[str, Any]:
        document = prints_back(api.get(f"/operations/{accepted['id']}"), Operation())
        return document if document.get("done") else {}

    assert "response" in until(finished, what="the operation")
    assert prints_back(api.get(f"{ARTIFACTS}/{artifact}"), Status())["code"] == 5


def test_the_paths_of_cloud_registry_are_the_vendors() -> None:
    """As the vendor's services name them."""
    services = [
        artifact_service_pb2.DESCRIPTOR.services_by_name["ArtifactService"],
        cloud_registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
    ]
    paths = {
        f"{service.name}.{method.name}": http.get or http.delete
        for service in services
        for method in service.methods
        if (http := method.GetOptions().Extensions[annotations_pb2.http])
    }
    root = "/cloud-registry/v1"
    assert {
        "ArtifactService.List": f"{root}/artifacts",
        "ArtifactService.Get": f"{root}/artifacts/{{artifact_id}}",
        "ArtifactService.Delete": f"{root}/artifacts/{{artifact_id}}",
        "ArtifactService.GetByPath": f"{root}/registries/{{registry_id}}/artifacts:getByPath",
        "RegistryService.Get": f"{root}/registries/{{registry_id}}",
        "RegistryService.List": f"{root}/registries",
        "RegistryService.ListArtifacts": f"{root}/registries/{{registry_id}}:listArtifacts",
    }.items() <= paths.items()


def test_printed_empty_fields_of_artifacts_parse(simulator: Simulator, api: httpx.Client) -> None:
    simulator.push_index("shop/empty", [], tags=["none"])
    try:
        simulator.switch(empty_fields="printed")
        answer = api.get(ARTIFACTS, params={"registryId": simulator.registry_id, "pageSize": 1_000}).json()
    finally:
        simulator.switch(empty_fields="omitted")
    message = ParseDict(answer, artifact_service_pb2.ListArtifactsWithFiltersResponse())
    assert MessageToDict(message, always_print_fields_with_no_presence=True) == answer
    assert {"manifests": []} in [
        row["content"]["docker"].get("manifestList") for row in answer["artifacts"] if "content" in row
    ]


def test_page_tokens_have_the_allowed_length(simulator: Simulator, api: httpx.Client) -> None:
    token = api.get(
        "/container-registry/v1/images", params={"registryId": simulator.registry_id, "pageSize": 1}
    ).json()["nextPageToken"]
    assert 0 < len(token) <= 100


def test_the_simulator_refused_no_request(simulator: Simulator) -> None:
    """Last: all these calls were calls of the service."""
    assert simulator.state()["refused"] == []


def test_manifests_are_json_and_match_their_digest(simulator: Simulator) -> None:
    login = base64.b64encode(f"iam:{simulator.token}".encode()).decode()
    image = simulator.images("shop/api")[0]
    answer = httpx.get(
        f"{simulator.url}/v2/{simulator.registry_id}/shop/api/manifests/{image['digest']}",
        headers={"Authorization": f"Basic {login}", "Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    assert json.loads(answer.content)["mediaType"] == answer.headers["content-type"]
