"""The protocol of Cloud Registry: requests, rows, and pages that are refused."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.image import Blob
from worker.registries.errors import BadResponseError, RegistryError, UnsuitableError
from worker.registries.http.messages import Response
from worker.registries.yandex import cloud_protocol as protocol
from worker.registries.yandex.cloud_images import (
    Folder,
)
from worker.registries.yandex.cloud_protocol import Artifact

REGISTRY = "crpvab5oob146rh73ilt"
ROOT = "https://registry.api.cloud.yandex.net"
D1, D2, D3 = (f"sha256:{digit * 64}" for digit in "123")
C1, L1, L2 = (f"sha256:{digit * 64}" for digit in "abc")
T0 = datetime(2026, 3, 2, 9, 15, 44, 127_000, UTC)


def response(document: Any, status: int = 200) -> Response:
    return Response(status, {}, json.dumps(document).encode())


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
    (wire,) = protocol.page(response({"artifacts": [row(**changes)]}), REGISTRY).rows
    return protocol.to_artifact(wire)


def artifact(digest: str = D1, name: str = "v1", **more: Any) -> Artifact:
    more = {"id": f"id-{digest[7]}-{name[:7]}", "config": Blob(C1, 500), "created_at": T0, **more}
    return Artifact(path=f"/shop/api/{name}", name=name, digest=digest, **more)


# Rows


def test_reads_an_artifact_with_every_field() -> None:
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
def test_ignores_rows_that_are_not_images(changes: dict[str, Any]) -> None:
    assert read(**changes) is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": None}, id="the filter has said so"),
        pytest.param({"kind": None}, id="no kind"),
        pytest.param({"properties": {"softDeleted": "false"}}, id="not softly deleted"),
        pytest.param({"properties": {"deletionProtection": "true"}}, id="protected"),
    ],
)
def test_accepts_unusual_images(changes: dict[str, Any]) -> None:
    assert read(**changes) is not None


@pytest.mark.parametrize(
    ("content", "children", "reported"),
    [
        pytest.param(
            {"manifestList": {"manifests": [{"manifestDescriptor": {"digest": D2}}] * 2}}, (D2,), True, id="index"
        ),
        pytest.param({"manifestList": {}}, None, False, id="an empty manifest list"),
        pytest.param({"imageManifest": {}}, None, False, id="an empty image neither"),
        pytest.param({"imageManifest": {"layers": [{"digest": L1}]}}, None, False, id="layers without a config"),
        pytest.param({}, None, False, id="no arm"),
        pytest.param({"imageManifest": {"config": {"digest": C1}}}, None, True, id="an image"),
    ],
)
def test_reads_the_reported_manifest(content: dict[str, Any], children: tuple[str, ...] | None, reported: bool) -> None:
    parsed = read(content=docker(**content))
    assert parsed is not None
    assert (parsed.children, parsed.has_manifest) == (children, reported)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (docker(manifestDigest="sha256:12"), "with the digest 'sha256:12'"),
        (docker(manifestDigest=None), "with the digest None"),
        (docker(imageManifest={"config": {"digest": C1, "size": "-1"}}), "size is out of range"),
        (docker(manifestList={"manifests": [{}]}), "a blob with the digest None"),
    ],
)
def test_an_invalid_artifact_makes_its_folder_unreadable(content: dict[str, Any], words: str) -> None:
    parsed = read(content=content)
    assert parsed is not None
    assert words in parsed.broken
    with pytest.raises(BadResponseError, match=re.escape(words)):
        Folder("shop/api", [artifact(), parsed])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": None}, "an artifact with the id None"),
        ({"id": "../x"}, r"an artifact with the id '\.\./x'"),
        ({"registryId": "crpother"}, "of 'crpother'"),
    ],
)
def test_refuses_a_page_with_invalid_rows(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadResponseError, match=words):
        read(**changes)


@pytest.mark.parametrize(
    ("kind", "type_", "words"),
    [
        ("MAVEN", "LOCAL", "has the kind MAVEN: only registries of the kind DOCKER"),
        (None, "LOCAL", "has the kind no kind"),
        (
            "DOCKER",
            "REMOTE",
            "has the type REMOTE: its images are stored in another registry; configure the registry of the type LOCAL",
        ),
        ("DOCKER", "VIRTUAL", "has the type VIRTUAL"),
        ("DOCKER", None, "has the type no type"),
    ],
)
def test_refuses_registries_without_own_docker_images(kind: str | None, type_: str | None, words: str) -> None:
    with pytest.raises(UnsuitableError, match=words) as failure:
        protocol.registry(response({"id": REGISTRY, "kind": kind, "type": type_}), REGISTRY)
    assert failure.value.final
    assert failure.value.systemic


def test_refuses_another_registry() -> None:
    with pytest.raises(BadResponseError, match="got 'crpother'"):
        protocol.registry(response({"id": "crpother", "kind": "DOCKER", "type": "LOCAL"}), REGISTRY)


def test_requests_contain_the_parameters_of_the_api() -> None:
    assert dict(protocol.list_artifacts(ROOT, REGISTRY, token="next").query) == {
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
def test_any_response_is_a_page_or_a_registry_error(document: Any) -> None:
    try:
        rows = protocol.page(response(document), REGISTRY).rows
    except RegistryError:
        return
    assert all(isinstance(protocol.to_artifact(wire), Artifact | None) for wire in rows)


# Places


# Images


# After a deletion
