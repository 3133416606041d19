"""A secret where none may stand, or one that cannot be used: the mistake is named, and no part of the secret."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.secrecy import ODD_STORES, Go, filled, shows_no_secret
from worker.config.settings import Secret, Settings, load


def unreadable(folder: Path, secret: str) -> None:
    """A file that is a secret, and no text."""
    (folder / "secret").write_bytes(secret.encode() + b"\xff\xfe")
    Secret(file=folder / "secret").read()


def in_the_file(line: str) -> Callable[[Path, str], None]:
    """A configuration with a secret where none may stand."""

    def write(folder: Path, secret: str) -> None:
        registry = {"kind": "yandex-container-registry", "id": "crp1", "policy": "nightly"}
        document: dict[str, Any] = {
            "registries": {"production": registry | {"credentials": {"metadata": True}}},
            "policies": {"nightly": [{"name": "all", "delete": {"all": True}}]},
        }
        top, _, rest = line.partition(".")
        target = document if not rest else document["registries"]["production"]
        key, _, value = (rest or top).partition("=")
        target[key] = yaml.safe_load(filled(value, secret))
        (folder / "registry-gc.yaml").write_text(yaml.safe_dump(document))
        load(folder / "registry-gc.yaml", environ={})

    return write


def of_redis(url: str) -> Callable[[Path, str], object]:
    """A secret that contains an invalid Redis URL."""

    def read(folder: Path, secret: str) -> object:
        (folder / "redis").write_text(url.replace("SECRET", secret))
        named = Secret(file=folder / "redis")
        return Settings(path=folder, sha256="", store="", redis=named).redis_url()

    return read


def of_store(url: str) -> Callable[[Path, str], object]:
    """A secret that contains an invalid store URL."""

    def read(folder: Path, secret: str) -> object:
        (folder / "store").write_text(filled(url, secret))
        (folder / "registry-gc.yaml").write_text(yaml.safe_dump({"store": {"file": "store"}, "policies": {}}))
        return load(folder / "registry-gc.yaml", environ={}, look_for_secrets=False, store_is_needed=True)

    return read


CASES = [
    pytest.param(unreadable, "SecretError", id="a file that is no text"),
    pytest.param(in_the_file("redis=redis://:SECRET@cache:6379/0"), "ConfigError", id="a password of Redis"),
    pytest.param(
        in_the_file("store=postgresql+psycopg://gc:SECRET@db/gc"), "ConfigError", id="a password of the store"
    ),
    pytest.param(in_the_file("web={token: SECRET}"), "ConfigError", id="the web's token"),
    pytest.param(in_the_file("web={listen: '127.0.0.1:0', token: {value: SECRET}}"), "ConfigError", id="as a value"),
    pytest.param(in_the_file("x.credentials={iam_token: SECRET}"), "ConfigError", id="an IAM token"),
    pytest.param(in_the_file("notify=[{url: SECRET, on: [failed], more: SECRET}]"), "ConfigError", id="an address"),
    *(
        pytest.param(of_redis(url), "SecretError", id=f"Redis: {url}")
        for url in (
            "redis://:x#SECRET@cache:6379/0",
            "redis://:pw@cache:SECRET/0",
            "redis://:pw@cache:6379/SECRET",
            "rediss://:pw@cache:6379/0?ssl_cert_reqs=SECRET",
            "redis://:pw@cache:6379/0?socket_timeout=SECRET",
            "redis://:pw@cache:6379/0?SECRET=1",
            "redis://:pw@cache:6379/0?SECRET",
            "redis://:%zzSECRET@cache:6379/0",
            "unix://SECRET/var/run/redis.sock",
            "redis-sentinel://:SECRET@cache",
        )
    ),
    *(
        pytest.param(of_store(url), "ConfigError", id=f"store: {url}")
        for url in (*ODD_STORES, "sqlite:////var/SECRET?mode=memory", "SECRET")
    ),
    *(
        pytest.param(in_the_file(f"{key}={url}"), "ConfigError", id=f"in the file: {url}")
        for key, url in (
            *(("store", url) for url in ODD_STORES),
            ("redis", "redis://:x#SECRET@cache:6379/0"),
            ("redis", "redis://cache:6379/0?password=SECRET"),
            ("x.url", "https://user:x#SECRET@registry.example.com"),
            ("x.token_hosts", "[https://user:SECRET@auth.example.com]"),
            ("x.in_use", "[{name: a, kind: http, url: https://user:x#SECRET@example.com/x}]"),
        )
    ),
    pytest.param(of_redis("redis://:SECRET/more@cache:6379/0"), "SecretError", id="an odd letter in Redis's password"),
    pytest.param(of_redis("SECRET"), "SecretError", id="a password for an address of Redis"),
    pytest.param(of_redis("http://:SECRET@cache/0"), "SecretError", id="another scheme for Redis"),
]


@pytest.mark.parametrize(("go", "kind"), CASES)
def test_no_mistake_shows_a_secret(tmp_path: Path, go: Go, kind: str) -> None:
    shows_no_secret(tmp_path, go, kind)
