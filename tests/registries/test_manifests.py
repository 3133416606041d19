"""Manifests through the Docker API: indexes and subjects, the token challenge, and answers that cannot be believed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.registries.tools import QUICK, Driver, settings_for
from tests.simulator.client import Simulator
from worker.config import Credentials, RegistrySettings, Secret
from worker.registries import docker, docker_tokens, open_registry
from worker.registries.interface import (
    BadAnswerError,
    Manifest,
    NotFoundError,
    PermissionDeniedError,
    RegistryError,
    SignInError,
    UnavailableError,
)
from worker.registries.messages import Answer, BrokenBodyError

MANIFESTS = "/v2/.*/manifests/"
TOKEN = "/v2/token"
OCI_INDEX, DOCKER_INDEX = docker.INDEX_TYPES
OCI_IMAGE, DOCKER_IMAGE = docker.IMAGE_TYPES
A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def one(answers: Mapping[str, Manifest | RegistryError]) -> Manifest | RegistryError:
    (answer,) = answers.values()
    return answer


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_index_and_its_children(simulator: Simulator, driver: Driver, kind: str) -> None:
    children = [simulator.push("shop/api", type=kind)["digest"] for _ in range(3)]
    index = simulator.push_index("shop/api", children, tags=["v1"], type=kind)["digest"]
    found = driver.manifests("shop/api", [index, *children, index])
    assert list(found) == [index, *children]
    read = found[index]
    assert isinstance(read, Manifest)
    assert read.children == tuple(children)
    assert read.media_type == (OCI_INDEX if kind == "oci" else DOCKER_INDEX)
    assert all(isinstance(found[child], Manifest) and found[child].children is None for child in children)  # type: ignore[union-attr]  # asserted just before


def test_a_subject(simulator: Simulator, driver: Driver) -> None:
    image = simulator.push("shop/api")["digest"]
    referrer = simulator.push("shop/api", subject=image)["digest"]
    found = one(driver.manifests("shop/api", [referrer]))
    assert isinstance(found, Manifest)
    assert (found.subject, found.children) == (image, None)


def test_nothing_is_asked_about_nothing(simulator: Simulator, driver: Driver) -> None:
    assert driver.manifests("shop/api", []) == {}
    assert simulator.requests() == []


def test_an_error_stands_alone(simulator: Simulator, driver: Driver) -> None:
    good, bad = (simulator.push("shop/api")["digest"] for _ in range(2))
    simulator.fault("status", path=f"{MANIFESTS}{bad}", status=503)
    found = driver.manifests("shop/api", [good, bad, A])
    assert isinstance(found[good], Manifest)
    assert isinstance(found[bad], UnavailableError)
    missing = found[A]
    assert isinstance(missing, NotFoundError)
    assert str(missing) == f"production: GET shop/api@{A[:19]}…: HTTP 404: MANIFEST_UNKNOWN: manifest unknown"


def test_a_token_serves_a_whole_repository(simulator: Simulator, driver: Driver) -> None:
    digests = [simulator.push("shop/api")["digest"] for _ in range(30)]
    assert all(isinstance(found, Manifest) for found in driver.manifests("shop/api", digests).values())
    asked = simulator.requests("GET", TOKEN)
    assert len(asked) == 1
    assert f"scope=repository:{simulator.registry_id}/shop/api:pull" in asked[0]["query"]
    other = simulator.push("web")["digest"]
    before = len(simulator.requests())
    assert isinstance(one(driver.manifests("web", [other])), Manifest)
    # The challenge is known by now: no 401 is needed to learn it again.
    assert [request["path"][:10] for request in simulator.requests(since=before)] == ["/v2/token/", "/v2/crpvab"]


def test_credentials_go_to_no_other_host(simulator: Simulator, driver: Driver) -> None:
    digest = simulator.push("shop/api")["digest"]
    simulator.switch(docker_realm="foreign_host")
    found = one(driver.manifests("shop/api", [digest]))
    assert isinstance(found, SignInError)
    assert "sends to http://registry.example.net for a token; credentials are given to 127.0.0.1" in str(found)
    assert simulator.requests("GET", TOKEN) == []


def test_an_iam_token_that_expired_meanwhile(simulator: Simulator, tmp_path: Path) -> None:
    digest = simulator.push("shop/api")["digest"]
    file = tmp_path / "key.json"
    file.write_text(json.dumps(simulator.service_account_key()))
    settings = settings_for(simulator, file, credentials=Credentials(service_account_key=Secret(file=file)))
    with open_registry(settings, patience=QUICK) as registry:
        list(registry.repositories())
        simulator.expire_tokens()
        assert isinstance(one(registry.manifests("shop/api", [digest])), Manifest)
    assert len(simulator.requests("POST", "/iam/v1/tokens")) == 2


def test_a_token_that_is_refused_is_final(simulator: Simulator, settings: RegistrySettings, tmp_path: Path) -> None:
    digest = simulator.push("shop/api")["digest"]
    (tmp_path / "token").write_text("t1.expired")
    with open_registry(settings, patience=QUICK) as registry:
        found = one(registry.manifests("shop/api", [digest]))
    assert isinstance(found, SignInError)
    assert len(simulator.requests("GET", TOKEN)) == 1


@pytest.mark.parametrize("switch", [{"may_pull": False}, {"ip_rules": "refuse"}], ids=str)
def test_without_the_right_to_pull(simulator: Simulator, driver: Driver, switch: dict[str, Any]) -> None:
    digest = simulator.push("shop/api")["digest"]
    simulator.switch(**switch)
    found = one(driver.manifests("shop/api", [digest]))
    assert isinstance(found, PermissionDeniedError)
    assert "DENIED: requested access to the resource is denied" in str(found)


@pytest.mark.parametrize("kind", ["html", "broken_utf8", "cut"])
def test_a_body_that_is_not_the_digests(simulator: Simulator, driver: Driver, kind: str) -> None:
    digest = simulator.push("shop/api")["digest"]
    simulator.fault(kind, path=MANIFESTS)
    assert isinstance(one(driver.manifests("shop/api", [digest])), BadAnswerError | UnavailableError)
    simulator.no_faults()
    simulator.fault(kind, path=MANIFESTS, times=2)
    assert isinstance(one(driver.manifests("shop/api", [digest])), Manifest)


def reading(document: Any, content_type: str = "") -> Manifest:
    """A document as its own digest's manifest."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = Answer(200, {"content-type": content_type}, body)
    return docker.manifest(answer, f"sha256:{hashlib.sha256(body).hexdigest()}")


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
def test_reading_a_manifest(
    document: Any, content_type: str, children: tuple[str, ...] | None, subject: str | None
) -> None:
    read = reading(document, content_type)
    assert (read.children, read.subject) == (children, subject)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "does not describe"),
        (b"\xff", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        ({"mediaType": 5}, "does not describe"),
        (
            {"mediaType": OCI_INDEX, "manifests": [{"digest": A}], "config": {"digest": B}},
            "an index and an image at once",
        ),
        ({"mediaType": OCI_INDEX, "layers": [{"digest": B}]}, "an index and an image at once"),
        ({"mediaType": OCI_IMAGE, "manifests": [{"digest": A}]}, "that lists manifests"),
        ({"mediaType": OCI_INDEX, "manifests": [{}]}, "names the digest 'None'"),
        ({"mediaType": OCI_INDEX, "manifests": [{"digest": "latest"}]}, "names the digest 'latest'"),
        ({"mediaType": OCI_INDEX, "manifests": {"digest": A}}, "does not describe"),
        ({"mediaType": OCI_IMAGE, "subject": {"digest": "sha256:../../x"}}, "names the digest"),
        ({"mediaType": OCI_IMAGE, "subject": A}, "does not describe"),
        ({"mediaType": OCI_IMAGE, "config": {"digest": A}}, "tells the size None"),
        ({"mediaType": OCI_IMAGE, "layers": [{"digest": A, "size": -1}]}, "tells the size -1"),
        ({"mediaType": OCI_IMAGE, "layers": [{"digest": A, "size": 2**63}]}, "tells the size 9223372036854775808"),
    ],
)
def test_a_manifest_that_cannot_be_believed(document: Any, words: str) -> None:
    with pytest.raises(BadAnswerError, match=words):
        reading(document)


def test_a_good_manifest_that_is_not_the_one_asked_for() -> None:
    """A registry, or what stands before it, may answer with one of the children, or with an older one."""
    body = json.dumps({"mediaType": OCI_INDEX, "manifests": []}).encode()
    with pytest.raises(BrokenBodyError, match=f"its digest is not {A}"):
        docker.manifest(Answer(200, {}, body), A)


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (
            'Bearer realm="https://cr.yandex/v2/token/",service="cr.yandex"',
            ("https://cr.yandex/v2/token/", "cr.yandex"),
        ),
        ('bearer realm="/v2/token"', ("https://cr.yandex/v2/token", "")),
        ('Bearer service="x",realm="https://cr.yandex/t?a=b#c",scope="y"', ("https://cr.yandex/t", "x")),
        ('Basic realm="https://cr.yandex/"', None),
        ("", None),
    ],
)
def test_reading_a_challenge(header: str, challenge: tuple[str, str] | None) -> None:
    found = docker_tokens.challenge_of(Answer(401, {"www-authenticate": header}, b""), "https://cr.yandex")
    assert (found and (found.realm, found.service)) == challenge


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example/v2/token",
        "http://cr.yandex/v2/token",
        "https://cr.yandex:8443/v2/token",
        "https://cr.yandex@evil.example/",
        "https://user@cr.yandex/v2/token",
        "//evil.example/v2/token",
        "https://cr.yandex.evil.example/",
        "file:///etc/passwd",
    ],
)
def test_a_challenge_to_elsewhere(realm: str) -> None:
    with pytest.raises(SignInError, match=r"credentials are given to cr\.yandex only"):
        docker_tokens.challenge_of(
            Answer(401, {"www-authenticate": f'Bearer realm="{realm}"'}, b""), "https://cr.yandex"
        )


HOSTS = ("auth.example.com", "127.0.0.1:5001", "auth.example.com:8443")


@pytest.mark.parametrize(
    ("header", "realm", "scopes"),
    [
        ('Bearer realm="https://auth.example.com/t"', "https://auth.example.com/t", ()),
        ('Bearer realm="https://AUTH.example.com:443/t"', "https://AUTH.example.com:443/t", ()),
        (
            'Bearer realm="https://auth.example.com:8443/t",scope="a:b:c d:e:f"',
            "https://auth.example.com:8443/t",
            ("a:b:c", "d:e:f"),
        ),
        ('Bearer realm="http://127.0.0.1:5001/t",scope=a:b:c', "http://127.0.0.1:5001/t", ("a:b:c",)),
        ('Basic realm="a", Bearer realm="/t",scope="a  b", Basic realm="b"', "https://cr.yandex/t", ()),
    ],
)  # fmt: skip
def test_a_challenge_to_a_host_that_is_allowed(header: str, realm: str, scopes: tuple[str, ...]) -> None:
    found = docker_tokens.challenge_of(Answer(401, {"www-authenticate": header}, b""), "https://cr.yandex", HOSTS)
    assert found is not None
    assert (found.realm, found.scopes) == (realm, scopes)


@pytest.mark.parametrize(
    ("realm", "remedy"),
    [
        ("http://auth.example.com:443/t", False),
        ("http://auth.example.com/t", False),
        ("https://user@auth.example.com/t", False),
        ("https://auth.example.com:444/t", True),
        ("https://127.0.0.1:5002/t", True),
        ("https://sub.auth.example.com/t", True),
    ],
)
def test_a_challenge_to_a_host_that_is_not(realm: str, remedy: bool) -> None:
    answer = Answer(401, {"www-authenticate": f'Bearer realm="{realm}"'}, b"")
    with pytest.raises(SignInError, match=r"given to cr\.yandex, auth\.example\.com, .* only") as failure:
        docker_tokens.challenge_of(answer, "https://cr.yandex", HOSTS)
    assert ("write token_hosts:" in str(failure.value)) is remedy


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({"token": "abc", "expires_in": 300}, ("Bearer abc", 300.0)),
        ({"access_token": "abc"}, ("Bearer abc", 60.0)),
        ({"token": "abc", "expires_in": -5}, ("Bearer abc", 1.0)),
        ({"token": "abc", "expires_in": 10**9}, ("Bearer abc", 43_200.0)),
    ],
)
def test_reading_a_token(document: Any, answer: tuple[str, float]) -> None:
    assert docker_tokens.docker_token(Answer(200, {}, json.dumps(document).encode())) == answer


@pytest.mark.parametrize("document", [{}, {"token": ""}, {"token": "a b"}, {"token": "a\r\nb"}, {"token": 5}, []])
def test_a_token_answer_that_is_none(document: Any) -> None:
    with pytest.raises(BadAnswerError):
        docker_tokens.docker_token(Answer(200, {}, json.dumps(document).encode()))
