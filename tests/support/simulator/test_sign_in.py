"""Tokens from signed keys and from the metadata service, and the errors for other callers."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from tests.support.simulator.caller import IMAGES, OPERATIONS, Api, docker_login, refusals
from tests.support.simulator.client import AUDIENCE, Simulator
from tests.support.simulator.sign_in import EXCHANGE_FORM


def signed(key: dict[str, str], algorithm: str = "PS256", key_id: str | None = None, **claims: Any) -> str:
    now = int(time.time())
    facts = {"iss": key["service_account_id"], "aud": AUDIENCE, "iat": now, "exp": now + 3_600, **claims}
    return jwt.encode(facts, key["private_key"], algorithm=algorithm, headers={"kid": key_id or key["id"]})


def exchange(simulator: Simulator, text: str) -> httpx.Response:
    return httpx.post(f"{simulator.url}/iam/v1/tokens", json={"jwt": text})


@pytest.fixture(scope="module")
def key(running: Simulator) -> dict[str, str]:
    return running.service_account_key()


def test_exchanges_a_signed_key_for_a_token(simulator: Simulator, key: dict[str, str]) -> None:
    document = exchange(simulator, signed(key)).json()
    answer = httpx.get(f"{simulator.url}{IMAGES}/x", headers={"Authorization": f"Bearer {document['iamToken']}"})
    assert answer.json()["code"] == 5
    left = datetime.fromisoformat(document["expiresAt"]) - datetime.now(UTC)
    assert timedelta(hours=11.9) < left <= timedelta(hours=12)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"algorithm": "RS256"}, 16, id="another algorithm"),
        pytest.param({"key_id": "ajeunknown0000000000"}, 16, id="an unknown key"),
        pytest.param({"iss": "ajesomebodyelse00000"}, 16, id="another account"),
        pytest.param({"aud": "https://example.net/iam/v1/tokens"}, 16, id="another audience"),
        pytest.param({"exp": int(time.time()) - 10}, 16, id="expired"),
        pytest.param({"iat": int(time.time()) + 7_000, "exp": int(time.time()) + 8_000}, 16, id="of the future"),
        pytest.param({"exp": int(time.time()) + 9_000}, 3, id="too long"),
    ],
)
def test_refuses_a_wrongly_signed_key(
    simulator: Simulator, key: dict[str, str], changes: dict[str, Any], code: int
) -> None:
    answer = exchange(simulator, signed(key, **changes))
    assert (answer.is_client_error, answer.json()["code"]) == (True, code)


def test_refuses_a_key_with_a_foreign_signature(simulator: Simulator) -> None:
    forged = simulator.service_account_key("ajeforged00000000000")
    simulator.service_account_key("ajeforged00000000000")  # the service knows another key by that name now
    assert exchange(simulator, signed(forged)).status_code == 401
    simulator.forget_key("ajeforged00000000000")
    assert exchange(simulator, signed(forged)).json()["message"] == "Unknown key"


def test_the_metadata_service_issues_a_token(simulator: Simulator) -> None:
    path = f"{simulator.url}/computeMetadata/v1/instance/service-accounts/default/token"
    document = httpx.get(path, headers={"Metadata-Flavor": "Google"}).json()
    assert (document["token_type"], document["expires_in"] > 43_000) == ("Bearer", True)
    answer = httpx.get(f"{simulator.url}{IMAGES}/x", headers={"Authorization": f"Bearer {document['access_token']}"})
    assert answer.status_code == 404
    assert httpx.get(path).status_code == 403
    assert refusals(simulator) == ["Metadata-Flavor: Google is missing"]


FORM = {**EXCHANGE_FORM, "audience": "aje334oo634h1rdhiiku", "subject_token": "pod"}


def test_exchanges_a_pods_token_for_one_of_its_account(simulator: Simulator) -> None:
    simulator.link_subject("pod")
    document = httpx.post(f"{simulator.url}/oauth/token", data=FORM).json()
    assert (document["token_type"], document["expires_in"] > 43_000) == ("Bearer", True)
    answer = httpx.get(f"{simulator.url}{IMAGES}/x", headers={"Authorization": f"Bearer {document['access_token']}"})
    assert answer.status_code == 404
    simulator.control("subject", token="pod")
    assert httpx.post(f"{simulator.url}/oauth/token", data=FORM).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("send", "why"),
    [
        pytest.param({"json": FORM}, "Content-Type", id="JSON"),
        pytest.param({"data": FORM, "headers": {"Authorization": "Bearer x"}}, "without Authorization", id="signed"),
        pytest.param({"data": {**FORM, "scope": "all"}}, "not the fields", id="a field too many"),
        pytest.param({"data": {**FORM, "audience": ["a", "b"]}}, "not the fields", id="a field twice"),
        pytest.param({"data": EXCHANGE_FORM}, "not the fields", id="a field too few"),
        pytest.param({"data": {**FORM, "grant_type": "password"}}, "not an exchange", id="another grant"),
        pytest.param({"params": FORM, "data": FORM}, "not a call", id="in the address"),
    ],
)
def test_refuses_an_invalid_token_exchange(simulator: Simulator, send: dict[str, Any], why: str) -> None:
    simulator.link_subject("pod")
    assert httpx.post(f"{simulator.url}/oauth/token", **send).is_client_error
    (refusal,) = refusals(simulator)
    assert why in refusal


@pytest.mark.parametrize("header", ["", "Bearer t1.nobody", "Basic aWFtOng="])
def test_refuses_requests_without_credentials(simulator: Simulator, header: str) -> None:
    for path in (f"{IMAGES}/x", f"{OPERATIONS}/x"):
        answer = httpx.get(f"{simulator.url}{path}", headers={"Authorization": header} if header else {})
        assert (answer.status_code, answer.json()["code"]) == (401, 16)


def test_tokens_expire_in_mid_listing(simulator: Simulator, api: Api) -> None:
    assert api.image("x").status_code == 404
    simulator.expire_tokens()
    assert api.image("x").status_code == 401
    assert httpx.get(f"{simulator.url}/v2/", headers=docker_login(simulator)).status_code == 401
