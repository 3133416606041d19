"""A service account's key file and the JWT that it signs: no error shows a part of the key."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization as formats
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.secrecy import Go, shows_no_secret
from tests.support.simulator.client import Simulator
from worker.registries.errors import SignInError
from worker.registries.yandex.service_account_key import signed_jwt


@pytest.fixture
def key_file(simulator: Simulator, tmp_path: Path) -> Path:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(simulator.service_account_key()))
    return file


ELLIPTIC = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(formats.Encoding.PEM, formats.PrivateFormat.PKCS8, formats.NoEncryption())
    .decode()
)


def spoilt(change: Callable[[dict[str, str]], object]) -> Callable[[dict[str, str]], str]:
    return lambda key: json.dumps(change(key))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(lambda key: "not JSON", "not the JSON of a service account key", id="not JSON"),
        pytest.param(lambda key: "[" * 10_000, "not the JSON of a service account key", id="deep"),
        pytest.param(lambda key: key["private_key"], "not the JSON of a service account key", id="the bare key"),
        pytest.param(spoilt(lambda key: [key]), "not the JSON of a service account key", id="a list"),
        pytest.param(spoilt(lambda key: {}), "missing id, service_account_id, private_key", id="an empty object"),
        pytest.param(spoilt(lambda key: {**key, "id": 7}), "missing id", id="a number for the id"),
        pytest.param(spoilt(lambda key: {**key, "private_key": "x"}), "no line -----BEGIN", id="no key"),
        pytest.param(
            spoilt(lambda key: {**key, "private_key": key["private_key"][:400]}),
            "cannot be read as an RSA key",
            id="cut",
        ),
        pytest.param(
            spoilt(lambda key: {**key, "private_key": key["public_key"]}), "cannot be read as an RSA key", id="public"
        ),
        pytest.param(
            spoilt(lambda key: {**key, "private_key": ELLIPTIC}), "cannot be read as an RSA key", id="another algorithm"
        ),
    ],
)
def test_refuses_an_invalid_key_file(key_file: Path, text: Callable[[dict[str, str]], str], words: str) -> None:
    key = json.loads(key_file.read_text())
    with pytest.raises(SignInError, match=words) as failure:
        signed_jwt(text(key), "file key.json", "https://iam.api.cloud.yandex.net", time.time())
    assert failure.value.__cause__ is None
    assert key["private_key"][60:100] not in f"{failure.value!r}"


def test_a_key_signs_for_its_service_account_for_an_hour(key_file: Path) -> None:
    key = json.loads(key_file.read_text())
    for text in (key_file.read_text(), json.dumps({**key, "private_key": f"do not remove this\n{key['private_key']}"})):
        token = signed_jwt(text, "file key.json", "https://iam.example", now=1_000_000.5)
        assert jwt.get_unverified_header(token) == {"alg": "PS256", "kid": key["id"], "typ": "JWT"}
        options = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(
            token, key["public_key"], ["PS256"], audience="https://iam.example/iam/v1/tokens", options=options
        )
        assert (claims["iss"], claims["iat"], claims["exp"]) == (key["service_account_id"], 1_000_000, 1_003_600)


KEYS = [
    pytest.param(
        lambda folder, secret: signed_jwt(json.dumps({"id": "a", "private_key": secret}), "file f", "https://i", 0.0),
        "SignInError",
        id="no key",
    ),
    pytest.param(
        lambda folder, secret: signed_jwt(
            json.dumps({"id": "a", "service_account_id": "b", "private_key": f"-----BEGIN PRIVATE KEY-----{secret}"}),
            "file f",
            "https://i",
            0.0,
        ),
        "SignInError",
        id="a broken key",
    ),
]


@pytest.mark.parametrize(("go", "kind"), KEYS)
def test_never_shows_a_part_of_an_unusable_key(tmp_path: Path, go: Go, kind: str) -> None:
    shows_no_secret(tmp_path, go, kind)
