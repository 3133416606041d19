"""Tokens of the Docker API: challenges, the hosts that may receive credentials, and token responses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers import QUICK, Driver, settings_for
from tests.support.simulator.client import Simulator
from worker.config.settings import Credentials, RegistrySettings, Secret
from worker.registries import open_registry
from worker.registries.docker import tokens
from worker.registries.errors import (
    BadResponseError,
    PermissionDeniedError,
    RegistryError,
    SignInError,
)
from worker.registries.http.messages import Response
from worker.registries.interface import Manifest

TOKEN = "/v2/token"


def one(answers: Mapping[str, Manifest | RegistryError]) -> Manifest | RegistryError:
    (response,) = answers.values()
    return response


def test_a_token_serves_a_whole_repository(simulator: Simulator, driver: Driver) -> None:
    digests = [simulator.push("shop/api")["digest"] for _ in range(30)]
    assert all(isinstance(manifest, Manifest) for manifest in driver.manifests("shop/api", digests).values())
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
    manifest = one(driver.manifests("shop/api", [digest]))
    assert isinstance(manifest, SignInError)
    assert "token server is http://registry.example.net, but credentials are sent to 127.0.0.1" in str(manifest)
    assert simulator.requests("GET", TOKEN) == []


def test_an_iam_token_that_expired_meanwhile(simulator: Simulator, tmp_path: Path) -> None:
    digest = simulator.push("shop/api")["digest"]
    file = tmp_path / "key.json"
    file.write_text(json.dumps(simulator.service_account_key()))
    settings = settings_for(simulator, file, credentials=Credentials(service_account_key=Secret(file=file)))
    with open_registry(settings, retries=QUICK) as registry:
        list(registry.repositories())
        simulator.expire_tokens()
        assert isinstance(one(registry.manifests("shop/api", [digest])), Manifest)
    assert len(simulator.requests("POST", "/iam/v1/tokens")) == 2


def test_a_token_that_is_refused_is_final(simulator: Simulator, settings: RegistrySettings, tmp_path: Path) -> None:
    digest = simulator.push("shop/api")["digest"]
    (tmp_path / "token").write_text("t1.expired")
    with open_registry(settings, retries=QUICK) as registry:
        manifest = one(registry.manifests("shop/api", [digest]))
    assert isinstance(manifest, SignInError)
    assert len(simulator.requests("GET", TOKEN)) == 1


@pytest.mark.parametrize("switch", [{"may_pull": False}, {"ip_rules": "refuse"}], ids=str)
def test_reports_a_missing_permission_to_pull(simulator: Simulator, driver: Driver, switch: dict[str, Any]) -> None:
    digest = simulator.push("shop/api")["digest"]
    simulator.switch(**switch)
    manifest = one(driver.manifests("shop/api", [digest]))
    assert isinstance(manifest, PermissionDeniedError)
    assert "DENIED: requested access to the resource is denied" in str(manifest)


@pytest.mark.parametrize(
    ("header", "realm_and_service"),
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
def test_a_challenge_names_its_realm_and_service(header: str, realm_and_service: tuple[str, str] | None) -> None:
    challenge = tokens.challenge_of(Response(401, {"www-authenticate": header}, b""), "https://cr.yandex")
    assert (challenge and (challenge.realm, challenge.service)) == realm_and_service


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
def test_rejects_a_realm_on_another_host(realm: str) -> None:
    with pytest.raises(SignInError, match=r"credentials are sent to cr\.yandex only"):
        tokens.challenge_of(Response(401, {"www-authenticate": f'Bearer realm="{realm}"'}, b""), "https://cr.yandex")


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
def test_accepts_a_realm_on_an_allowed_host(header: str, realm: str, scopes: tuple[str, ...]) -> None:
    challenge = tokens.challenge_of(Response(401, {"www-authenticate": header}, b""), "https://cr.yandex", HOSTS)
    assert challenge is not None
    assert (challenge.realm, challenge.scopes) == (realm, scopes)


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
def test_rejects_a_realm_on_a_host_that_is_not_allowed(realm: str, remedy: bool) -> None:
    response = Response(401, {"www-authenticate": f'Bearer realm="{realm}"'}, b"")
    with pytest.raises(SignInError, match=r"sent to cr\.yandex, auth\.example\.com, .* only") as failure:
        tokens.challenge_of(response, "https://cr.yandex", HOSTS)
    assert ("write token_hosts:" in str(failure.value)) is remedy


@pytest.mark.parametrize(
    ("document", "response"),
    [
        ({"token": "abc", "expires_in": 300}, ("Bearer abc", 300.0)),
        ({"access_token": "abc"}, ("Bearer abc", 60.0)),
        ({"token": "abc", "expires_in": -5}, ("Bearer abc", 1.0)),
        ({"token": "abc", "expires_in": 10**9}, ("Bearer abc", 43_200.0)),
    ],
)
def test_a_token_lasts_as_long_as_its_answer_says(document: Any, response: tuple[str, float]) -> None:
    assert tokens.docker_token(Response(200, {}, json.dumps(document).encode())) == response


@pytest.mark.parametrize("document", [{}, {"token": ""}, {"token": "a b"}, {"token": "a\r\nb"}, {"token": 5}, []])
def test_rejects_a_token_response_without_a_token(document: Any) -> None:
    with pytest.raises(BadResponseError):
        tokens.docker_token(Response(200, {}, json.dumps(document).encode()))
