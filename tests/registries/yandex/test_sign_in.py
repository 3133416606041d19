"""Signing in over real HTTP: by tokens, keys, pods, metadata; early, once on 401, one at a time, in secret."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers import QUICK, Driver, settings_for
from tests.support.simulator.client import Simulator
from tests.support.waiting import until
from worker.config.settings import Credentials, RegistrySettings, Secret, WorkloadIdentity
from worker.registries import open_registry
from worker.registries.errors import BadResponseError, RateLimitedError, RegistryError, SignInError, UnavailableError

IAM = "/iam/v1/tokens"
METADATA = "/computeMetadata/"
IMAGES = "/container-registry/v1/images"


@pytest.fixture
def key_file(simulator: Simulator, tmp_path: Path) -> Path:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(simulator.service_account_key()))
    return file


def by_key(simulator: Simulator, file: Path) -> RegistrySettings:
    return settings_for(simulator, file, credentials=Credentials(service_account_key=Secret(file=file)))


def by_metadata(simulator: Simulator, tmp_path: Path) -> RegistrySettings:
    return settings_for(simulator, tmp_path, credentials=Credentials(metadata=True))


def test_exchanges_a_key_once_for_many_requests(simulator: Simulator, key_file: Path) -> None:
    simulator.push("shop/api")
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry, ThreadPoolExecutor(16) as pool:
        assert all(pool.map(registry.images, ["shop/api"] * 40))
    assert len(simulator.requests("POST", IAM)) == 1


def test_reads_a_key_after_a_warning_line(simulator: Simulator, key_file: Path) -> None:
    key = json.loads(key_file.read_text())
    warning = f"PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <{key['id']}>\n"
    key_file.write_text(json.dumps({**key, "private_key": warning + key["private_key"]}))
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry:
        assert registry.clock()


def test_rereads_a_rotated_key(simulator: Simulator, key_file: Path) -> None:
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry:
        registry.clock()
        key_file.write_text(json.dumps(simulator.service_account_key(key_id="ajenewkey00000000000")))
        simulator.forget_key()
        simulator.expire_tokens()
        registry.clock()
    assert len(simulator.requests("POST", IAM)) == 2


def test_reports_a_deleted_key(simulator: Simulator, key_file: Path) -> None:
    simulator.forget_key()
    refused = pytest.raises(SignInError, match=f"UNAUTHENTICATED: .*the key in file {key_file} was refused")
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry, refused as failure:
        registry.clock()
    assert (failure.value.systemic, failure.value.registry) == (True, "production")
    assert len(simulator.requests("POST", IAM)) == 1
    assert simulator.requests("GET", "/container-registry") == []


def test_retries_a_failing_iam(simulator: Simulator, key_file: Path) -> None:
    simulator.fault("status", path=IAM, times=2, status=503)
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry:
        registry.clock()
    assert len(simulator.requests("POST", IAM)) == 3


def test_does_not_try_an_unreachable_iam_for_every_attempt(simulator: Simulator, key_file: Path) -> None:
    simulator.fault("status", path=IAM, status=503)
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry, pytest.raises(UnavailableError):
        registry.clock()
    assert len(simulator.requests("POST", IAM)) == 5


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"kind": "html"}, BadResponseError),
        ({"kind": "missing_fields", "drop": ["iamToken"]}, SignInError),
        ({"kind": "missing_fields", "drop": ["expiresAt"]}, BadResponseError),
        ({"kind": "wrong_types", "set": {"iamToken": "two words"}}, SignInError),
        ({"kind": "wrong_types", "set": {"iamToken": "line\r\nX-Evil: 1"}}, SignInError),
        ({"kind": "wrong_types", "set": {"iamToken": 5}}, BadResponseError),
    ],
)
def test_refuses_an_invalid_response_of_iam(
    simulator: Simulator, key_file: Path, change: dict[str, Any], kind: type[RegistryError]
) -> None:
    simulator.fault(path=IAM, **change)
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry, pytest.raises(kind):
        registry.clock()


def test_replaces_a_token_that_expires_during_a_run_once(simulator: Simulator, key_file: Path) -> None:
    simulator.push("shop/api")
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry:
        registry.images("shop/api")
        simulator.expire_tokens()
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(registry.images, ["shop/api"] * 16))
    assert len(simulator.requests("POST", IAM)) == 2


def test_a_second_401_is_final(simulator: Simulator, key_file: Path) -> None:
    simulator.fault("unauthenticated", path=IMAGES)
    refused = pytest.raises(SignInError, match="UNAUTHENTICATED: The token has expired")
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry, refused:
        registry.images("shop/api")
    assert len(simulator.requests("GET", IMAGES)) == 2
    assert len(simulator.requests("POST", IAM)) == 2


def test_fetches_one_new_token_per_call(simulator: Simulator, key_file: Path) -> None:
    simulator.fault("unauthenticated", path=IMAGES, times=1)
    simulator.fault("status", path=IMAGES, status=503, times=1, after=1)
    simulator.fault("unauthenticated", path=IMAGES, times=1, after=2)
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry, pytest.raises(SignInError):
        registry.images("shop/api")
    assert [request["status"] for request in simulator.requests("GET", IMAGES)] == [401, 503, 401]
    assert len(simulator.requests("POST", IAM)) == 2


def test_replaces_a_short_lived_token_before_it_expires(simulator: Simulator, key_file: Path) -> None:
    simulator.switch(token_seconds=3)
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry:
        registry.clock()
        until(lambda: registry.clock() and len(simulator.requests("POST", IAM)) > 1, timeout=10, what="a fresh token")
        assert ("GET", "401") not in registry.usage().requests


def test_keeps_the_token_after_a_failed_early_renewal(simulator: Simulator, key_file: Path) -> None:
    simulator.switch(token_seconds=3)
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry:
        registry.clock()
        simulator.fault("status", path=IAM, status=403)
        until(lambda: registry.clock() and len(simulator.requests("POST", IAM)) > 1, timeout=10, what="a renewal")


def test_reads_tokens_of_the_metadata_service(simulator: Simulator, tmp_path: Path) -> None:
    with open_registry(by_metadata(simulator, tmp_path), retries=QUICK) as registry:
        registry.clock()
        registry.clock()
        assert len(simulator.requests("GET", METADATA)) == 1
        simulator.expire_tokens()
        registry.clock()
    assert len(simulator.requests("GET", METADATA)) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param({"kind": "status", "status": 404}, "has no token .HTTP 404.", id="no account"),
        pytest.param({"kind": "reset"}, "was cut off", id="reset"),
        pytest.param({"kind": "missing_fields", "drop": ["access_token"]}, "not a token", id="no token"),
    ],
)
def test_names_a_failing_metadata_service(
    simulator: Simulator, tmp_path: Path, fault: dict[str, Any], words: str
) -> None:
    simulator.fault(path=METADATA, **fault)
    settings = by_metadata(simulator, tmp_path)
    with open_registry(settings, retries=QUICK) as registry, pytest.raises(SignInError, match=words):
        registry.clock()


EXCHANGE = "/oauth/token"
POD = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6Z2MifQ.c2lnbmF0dXJlLW9mLWEtcG9k"


@pytest.fixture
def pod_file(simulator: Simulator, tmp_path: Path) -> Path:
    file = tmp_path / "pod-token"
    file.write_text(POD + "\n")
    simulator.link_subject(POD)
    return file


def by_pod(simulator: Simulator, file: Path) -> RegistrySettings:
    identity = WorkloadIdentity(service_account="aje334oo634h1rdhiiku", token=Secret(file=file))
    return settings_for(simulator, file, credentials=Credentials(workload_identity=identity))


def test_exchanges_the_token_of_a_pod_once_for_many_requests(simulator: Simulator, pod_file: Path) -> None:
    simulator.push("shop/api")
    with open_registry(by_pod(simulator, pod_file), retries=QUICK) as registry, ThreadPoolExecutor(16) as pool:
        assert all(pool.map(registry.images, ["shop/api"] * 40))
    assert len(simulator.requests("POST", EXCHANGE)) == 1


def test_rereads_a_renewed_token_of_a_pod(simulator: Simulator, pod_file: Path) -> None:
    with open_registry(by_pod(simulator, pod_file), retries=QUICK) as registry:
        registry.clock()
        simulator.control("subject", token=POD)
        pod_file.write_text(simulator.link_subject("renewed.pod.token") and "renewed.pod.token")
        simulator.expire_tokens()
        registry.clock()
    assert len(simulator.requests("POST", EXCHANGE)) == 2


def test_replaces_an_exchanged_token_before_it_expires(simulator: Simulator, pod_file: Path) -> None:
    simulator.switch(token_seconds=3)
    with open_registry(by_pod(simulator, pod_file), retries=QUICK) as registry:
        registry.clock()
        until(
            lambda: registry.clock() and len(simulator.requests("POST", EXCHANGE)) > 1, timeout=10, what="a fresh token"
        )
        assert ("GET", "401") not in registry.usage().requests


@pytest.mark.parametrize(
    ("form", "words"),
    [
        pytest.param("oauth", r"HTTP 400: invalid_grant: no credential links \*\*\* to", id="error, error_description"),
        pytest.param("status", r"UNAUTHENTICATED: no credential links \*\*\* to", id="code, message"),
    ],
)
def test_reports_a_pod_without_a_federated_credential(
    simulator: Simulator, pod_file: Path, form: str, words: str
) -> None:
    simulator.switch(exchange_errors=form)
    pod_file.write_text("a-token-of-another-form")
    refused = pytest.raises(SignInError, match=words + r".*; check that a federated credential links the subject of")
    with open_registry(by_pod(simulator, pod_file), retries=QUICK) as registry, refused as failure:
        registry.clock()
    assert "another-form" not in f"{failure.value} {failure.value!r}"
    assert str(pod_file) in str(failure.value)
    assert len(simulator.requests("POST", EXCHANGE)) == 1
    assert simulator.requests("GET", "/container-registry") == []


@pytest.mark.parametrize(
    ("change", "kind", "asked"),
    [
        pytest.param({"kind": "html"}, BadResponseError, 5, id="a page"),
        pytest.param({"kind": "missing_fields", "drop": ["access_token"]}, SignInError, 1, id="no token"),
        pytest.param({"kind": "missing_fields", "drop": ["expires_in"]}, BadResponseError, 1, id="no life"),
        pytest.param({"kind": "wrong_types", "set": {"expires_in": -1}}, BadResponseError, 1, id="a negative life"),
        pytest.param({"kind": "wrong_types", "set": {"expires_in": "x"}}, BadResponseError, 1, id="a life in words"),
        pytest.param({"kind": "wrong_types", "set": {"access_token": "a\r\nb"}}, SignInError, 1, id="two lines"),
        pytest.param({"kind": "wrong_types", "set": {"token_type": "mac"}}, BadResponseError, 1, id="another type"),
        pytest.param({"kind": "status", "status": 503}, UnavailableError, 5, id="away"),
        pytest.param({"kind": "status", "status": 307}, BadResponseError, 1, id="sends elsewhere"),
        pytest.param({"kind": "error", "code": 14, "message": "later"}, UnavailableError, 5, id="ill, by its code"),
        pytest.param({"kind": "error", "code": 8, "message": "slow"}, RateLimitedError, 5, id="throttled"),
        pytest.param(
            {"kind": "status", "status": 400, "body": '{"error": "server_error"}'},
            UnavailableError,
            5,
            id="ill, OAuth",
        ),
        pytest.param({"kind": "status", "status": 403, "body": "[[["}, SignInError, 1, id="no JSON"),
        pytest.param({"kind": "status", "status": 400, "body": '{"code": "a"}'}, SignInError, 1, id="a code in words"),
    ],
)
def test_refuses_an_invalid_response_of_the_exchange(
    simulator: Simulator, pod_file: Path, change: dict[str, Any], kind: type[RegistryError], asked: int
) -> None:
    simulator.fault(path=EXCHANGE, **change)
    with open_registry(by_pod(simulator, pod_file), retries=QUICK) as registry, pytest.raises(kind) as failure:
        registry.clock()
    assert type(failure.value) is kind or kind is BadResponseError  # a page is a broken body, which is a bad answer
    assert len(simulator.requests("POST", EXCHANGE)) == asked


@pytest.mark.parametrize("content", [None, "", "two words", "é"], ids=["missing", "empty", "words", "not ASCII"])
def test_refuses_an_invalid_token_file_of_a_pod(simulator: Simulator, pod_file: Path, content: str | None) -> None:
    pod_file.unlink()
    if content is not None:
        pod_file.write_text(content)
    refused = pytest.raises(SignInError, match=f"file {pod_file}")
    with open_registry(by_pod(simulator, pod_file), retries=QUICK) as registry, refused as failure:
        registry.clock()
    assert not content or content not in str(failure.value)
    assert simulator.requests() == []


def test_never_shows_a_part_of_an_exchange(
    simulator: Simulator, pod_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with open_registry(by_pod(simulator, pod_file), retries=QUICK) as registry:
        assert isinstance(registry, Driver)
        registry.clock()
        calls = registry
        logged = [vars(record) for record in caplog.records]
        output = f"{calls.tokens._token!r} {calls.bearer!r} {by_pod(simulator, pod_file)!r} {logged}"
        for secret in (POD, calls.tokens.current()):
            assert secret not in output


def test_rereads_a_configured_token_at_each_use(
    simulator: Simulator, settings: RegistrySettings, tmp_path: Path
) -> None:
    with open_registry(settings, retries=QUICK) as registry:
        registry.clock()
        simulator.expire_tokens()
        (tmp_path / "token").write_text(simulator.new_token())
        registry.clock()
        assert registry.usage().requests == {("GET", "200"): 2}


def test_reports_an_expired_configured_token(simulator: Simulator, settings: RegistrySettings, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t1.longexpired")
    with open_registry(settings, retries=QUICK) as registry:
        with pytest.raises(
            SignInError, match="the token was refused; IAM tokens are valid for at most 12 hours: write a new token"
        ):
            registry.clock()
        assert registry.usage().requests == {("GET", "401"): 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "file .* does not exist; the configuration names it", id="missing"),
        pytest.param("", "file .* is empty", id="empty"),
        pytest.param("two words", "file .*: not a token", id="words"),
        pytest.param("é", "file .*: not a token", id="not ASCII"),
    ],
)
def test_refuses_an_invalid_token_file(
    simulator: Simulator, settings: RegistrySettings, tmp_path: Path, content: str | None, words: str
) -> None:
    (tmp_path / "token").unlink()
    if content is not None:
        (tmp_path / "token").write_text(content)
    with open_registry(settings, retries=QUICK) as registry, pytest.raises(SignInError, match=words) as failure:
        registry.clock()
    assert not content or content not in str(failure.value)
    assert simulator.requests() == []


def test_never_shows_a_secret(simulator: Simulator, key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by an error, nor by a repr, nor by a log of any library, however talkative."""
    caplog.set_level(logging.DEBUG)
    key = json.loads(key_file.read_text())
    simulator.fault("error", path=IMAGES, code=7, message=f"Permission denied for {simulator.token} to look at this")
    texts: list[str] = []
    with open_registry(by_key(simulator, key_file), retries=QUICK) as registry:
        assert isinstance(registry, Driver)
        with pytest.raises(RegistryError, match=r"Permission denied for \*\*\* to look at this") as failure:
            registry.images("shop/api")
        issued = registry.tokens.current()
        texts += [
            str(failure.value),
            repr(failure.value),
            repr(registry.tokens._token),
            repr(registry.bearer),
        ]
    texts += [str([vars(record) for record in caplog.records]), repr(by_key(simulator, key_file))]
    assert len(issued) > 10
    for secret in (issued, simulator.token, key["private_key"][60:100]):
        assert all(secret not in text for text in texts)
