"""A deployment with a secret of each kind leaves none of them in logs, tables, Redis or responses after its runs."""

import base64
import json
import pprint
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest
import zstandard

from tests.support.sentinels import Sentinels
from tests.support.servers import PostgresServer, redis_server
from tests.support.simulator.client import Simulator
from tests.system.security.deployment import (
    REFUSED_TOKEN,
    REGISTRIES,
    WEB_TOKEN,
    SecretsDeployment,
    finished_deployment,
)
from worker.config.settings import load
from worker.store.runs import newest

SECRET = "sEntinel/+ü\"'&%=\\-of-a-kind-that-nobody-else-would-ever-write-down-anywhere-at-all-in-this-house-of-ours"


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda secret: secret, id="plain"),
        pytest.param(lambda secret: quote(secret, safe=""), id="URL-encoded"),
        pytest.param(quote_plus, id="form-encoded"),
        pytest.param(repr, id="repr"),
        pytest.param(lambda secret: repr(secret.encode()), id="repr of bytes"),
        pytest.param(lambda secret: json.dumps({"a": secret}), id="JSON"),
        pytest.param(lambda secret: json.dumps({"a": json.dumps({"b": secret})}), id="JSON in JSON"),
        pytest.param(lambda secret: secret.encode().hex(), id="hex"),
        pytest.param(lambda secret: secret[10:90], id="cut"),
        *[
            pytest.param(
                lambda secret, before=before: base64.b64encode(f"{before}{secret} and more".encode()).decode(),
                id=f"base64 behind {len(before)}",
            )
            for before in ("", "a", "ab", "abc", "user:")
        ],
        pytest.param(lambda secret: base64.urlsafe_b64encode(f"iam:{secret}".encode()).decode(), id="base64 for URLs"),
    ],
)
def test_the_search_finds_a_secret_in_every_encoding(written: Callable[[str], str]) -> None:
    text = f"before {written(SECRET)} after".encode()
    sentinels = Sentinels({"planted": SECRET})
    assert sentinels.found_in({"log": text})
    packed = b"\x01\x02" + zstandard.compress(text) + b"\x03"
    assert sentinels.found_in({"table": packed})
    assert not sentinels.found_in({"log": b"before nothing after", "table": zstandard.compress(b"nothing")})


@pytest.fixture(scope="module")
def deployment(
    running: Simulator, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SecretsDeployment, dict[str, str]]]:
    running.reset()
    with (
        redis_server() as redis,
        finished_deployment(tmp_path_factory.mktemp("deployment"), running, postgres, redis) as finished,
    ):
        yield finished


def test_the_runs_end_as_their_registries_demand(deployment: tuple[SecretsDeployment, dict[str, str]]) -> None:
    finished, outcomes = deployment
    assert outcomes | {"key": "", "pod": "", "meta": "", "token": ""} == {
        **dict.fromkeys(REGISTRIES, ""),
        "stale": "failed",
        "refused": "failed",
    }
    assert finished.simulator.deleted_ids()
    assert {"succeeded", "partial"} >= {outcomes[name] for name in ("key", "pod", "meta", "token")}


def test_no_secret_is_left_in_logs_tables_redis_or_responses(
    deployment: tuple[SecretsDeployment, dict[str, str]],
) -> None:
    finished, _ = deployment
    store = finished.store()
    for path in ("/", "/metrics", "/healthz", "/nothing", f"/metrics?token={WEB_TOKEN}"):
        finished.ask("GET", path)
    for path in ("/api/registries/nowhere/runs", "/api/runs/none/abort", f"/api/pause?token={WEB_TOKEN}"):
        finished.ask("POST", path, WEB_TOKEN)
    finished.ask("POST", "/api/pause", REFUSED_TOKEN)
    for words in (
        ["check", "--online", "--verbose"],
        ["plan", "key", "--verbose"],
        ["plan", "refused", "--verbose"],
        ["inventory", "stale", "--verbose"],
        ["runs", "--format", "json", "--verbose"],
        ["audit", "--format", "ndjson"],
        ["sweep", "key", "--dry-run", "--verbose"],
    ):
        finished.command(*words)
    with store.read() as connection:
        runs = [row.id for row in newest(connection, registry=None, limit=20)]
    for run_id in runs[-1:]:
        finished.command("show", run_id, "--format", "json")
    places = {**finished.outputs, **finished.left_behind(), **finished.tables(store), **finished.in_redis()}
    store.dispose()
    assert b"Permission denied for ***" in b"".join(places.values()), "no message repeated a token"
    assert len(places) > 50
    sentinels = finished.sentinels()
    assert sentinels.found_in({"planted": WEB_TOKEN.encode()})
    assert sentinels.found_in(places) == []


CRASH = """
import logging, sys
from worker import logs
from worker.config.settings import Secret, load
from worker.registries.http.redis_limit import RedisLimiter
from worker.registries.yandex.service_account_key import signed_jwt
from worker.store import open_store
from worker.registries import open_registry
logs.configure(verbose=True)
settings = load()
token = settings.web.token.read()
url, store = settings.redis_url(), settings.store
keys = [repr(registry) for registry in settings.registries.values()]
for registry in settings.registries.values():
    opened = open_registry(registry)
    try:
        calls = opened
        current = calls.tokens.current()
        raise ValueError(f"{registry!r} {opened!r} {calls.tokens!r} {calls.bearer!r} {calls.http!r}")
    except Exception as error:
        logging.getLogger("worker").exception("crashed: %r %s", error, error)
raise RuntimeError(f"{settings!r} {settings} {settings.web.token!r}")
"""


def test_a_crash_logs_none_of_the_secrets_at_hand(deployment: tuple[SecretsDeployment, dict[str, str]]) -> None:
    """Neither the log nor Python's own traceback of an uncaught error has a secret."""
    finished, _ = deployment
    command = [sys.executable, "-c", CRASH]
    done = subprocess.run(
        command, cwd=finished.folder, env=finished.environ, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"RuntimeError: Settings(" in done.stderr
    assert done.stderr.count(b"crashed: ") >= len(REGISTRIES) - 1
    assert finished.sentinels().found_in({"standard error": done.stderr, "standard output": done.stdout}) == []


def test_no_repr_of_settings_shows_a_secret(deployment: tuple[SecretsDeployment, dict[str, str]]) -> None:
    finished, _ = deployment
    settings = load(finished.folder / "registry-gc.yaml", environ=finished.environ)
    shown = {
        "repr": repr(settings),
        "str": str(settings),
        "pretty": pprint.pformat(settings),
        "formatted": f"{settings!s:>10} {settings.registries!r} {settings.notify!r} {settings.web!r}",
    }
    assert all("Secret(file=" in text for text in shown.values())
    assert finished.sentinels().found_in({name: text.encode() for name, text in shown.items()}) == []
