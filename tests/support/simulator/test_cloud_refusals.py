"""Requests of Cloud Registry that no client should send are refused and recorded."""

from typing import Any

import pytest

from tests.support.simulator.caller import ARTIFACTS, REGISTRIES, CloudApi, refusals, refuses
from tests.support.simulator.client import Simulator
from tests.support.simulator.registry import DEFAULT_FOLDER, DEFAULT_REGISTRY

LIST = f"{ARTIFACTS}?registryId={DEFAULT_REGISTRY}"
LEVEL = f"{REGISTRIES}/{DEFAULT_REGISTRY}:listArtifacts"


@pytest.mark.parametrize(
    ("method", "path", "options", "why"),
    [
        pytest.param("GET", f"{LIST}&filter=x", {}, "no parameter 'filter'", id="parameter"),
        pytest.param("GET", f"{LIST}&registryId=b", {}, "twice", id="parameter twice"),
        pytest.param("GET", f"{LIST}&pageSize=1001", {}, "pageSize", id="page size"),
        pytest.param("GET", f"{LIST}&pageToken=x", {}, "pageToken", id="token"),
        pytest.param("GET", f"{LIST}&kind=artifact", {}, "none of FOLDER", id="kind in small letters"),
        pytest.param("GET", f"{LIST}&kind=ARTIFACT,FOLDER", {}, "none of FOLDER", id="kinds with a comma"),
        pytest.param("GET", f"{LIST}&status=STATUS_UNSPECIFIED", {}, "none of CREATING", id="status"),
        pytest.param("GET", f"{LIST}&registryType=MIRROR", {}, "none of LOCAL", id="registry's type"),
        pytest.param("GET", f"{LIST}&registryKind=HELM", {}, "none of MAVEN", id="registry's kind"),
        pytest.param("GET", f"{LIST}&createdAfter=2026-11-24", {}, "no moment", id="a date"),
        pytest.param("GET", f"{LIST}&createdBefore=2026-02-31T00:00:00Z", {}, "no moment", id="no such day"),
        pytest.param("GET", f"{LIST}&createdAfter=2026-11-24T03:00:00", {}, "no moment", id="no zone"),
        pytest.param(
            "GET",
            f"{LIST}&createdAfter=2026-11-24T03:00:01Z&createdBefore=2026-11-24T03:00:00Z",
            {},
            "later than",
            id="window the wrong way round",
        ),
        pytest.param("GET", f"{LIST}&pathFilter=shop", {}, "not path = or !=", id="a bare path"),
        pytest.param("GET", f'{LIST}&pathFilter=name="x"', {}, "not path = or !=", id="another field"),
        pytest.param("GET", f'{LIST}&nameFilter=name:"x"', {}, "not name = or !=", id="another sign"),
        pytest.param("GET", f"{LIST}&nameFilter={'n' * 1_001}", {}, "longer", id="a long filter"),
        pytest.param("GET", f"{LIST}&labels=team", {}, "not key=value", id="a label without a value"),
        pytest.param("GET", f"{LIST}&orderBy=id", {}, "orderBy", id="order"),
        pytest.param("GET", f"{LIST}&orderBy=name%20down", {}, "orderBy", id="direction"),
        pytest.param("GET", f"{LEVEL}?recursive=true", {}, "no parameter", id="a level's parameter"),
        pytest.param("GET", f"{REGISTRIES}/x/artifacts:getByPath", {}, "path is required", id="no path"),
        pytest.param("GET", REGISTRIES, {}, "folderId is required", id="registries of nothing"),
        pytest.param("GET", f"{REGISTRIES}?folderId={DEFAULT_FOLDER}&orderBy=name", {}, "no parameter", id="no order"),
        pytest.param("GET", f"{REGISTRIES}/x:listIpPermissions", {}, "not a call", id="another verb"),
        pytest.param("GET", f"{ARTIFACTS}/x?registryId=y", {}, "no parameter", id="GET with a parameter"),
        pytest.param("GET", f"{ARTIFACTS}/a/b", {}, "not a call", id="two ids"),
        pytest.param("GET", f"{ARTIFACTS}/{'x' * 51}", {}, "not a call", id="a long id"),
        pytest.param("GET", "/cloud-registry/v1/lifecyclePolicies", {}, "no such resource", id="policies"),
        pytest.param("DELETE", f"{ARTIFACTS}/x?withHistory=1", {}, "none of true, false", id="no boolean"),
        pytest.param("DELETE", f"{ARTIFACTS}/x?force=true", {}, "no parameter", id="DELETE with a parameter"),
        pytest.param("DELETE", f"{ARTIFACTS}/x", {"headers": {"Idempotency-Key": "7"}}, "no UUID", id="key"),
        pytest.param("DELETE", f"{REGISTRIES}/{DEFAULT_REGISTRY}", {}, "not a method", id="DELETE a registry"),
        pytest.param("POST", ARTIFACTS, {"json": {}}, "not a method", id="POST"),
    ],
)
def test_refuses_requests_that_the_service_does_not_know(
    simulator: Simulator, cloud: CloudApi, method: str, path: str, options: dict[str, Any], why: str
) -> None:
    refuses(simulator, cloud, method, path, options, why)


def test_a_page_token_is_valid_for_its_query_only(simulator: Simulator, cloud: CloudApi) -> None:
    for _ in range(3):
        simulator.push("a")
    token = cloud.page(pageSize=1)["nextPageToken"]
    assert cloud.get(f"{LIST}&kind=ARTIFACT&pageSize=2&pageToken={token}").status_code == 200  # but for the size
    for other in (f"{LIST}&pageToken={token}", f"{LIST}&kind=FOLDER&pageToken={token}", f"{LEVEL}?pageToken={token}"):
        assert cloud.get(other).status_code == 400
    assert refusals(simulator) == ["pageToken was not made for this query"] * 3


def test_a_page_token_is_valid_for_its_registry_only(simulator: Simulator, cloud: CloudApi) -> None:
    simulator.add_registry("crpsecond00000000000")
    for registry in (None, "crpsecond00000000000"):
        simulator.push("a", tags=["v1", "v2"], registry=registry)
    token = cloud.get(f"{LEVEL}?path=a&pageSize=1").json()["nextPageToken"]
    level = f"path=a&pageSize=1&pageToken={token}"
    assert cloud.get(f"{LEVEL}?{level}").status_code == 200
    assert cloud.get(f"{REGISTRIES}/crpsecond00000000000:listArtifacts?{level}").status_code == 400
    assert refusals(simulator) == ["pageToken was not made for this query"]


def test_refuses_a_call_without_a_valid_token(simulator: Simulator, cloud: CloudApi) -> None:
    answer = cloud.get(LIST, headers={"Authorization": "Bearer t1.nobody"})
    assert (answer.status_code, answer.json()["code"]) == (401, 16)


@pytest.mark.parametrize("command", ["push_other", "set_registry", "set_artifact"])
def test_the_control_plane_refuses_unknown_values(simulator: Simulator, command: str) -> None:
    wrong = {"push_other": {"path": "x", "kind": "FILE"}, "set_registry": {"type": "MIRROR"}}
    with pytest.raises(Exception, match=r"ControlError"):
        simulator.control(command, **wrong.get(command, {"artifact": "cn10", "status": "ACTIVE"}))
