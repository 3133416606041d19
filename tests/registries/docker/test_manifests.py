"""Manifests through the Docker API: indexes and subjects, the token challenge, and rejected responses."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from policies.image import Blob
from tests.support.drivers import Driver
from tests.support.simulator.client import Simulator
from worker.registries.docker import manifests
from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    RegistryError,
    UnavailableError,
)
from worker.registries.http.messages import BrokenBodyError, Response
from worker.registries.interface import Manifest

MANIFESTS = "/v2/.*/manifests/"
OCI_INDEX, DOCKER_INDEX = manifests.INDEX_TYPES
OCI_IMAGE, DOCKER_IMAGE = manifests.IMAGE_TYPES
A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def one(answers: Mapping[str, Manifest | RegistryError]) -> Manifest | RegistryError:
    (response,) = answers.values()
    return response


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_index_and_its_children(simulator: Simulator, driver: Driver, kind: str) -> None:
    children = [simulator.push("shop/api", type=kind)["digest"] for _ in range(3)]
    index = simulator.push_index("shop/api", children, tags=["v1"], type=kind)["digest"]
    manifests = driver.manifests("shop/api", [index, *children, index])
    assert list(manifests) == [index, *children]
    read = manifests[index]
    assert isinstance(read, Manifest)
    assert read.children == tuple(children)
    assert read.media_type == (OCI_INDEX if kind == "oci" else DOCKER_INDEX)
    assert all(isinstance(manifests[child], Manifest) and manifests[child].children is None for child in children)  # type: ignore[union-attr]  # asserted just before


def test_a_manifest_names_its_subject(simulator: Simulator, driver: Driver) -> None:
    image = simulator.push("shop/api")["digest"]
    referrer = simulator.push("shop/api", subject=image)["digest"]
    manifest = one(driver.manifests("shop/api", [referrer]))
    assert isinstance(manifest, Manifest)
    assert (manifest.subject, manifest.children) == (image, None)


def test_sends_no_request_without_keys(simulator: Simulator, driver: Driver) -> None:
    assert driver.manifests("shop/api", []) == {}
    assert simulator.requests() == []


def test_an_error_concerns_its_own_digest_only(simulator: Simulator, driver: Driver) -> None:
    good, bad = (simulator.push("shop/api")["digest"] for _ in range(2))
    simulator.fault("status", path=f"{MANIFESTS}{bad}", status=503)
    manifests = driver.manifests("shop/api", [good, bad, A])
    assert isinstance(manifests[good], Manifest)
    assert isinstance(manifests[bad], UnavailableError)
    missing = manifests[A]
    assert isinstance(missing, NotFoundError)
    assert str(missing) == f"production: GET shop/api@{A[:19]}…: HTTP 404: MANIFEST_UNKNOWN: manifest unknown"


@pytest.mark.parametrize("kind", ["html", "broken_utf8", "cut"])
def test_rejects_a_body_with_another_digest(simulator: Simulator, driver: Driver, kind: str) -> None:
    digest = simulator.push("shop/api")["digest"]
    simulator.fault(kind, path=MANIFESTS)
    assert isinstance(one(driver.manifests("shop/api", [digest])), BadResponseError | UnavailableError)
    simulator.no_faults()
    simulator.fault(kind, path=MANIFESTS, times=2)
    assert isinstance(one(driver.manifests("shop/api", [digest])), Manifest)


def reading(document: Any, content_type: str = "") -> Manifest:
    """A document as its own digest's manifest."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    response = Response(200, {"content-type": content_type}, body)
    return manifests.manifest(response, f"sha256:{hashlib.sha256(body).hexdigest()}")


@pytest.mark.parametrize(
    ("document", "content_type", "children", "subject"),
    [
        ({"mediaType": OCI_INDEX, "manifests": [{"digest": A}, {"digest": B}]}, "", (A, B), None),
        ({"mediaType": DOCKER_INDEX, "manifests": [{"digest": A}, {"digest": A}]}, "", (A,), None),
        ({"mediaType": OCI_INDEX, "manifests": []}, "", (), None),
        ({"mediaType": OCI_INDEX}, "", (), None),
        ({"mediaType": OCI_INDEX, "manifests": None, "subject": {"digest": A}}, "", (), A),
        ({"manifests": [{"digest": A}]}, "", (A,), None),
        ({"manifests": [{"digest": A}]}, OCI_IMAGE, (A,), None),
        ({}, f"{OCI_INDEX}; charset=utf-8", (), None),
        ({"mediaType": OCI_IMAGE, "config": {"digest": A, "size": 2}, "layers": []}, "", None, None),
        ({"mediaType": DOCKER_IMAGE, "config": {"digest": A, "size": 2}, "subject": {"digest": B}}, OCI_INDEX, None, B),
        ({"config": {"digest": A, "size": 0}, "layers": [{"digest": B, "size": 7}]}, "", None, None),
        ({"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}, "", None, None),
        ({"mediaType": OCI_IMAGE, "annotations": {"a": "b"}, "unknown": 7}, "", None, None),
    ],
)
def test_parses_a_manifest_by_its_type(
    document: Any, content_type: str, children: tuple[str, ...] | None, subject: str | None
) -> None:
    read = reading(document, content_type)
    assert (read.children, read.subject) == (children, subject)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "does not match the API"),
        (b"\xff", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        ({"mediaType": 5}, "does not match the API"),
        (
            {"mediaType": OCI_INDEX, "manifests": [{"digest": A}], "config": {"digest": B}},
            "is an index and has a config or layers",
        ),
        ({"mediaType": OCI_INDEX, "layers": [{"digest": B}]}, "is an index and has a config or layers"),
        ({"mediaType": OCI_IMAGE, "manifests": [{"digest": A}]}, "the manifest lists manifests, but its type is"),
        ({"mediaType": OCI_INDEX, "manifests": [{}]}, "names an invalid digest: 'None'"),
        ({"mediaType": OCI_INDEX, "manifests": [{"digest": "latest"}]}, "names an invalid digest: 'latest'"),
        ({"mediaType": OCI_INDEX, "manifests": {"digest": A}}, "does not match the API"),
        ({"mediaType": OCI_IMAGE, "subject": {"digest": "sha256:../../x"}}, "names an invalid digest"),
        ({"mediaType": OCI_IMAGE, "subject": A}, "does not match the API"),
    ],
)
def test_rejects_an_inconsistent_manifest(document: Any, words: str) -> None:
    with pytest.raises(BadResponseError, match=words):
        reading(document)


@pytest.mark.parametrize("size", [None, -1, 2**50 + 1, 2**63 - 1, 2**63, 10**30, "7", 7.0, True, [7]], ids=repr)
@pytest.mark.parametrize("part", ["config", "layers", "manifests"])
def test_an_impossible_size_is_unknown(size: Any, part: str) -> None:
    described = {"digest": A, "size": size, "mediaType": "application/vnd.oci.image.layer.v1.tar"}
    kind = OCI_INDEX if part == "manifests" else OCI_IMAGE
    read = reading({"mediaType": kind, part: described if part == "config" else [described]})
    assert read.unsized
    assert [blob.size for blob in (read.config, *read.layers) if blob is not None] == [0]


def test_possible_sizes_are_known() -> None:
    read = reading(
        {"mediaType": OCI_IMAGE, "config": {"digest": A, "size": 0}, "layers": [{"digest": B, "size": 2**50}]}
    )
    assert (read.unsized, read.layers) == (False, (Blob(digest=B, size=2**50),))


@pytest.mark.parametrize(
    ("document", "content_type", "media_type"),
    [
        ({"config": {"digest": A, "size": 1}, "layers": []}, "application/json", OCI_IMAGE),
        ({"config": {"digest": A, "size": 1}, "layers": []}, "", OCI_IMAGE),
        ({"config": {"digest": A, "size": 1}, "layers": []}, DOCKER_IMAGE, DOCKER_IMAGE),
        ({"config": {"digest": A, "size": 1}, "layers": []}, OCI_INDEX, OCI_IMAGE),
        ({"manifests": []}, "application/json", OCI_INDEX),
        ({"manifests": []}, DOCKER_INDEX, DOCKER_INDEX),
        ({"manifests": []}, OCI_IMAGE, OCI_INDEX),
        ({"schemaVersion": 2}, "application/json", "application/json"),
        ({"manifests": []}, "application/x-strange", "application/x-strange"),
        ({"config": {"digest": A, "size": 1}}, "application/x-strange", "application/x-strange"),
    ],
)
def test_the_content_says_what_a_manifest_without_a_media_type_is(
    document: Any, content_type: str, media_type: str
) -> None:
    assert reading(document, content_type).media_type == media_type


SCHEMA1 = {
    "schemaVersion": 1,
    "name": "shop/api",
    "tag": "legacy",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": A}, {"blobSum": B}, {"blobSum": A}],
    "history": [{"v1Compatibility": '{"signatures": 1}'}],
}


def signed(content: bytes, protected: dict[str, Any] | None) -> bytes:
    """As libtrust does it: the signatures stand before the end of the content. `protected` None: none can be read."""
    encoded = base64.urlsafe_b64encode(json.dumps(protected).encode()).decode().rstrip("=") if protected else "y"
    signatures = json.dumps([{"header": {"alg": "ES256"}, "signature": "x", "protected": encoded}])
    return content[:-2] + b',\n   "signatures": ' + signatures.encode() + b"\n}"


@pytest.mark.parametrize("protected", [True, False], ids=["protected header", "no readable header"])
def test_a_signed_schema_1_is_an_image_of_unknown_size(protected: bool) -> None:
    content = json.dumps(SCHEMA1, indent=3).encode()
    tail = {"formatLength": len(content) - 2, "formatTail": base64.urlsafe_b64encode(content[-2:]).decode().rstrip("=")}
    body = signed(content, tail if protected else None)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    response = Response(200, {"content-type": manifests.SCHEMA1_TYPES[1]}, body)
    read = manifests.manifest(response, digest)
    assert (read.children, read.subject, read.unsized) == (None, None, True)
    assert [layer.digest for layer in read.layers] == [A, B]
    assert not manifests.is_unknown_type(read.media_type)


def test_a_schema_1_without_signatures() -> None:
    read = reading(SCHEMA1)
    assert (read.children, read.unsized, read.media_type) == (None, True, manifests.SCHEMA1_TYPES[0])


def test_reads_only_the_signed_content() -> None:
    """An addition to a body that its digest does not cover does not change the manifest."""
    content = json.dumps({"mediaType": OCI_INDEX, "manifests": [{"digest": A}]}, indent=3).encode()
    body = content[:-2] + b',\n   "manifests": [],\n   "signatures": []\n}'
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with pytest.raises(BrokenBodyError, match="the response is another manifest"):
        manifests.parsed(body, OCI_INDEX, digest)
    assert manifests.parsed(
        content[:-2] + b',\n   "signatures": [], "manifests": []\n}', OCI_INDEX, digest
    ).children == (A,)


@pytest.mark.parametrize(
    ("entry", "children", "blobs", "strange"),
    [
        pytest.param(OCI_IMAGE, (A,), 0, (), id="an image"),
        pytest.param(None, (A,), 0, (), id="no type"),
        pytest.param(manifests.SCHEMA1_TYPES[1], (A,), 0, (), id="schema 1"),
        pytest.param("application/vnd.cncf.oras.artifact.manifest.v1+json", (A,), 0, (), id="an ORAS artifact"),
        pytest.param("application/vnd.oci.image.layer.v1.tar+zstd", (), 1, (), id="a layer"),
        pytest.param("application/vnd.docker.image.rootfs.diff.tar.gzip", (), 1, (), id="Docker's layer"),
        pytest.param("application/vnd.buildkit.cacheconfig.v0", (), 1, (), id="a build cache's config"),
        pytest.param("application/x-strange", (A,), 1, (A,), id="an unknown type"),
    ],
)
def test_reads_the_children_of_an_index(
    entry: str | None, children: tuple[str, ...], blobs: int, strange: tuple[str, ...]
) -> None:
    read = reading({"mediaType": OCI_INDEX, "manifests": [{"digest": A, "size": 7, "mediaType": entry}]})
    assert (read.children, read.unknown_types) == (children, strange)
    assert read.layers == (Blob(digest=A, size=7),) * blobs


def test_an_oras_artifact_is_a_referrer_with_blobs() -> None:
    kind = "application/vnd.cncf.oras.artifact.manifest.v1+json"
    document = {"mediaType": kind, "artifactType": "x/y", "blobs": [{"digest": A, "size": 7}], "subject": {"digest": B}}
    read = reading(document)
    assert (read.subject, read.children, read.layers) == (B, None, (Blob(digest=A, size=7),))
    assert not manifests.is_unknown_type(read.media_type)


def test_rejects_a_valid_manifest_with_another_digest() -> None:
    """A registry, or a proxy in front of it, may answer with a child, or with an older manifest."""
    body = json.dumps({"mediaType": OCI_INDEX, "manifests": []}).encode()
    with pytest.raises(BrokenBodyError, match=f"its digest is not {A}"):
        manifests.manifest(Response(200, {}, body), A)
