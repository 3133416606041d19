"""The services as a caller sees them, for the simulator's own tests."""

import base64
import ssl
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.support.simulator.client import Simulator
from tests.support.waiting import until

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
IMAGES, OPERATIONS = "/container-registry/v1/images", "/operations"
ARTIFACTS, REGISTRIES = "/cloud-registry/v1/artifacts", "/cloud-registry/v1/registries"
FOUR_TYPES = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)


NO_TLS = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # made once: loading certificates for each client takes longer than a test


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Api(httpx.Client):
    """The service as its caller sees it, signed in."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(base_url=simulator.url, headers=bearer(simulator.token), timeout=10, verify=NO_TLS)
        self.registry_id = simulator.registry_id

    def page(self, **query: Any) -> dict[str, Any]:
        answer = self.get(IMAGES, params={"registryId": self.registry_id, **query})
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        rows, page = [], self.page(**query)
        while True:
            rows += page.get("images", [])
            if not page.get("nextPageToken"):
                return rows
            page = self.page(pageToken=page["nextPageToken"], **query)

    def image(self, image_id: str) -> httpx.Response:
        return self.get(f"{IMAGES}/{image_id}")

    def ask_to_delete(self, image_id: str, key: str = "") -> httpx.Response:
        return self.delete(f"{IMAGES}/{image_id}", headers={"Idempotency-Key": key or str(uuid.uuid4())})

    def operation(self, operation_id: str) -> dict[str, Any]:
        document: dict[str, Any] = self.get(f"{OPERATIONS}/{operation_id}").json()
        return document

    def followed(self, answer: httpx.Response) -> dict[str, Any]:
        """The operation of an accepted deletion when it is done."""
        assert answer.status_code == 200, answer.text

        def finished() -> dict[str, Any]:
            document = self.operation(answer.json()["id"])
            return document if document.get("done") else {}

        return until(finished, what="the operation")


class CloudApi(Api):
    """The same images by Cloud Registry."""

    def page(self, **query: Any) -> dict[str, Any]:
        """A page of artifacts without folders; `query` can change every parameter."""
        answer = self.get(ARTIFACTS, params={"registryId": self.registry_id, "kind": "ARTIFACT", **query})
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        rows, page = [], self.page(**{"pageSize": 1_000, **query})
        while True:
            rows += page.get("artifacts", [])
            if not page.get("nextPageToken"):
                return rows
            page = self.page(**{"pageSize": 1_000, **query}, pageToken=page["nextPageToken"])

    def names(self, **query: Any) -> list[str]:
        return sorted(row["name"] for row in self.listed(**query))

    def level(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.get(f"{REGISTRIES}/{self.registry_id}:listArtifacts", params={"path": path, **query})
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json().get("artifacts", [])
        return rows

    def artifact(self, artifact_id: str) -> httpx.Response:
        return self.get(f"{ARTIFACTS}/{artifact_id}")

    def by_path(self, path: str) -> httpx.Response:
        return self.get(f"{REGISTRIES}/{self.registry_id}/artifacts:getByPath", params={"path": path})

    def ask_to_delete(self, image_id: str, key: str = "", **query: Any) -> httpx.Response:
        """Of an artifact's id."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.delete(f"{ARTIFACTS}/{image_id}", headers=headers, params=query)

    def deleted(self, artifact_id: str, **query: Any) -> dict[str, Any]:
        """The operation, which succeeded."""
        operation = self.followed(self.ask_to_delete(artifact_id, **query))
        assert "response" in operation, operation
        return operation


def docker_login(simulator: Simulator) -> dict[str, str]:
    encoded = base64.b64encode(f"iam:{simulator.token}".encode()).decode()
    return {"Authorization": f"Basic {encoded}", "Accept": FOUR_TYPES}


def refusals(simulator: Simulator) -> list[str]:
    """The refused requests so far; then all state is forgotten."""
    reasons = [entry["why"] for entry in simulator.state()["refused"]]
    simulator.reset()
    return reasons


def refuses(
    simulator: Simulator, client: httpx.Client, method: str, path: str, options: dict[str, Any], why: str
) -> None:
    """The request is answered as the client's mistake, and recorded once, with that reason."""
    assert client.request(method, path, **options).is_client_error
    (recorded,) = refusals(simulator)
    assert why in recorded
