"""Requests that no client should send are refused and recorded; all others are logged."""

import uuid
from typing import Any

import pytest

from tests.support.simulator.caller import IMAGES, OPERATIONS, Api, refusals, refuses
from tests.support.simulator.client import Simulator
from tests.support.simulator.registry import DEFAULT_REGISTRY


@pytest.mark.parametrize(
    ("method", "path", "options", "why"),
    [
        pytest.param("GET", "/nosuch", {}, "no such path", id="path"),
        pytest.param("GET", f"{IMAGES}?nosuch=1", {}, "no parameter 'nosuch'", id="parameter"),
        pytest.param("GET", f"{IMAGES}?registryId=a&registryId=b", {}, "twice", id="parameter twice"),
        pytest.param("GET", f"{IMAGES}?registryId={DEFAULT_REGISTRY}&pageSize=1001", {}, "pageSize", id="page size"),
        pytest.param("GET", f"{IMAGES}?registryId={DEFAULT_REGISTRY}&pageSize=-1", {}, "pageSize", id="negative size"),
        pytest.param("GET", f"{IMAGES}?registryId={DEFAULT_REGISTRY}&pageToken=x", {}, "pageToken", id="token"),
        pytest.param("GET", f"{IMAGES}?repositoryName=A/b", {}, "outside the grammar", id="repository's name"),
        pytest.param("GET", f"{IMAGES}/a/b", {}, "not a call", id="two ids"),
        pytest.param("DELETE", f"{IMAGES}/x?force=1", {}, "no parameter", id="DELETE with a parameter"),
        pytest.param("DELETE", f"{IMAGES}/x", {"headers": {"Idempotency-Key": "7"}}, "no UUID", id="key"),
        pytest.param("DELETE", "/container-registry/v1/repositories/x", {}, "not a method", id="DELETE a repository"),
        pytest.param("POST", IMAGES, {"json": {}}, "not a method", id="POST"),
        pytest.param("GET", f"{OPERATIONS}/x:cancel", {}, "not a call", id="cancel"),
        pytest.param("DELETE", "/v2/a/b/manifests/latest", {}, "not a call", id="DELETE a manifest"),
        pytest.param("GET", "/v2/a/b/blobs/x", {}, "no such call", id="blob"),
        pytest.param("GET", "/v2/_catalog", {}, "no such call", id="catalog"),
        pytest.param("POST", "/iam/v1/tokens", {"json": {"yandexPassportOauthToken": "y0_"}}, "jwt", id="OAuth"),
        pytest.param("POST", "/iam/v1/tokens", {"content": b"jwt"}, "Content-Type", id="IAM without a type"),
        pytest.param("GET", "/computeMetadata/v1/instance/", {}, "not a call", id="metadata"),
    ],
)
def test_refuses_requests_that_the_service_does_not_know(
    simulator: Simulator, api: Api, method: str, path: str, options: dict[str, Any], why: str
) -> None:
    refuses(simulator, api, method, path, options, why)


def test_a_page_token_is_valid_for_its_query_only(simulator: Simulator, api: Api) -> None:
    for repository in ("a", "b", "a", "b"):
        simulator.push(repository)
    name = f"{simulator.registry_id}/a"
    token = api.page(pageSize=1)["nextPageToken"]
    answer = api.get(IMAGES, params={"repositoryName": name, "pageSize": 1, "pageToken": token})
    assert answer.status_code == 400
    assert refusals(simulator) == ["pageToken was not made for this query"]


def test_an_idempotency_key_is_valid_for_its_image_only(simulator: Simulator, api: Api) -> None:
    first, second, key = simulator.push("a")["id"], simulator.push("a")["id"], str(uuid.uuid4())
    api.ask_to_delete(first, key)
    assert api.ask_to_delete(second, key).json()["code"] == 3


def test_records_every_request(simulator: Simulator, api: Api) -> None:
    image, key = simulator.push("shop/api")["id"], str(uuid.uuid4())
    api.page(pageSize=7)
    api.ask_to_delete(image, key)
    listed, deleted = simulator.requests()
    assert (listed["method"], listed["path"], listed["status"]) == ("GET", IMAGES, 200)
    assert listed["query"] == f"registryId={simulator.registry_id}&pageSize=7"
    assert (deleted["image"], deleted["key"]) == (image, key)
    assert simulator.requests(method="DELETE", path=IMAGES) == simulator.requests(since=1) == [deleted]
