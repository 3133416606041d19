"""The Docker Registry API: the token challenge, manifests and tags."""

import httpx
import pytest

from tests.support.simulator.caller import FOUR_TYPES, docker_login
from tests.support.simulator.client import Simulator
from tests.support.simulator.registry import digest_of


def test_challenges_for_a_token_of_the_repository(simulator: Simulator) -> None:
    image = simulator.push("shop/api", tags=["v1"])
    simulator.push("shop/web", tags=["v1"])
    url = f"{simulator.url}/v2/{simulator.registry_id}"
    answer = httpx.get(f"{url}/shop/api/manifests/v1")
    challenge = answer.headers["www-authenticate"]
    scope = f"repository:{simulator.registry_id}/shop/api:pull"
    host = simulator.url.removeprefix("http://")
    assert challenge == f'Bearer realm="{simulator.url}/v2/token/",service="{host}",scope="{scope}"'
    asked = httpx.get(
        f"{simulator.url}/v2/token/", params={"service": host, "scope": scope}, headers=docker_login(simulator)
    )
    headers = {"Authorization": f"Bearer {asked.json()['token']}", "Accept": FOUR_TYPES}
    response = httpx.get(f"{url}/shop/api/manifests/v1", headers=headers)
    assert digest_of(response.content) == response.headers["docker-content-digest"] == image["digest"]
    assert httpx.get(f"{url}/shop/web/manifests/v1", headers=headers).status_code == 401  # another scope
    assert httpx.get(f"{simulator.url}/v2/token/", params={"scope": scope}).status_code == 401  # no credentials


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_serves_manifests_of_all_types(simulator: Simulator, kind: str) -> None:
    child = simulator.push("a/b", layers=["base:100"], config=7, type=kind)
    index = simulator.push_index("a/b", [child["id"]], tags=["multi"], type=kind)
    url = f"{simulator.url}/v2/{simulator.registry_id}/a/b/manifests"
    response = httpx.get(f"{url}/multi", headers=docker_login(simulator))
    assert digest_of(response.content) == index["digest"]
    assert [entry["digest"] for entry in response.json()["manifests"]] == [child["digest"]]
    assert response.json()["mediaType"] == response.headers["content-type"]
    head = httpx.head(f"{url}/{child['digest']}", headers=docker_login(simulator))
    assert (head.content, head.headers["docker-content-digest"]) == (b"", child["digest"])
    manifest = httpx.get(f"{url}/{child['digest']}", headers=docker_login(simulator)).json()
    assert (manifest["config"]["size"], [layer["size"] for layer in manifest["layers"]]) == (7, [100])


def test_refuses_a_manifest_whose_type_is_not_accepted(simulator: Simulator) -> None:
    index = simulator.push_index("a/b", [simulator.push("a/b")["id"]])
    url = f"{simulator.url}/v2/{simulator.registry_id}/a/b/manifests"
    headers = docker_login(simulator) | {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = httpx.get(f"{url}/{index['digest']}", headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")


def test_lists_tags_and_refuses_unknown_names(simulator: Simulator) -> None:
    simulator.push("a", tags=["v1", "v2"])
    root = f"{simulator.url}/v2/{simulator.registry_id}"
    asked = [
        httpx.get(f"{root}/{path}", headers=docker_login(simulator))
        for path in ("a/tags/list", "a/manifests/x", "b/tags/list")
    ]
    assert asked[0].json()["tags"] == ["v1", "v2"]
    assert [answer.status_code for answer in asked[1:]] == [404, 404]
