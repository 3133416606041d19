"""Errors that have a secret at hand when they are raised: none shows it, in its text, its repr or its causes."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.security.sentinels import Sentinels
from worker.config.settings import Secret, Settings, load
from worker.registries.http.redis_limit import RedisLimiter
from worker.registries.yandex.service_account_key import signed_jwt
from worker.store import open_store


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
    """An address of Redis, from a secret, that is none."""

    def read(folder: Path, secret: str) -> object:
        (folder / "redis").write_text(url.replace("SECRET", secret))
        named = Secret(file=folder / "redis")
        return Settings(path=folder, sha256="", store="", redis=named).redis_url()

    return read


def filled(url: str, secret: str) -> str:
    return url.replace("SECRET", secret)


def of_store(url: str) -> Callable[[Path, str], object]:
    """A store's address, from a secret, that is none."""

    def read(folder: Path, secret: str) -> object:
        (folder / "store").write_text(filled(url, secret))
        (folder / "registry-gc.yaml").write_text(yaml.safe_dump({"store": {"file": "store"}, "policies": {}}))
        return load(folder / "registry-gc.yaml", environ={}, look_for_secrets=False, store_is_needed=True)

    return read


ODD_STORES = (
    "postgresql+psycopg://gc:pass@SECRET@db:5432/gc",
    "postgresql+psycopg://gc:SECRET@word@db:5432/gc",
    "postgresql+psycopg://gc:pass/SECRET@db/gc",
    "postgresql+psycopg://gc:12/SECRET@db/gc",
    "postgresql+psycopg://gc:pass?SECRET@db/gc",
    "postgresql+psycopg://gc:pass#SECRET@db/gc",
    "postgresql+psycopg://gc:pass SECRET@db/gc",
    "postgresql+psycopg://gc:%zzSECRET@db/gc",
    "postgresql+psycopg://gc:SECRET@db:5432x/gc",
    "postgresql+psycopg://gc:pw@db:SECRET/gc",
    "postgresql+psycopg://gc:SECRET@[::1/gc",
    "postgresql+psycopg://gc:pw@db/gc?SECRET=1",
    "postgresql+psycopg://gc:pw@db/gc?SECRET",
    "postgresql+psycopg://gc:SECRET@db/gc/more",
    "postgresql://gc:SECRET@db/gc",
    "postgres://gc:SECRET@db/gc",
    "mysql://gc:SECRET@db/gc",
)


def away(url: str) -> str:
    """An address with a password at which nobody listens."""
    return url.replace("AWAY", "127.0.0.1:9")


ODDLY = "sEcret-of-0dd-make_that.nobody~knows"
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
    pytest.param(
        lambda folder, secret: open_store(away(f"postgresql+psycopg://gc:{secret}@AWAY/gc")).read().__enter__(),
        "StoreError",
        id="a store that is away",
    ),
    *(
        pytest.param(
            lambda folder, secret, url=url: open_store(away(filled(url, secret))).read().__enter__(),
            "StoreError",
            id=f"away: {url}",
        )
        for url in (
            "postgresql+psycopg://SECRET:pw@AWAY/gc",
            "postgresql+psycopg://gc:pw@AWAY/SECRET",
            "postgresql+psycopg://gc:pw@SECRET.invalid/gc",
            "postgresql+psycopg://gc:pw@AWAY/gc?sslmode=SECRET",
            "postgresql+psycopg://gc:pw@AWAY/gc?connect_timeout=SECRET",
            "postgresql+psycopg://gc@/gc?host=/SECRET",
        )
    ),
    pytest.param(
        lambda folder, secret: open_store(f"postgresql+psycopg://gc:{secret}@[bad/gc"), "StoreError", id="a bad address"
    ),
    pytest.param(lambda folder, secret: open_store(f"nonsense://gc:{secret}@db/gc"), "StoreError", id="no database"),
    pytest.param(
        lambda folder, secret: RedisLimiter(away(f"redis://:{secret}@AWAY/0"), "key", 1.0).wait(),
        "LimiterUnavailableError",
        id="Redis away",
    ),
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
        pytest.param(
            lambda _folder, secret, url=url: open_store(filled(url, secret)), "StoreError", id=f"opened: {url}"
        )
        for url in ODD_STORES
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


@pytest.mark.parametrize(("go", "kind"), CASES)
def test_no_error_s_text_shows_a_secret(tmp_path: Path, go: Callable[[Path, str], object], kind: str) -> None:
    """Nor its repr, nor the traceback with every cause of it."""
    with pytest.raises(Exception, match=r".") as failure:
        go(tmp_path, ODDLY)
    error = failure.value
    assert kind in {one.__name__ for one in type(error).__mro__}, repr(error)
    told = {"str": str(error), "repr": repr(error), "args": repr(error.args)}
    told["traceback"] = "".join(line for line in traceback.format_exception(error) if "go(tmp_path" not in line)
    assert Sentinels({"secret": ODDLY}).found_in({name: text.encode() for name, text in told.items()}) == []
