"""The settings from the keys of the file: the identity of a registry, notifications, Redis."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from policies.mistakes import BadValueError
from tests.support.drivers import with_defaults
from worker.config.addresses import one_endpoint
from worker.config.document import (
    OUTCOMES,
    Notification,
    RegistrySettings,
    Retention,
    Settings,
    Timing,
    Web,
    key_of,
    kind_in,
    read_outcomes,
)
from worker.config.registry import Credentials, Endpoints
from worker.config.secret import Origin, Secret, SecretError

ANONYMOUS = Credentials(anonymous=True)


def oci(**keys: Any) -> RegistrySettings:
    return with_defaults(**({"kind": "oci", "credentials": ANONYMOUS, "url": "https://a.example"} | keys))


@pytest.mark.parametrize(
    ("kind", "url", "key"),
    [
        ("oci", "https://A.example:443/x/", "oci|https://a.example/x|crp1"),
        ("yandex-container-registry", "", "yandex-container-registry|https://container.example|crp1"),
        ("yandex-cloud-registry", "", "yandex-cloud-registry|https://cloud.example|crp1"),
    ],
)
def test_a_registry_is_its_kind_its_endpoint_and_its_id(kind: str, url: str, key: str) -> None:
    endpoints = Endpoints(container_registry="https://Container.example:443", cloud_registry="https://cloud.example./")
    assert key_of(kind, endpoints, "crp1", url) == key
    assert kind_in(key) == kind


def test_two_host_spellings_are_one_registry_and_two_paths_are_two() -> None:
    assert oci(name="one").key == oci(name="other", url="https://a.example").key
    assert oci(url="https://a.example/one").key != oci(url="https://a.example/two").key


def test_the_scan_history_stays_when_the_kind_changes() -> None:
    before = with_defaults(name="r", id="crp1", credentials=Credentials(metadata=True))
    after = before.model_copy(update={"kind": "yandex-cloud-registry"})
    assert before.history_key == after.history_key == "r|crp1"
    assert oci(name="r", url="https://A.example:443/x").history_key == "r|https://a.example/x"


@pytest.mark.parametrize(
    ("globs", "repository", "asked"),
    [
        ((), "shop/api", True),
        (("shop/*",), "shop/api", True),
        (("shop/*",), "shop/api/deep", False),
        (("ml/**", "shop/api"), "shop/api", True),
        (("shop",), "shop/api", False),
    ],
)
def test_repositories_select_by_globs_and_default_to_all(globs: tuple[str, ...], repository: str, asked: bool) -> None:
    assert oci(repositories=globs).asks_for(repository) is asked


@pytest.mark.parametrize(("push_time", "reported"), [("first_seen", False), ("image", True)])
def test_a_push_time_is_reported_by_the_kind_or_configured(push_time: str, reported: bool) -> None:
    assert oci(push_time=push_time).reports_push_time is reported
    assert with_defaults(id="crp1", credentials=ANONYMOUS).reports_push_time


def test_credentials_are_a_mapping_or_a_list() -> None:
    other = Credentials(username="u", password=Secret(env="P"), repositories=("shop/*",))
    assert oci().all_credentials == (ANONYMOUS,)
    assert oci(credentials=(other, ANONYMOUS)).all_credentials == (other, ANONYMOUS)


@pytest.mark.parametrize(
    ("written", "outcomes"),
    [("always", OUTCOMES), (["failed"], {"failed"}), (["blocked", "missed", "blocked"], {"blocked", "missed"})],
)
def test_reads_the_outcomes_of_a_notification(written: object, outcomes: set[str]) -> None:
    assert read_outcomes(written) == outcomes


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], "expected always or a list of outcomes, got an empty list; write always, or a list of "),
        ("failed", "expected always or a list of outcomes, got 'failed'; write always, or a list of "),
        (["fialed"], "expected an outcome of a run, got 'fialed'; did you mean failed?"),
        (["always"], "expected an outcome of a run, got 'always'; "),
        ([True], "expected an outcome of a run, got true; write always, or a list of succeeded, partial"),
    ],
)
def test_refuses_values_that_are_not_outcomes(written: object, message: str) -> None:
    with pytest.raises(BadValueError) as raised:
        read_outcomes(written)
    assert str(raised.value).startswith(message)


def secret(value: str) -> Secret:
    origin = Origin(folder=Path("/"), environ={"S": value}, look_for_secrets=False)
    return Secret.model_validate({"env": "S"}, context=origin)


def test_never_shows_the_address_of_a_notification() -> None:
    for url in ("json://example/token", secret("json://example/token")):
        notification = Notification(url=url)
        assert notification.address() == "json://example/token"
        assert "token" not in repr(notification)
    assert notification.on == {"blocked", "failed", "partial"}


def settings(**keys: Any) -> Settings:
    return Settings(path=Path("/registry-gc.yaml"), sha256="", store="sqlite:////gc.db", **keys)


def test_the_url_of_redis_is_in_the_file_or_in_a_secret() -> None:
    assert settings().redis_url() is None
    assert settings(redis="redis://cache/0").redis_url() == "redis://cache/0"
    assert settings(redis=secret("redis://:hunter2@cache/0")).redis_url() == "redis://:hunter2@cache/0"


def test_refuses_a_secret_that_is_not_a_redis_url_when_it_is_read() -> None:
    with pytest.raises(SecretError, match="cannot be used: expected a Redis URL") as raised:
        settings(redis=secret("http://hunter2@cache")).redis_url()
    assert "hunter2" not in str(raised.value)


def test_the_web_listens_on_loopback_by_default() -> None:
    assert (Web().listen, Web().token) == (("127.0.0.1", 9811), None)


@pytest.mark.parametrize(
    ("model", "keys"),
    [(Retention, {"plans": 0}), (Retention, {"audit": "23h"}), (Timing, {"lease": "0s"}), (Timing, {"laese": "1s"})],
)
def test_refuses_values_below_their_minimum(model: type, keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(keys, context=Origin(folder=Path("/"), environ={}, look_for_secrets=False))


def test_two_paths_are_two_registries() -> None:
    endpoints = with_defaults(id="x", credentials=Credentials(anonymous=True)).endpoints
    first, second = (key_of("oci", endpoints, "", f"https://a.example/{path}") for path in ("docker-one", "docker-two"))
    assert first != second
    assert one_endpoint("https://A.example:443/x/") == one_endpoint("https://a.example/x")
    first, second = (
        with_defaults(kind="oci", url=url, credentials=Credentials(anonymous=True)).history_key
        for url in ("https://a/x", "https://a/y")
    )
    assert first != second
