"""A right configuration file, with every default filled in, and what the environment may change about it."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from policies.limits import Limits
from worker.config import ConfigError, Credentials, Endpoints, Rate, Retention, Secret, Timing, Web, load

LEAST = """
registries:
  production:
    kind: yandex-container-registry
    id: crpvab5oob146rh73ilt
    credentials: {metadata: true}
    policy: nightly
policies:
  nightly:
    - {name: leftovers, delete: {untagged: true, older_than: 7d}}
"""

WHOLE = """
redis: redis://127.0.0.1:6379/0
store: sqlite:////var/lib/registry-gc/registry-gc.db
web: {listen: "0.0.0.0:9900", token: {file: web-token}}
timing: {reconcile: 5s, lease: 10s}
retention: {plans: 3, audit: 30d}
defaults: {timezone: Europe/Moscow, rate: {requests_per_second: 5}}
registries:
  production:
    kind: yandex-container-registry
    id: crpvab5oob146rh73ilt
    credentials: {service_account_key: {file: keys/sa.json}}
    endpoints: {container_registry: "http://127.0.0.1:8080/", docker: "https://CR.example.com:443"}
    schedule: "0 3 * * MON-FRI"
    catch_up: 2h
    mode: delete
    policy: nightly
    keep_per_repository: 1
    limits: {max_images: 5000, max_share: 30%, max_bytes: 2TiB}
    rate: {concurrency: 4}
    plan_max_age: 12h
    deadline: 5h
  test:
    kind: yandex-container-registry
    id: crpvab5oob146rh73xxx
    credentials: {iam_token: {env: YC_TOKEN}}
    policy: nightly
policies:
  nightly:
    - {name: leftovers, delete: {untagged: true, older_than: 7d}}
  unused: []
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "sa.json").write_text("{}\n")
    (tmp_path / "web-token").write_text("open sesame\n")
    return tmp_path


def loaded(folder, text, **environ):
    path = folder / "registry-gc.yaml"
    path.write_text(text)
    return load(path, environ={"HOME": "/home/gc", "YC_TOKEN": "t1.token", **environ})


def test_what_the_least_file_means(folder):
    settings = loaded(folder, LEAST)
    assert settings.sha256 == hashlib.sha256(LEAST.encode()).hexdigest()
    assert settings.path == folder / "registry-gc.yaml"
    assert (settings.redis, settings.redis_url()) == (None, None)
    assert settings.store == "sqlite:////home/gc/.local/state/registry-gc/registry-gc.db"
    assert (settings.web, settings.timing, settings.retention) == (Web(), Timing(), Retention())
    registry = settings.registries["production"]
    assert registry.credentials == Credentials(metadata=True)
    assert registry.endpoints == Endpoints()
    assert (registry.mode, registry.schedule, registry.timezone) == ("dry-run", None, "UTC")
    assert (registry.catch_up, registry.plan_max_age) == (timedelta(hours=6), timedelta(hours=24))
    assert (registry.deadline, registry.keep_per_repository) == (None, 0)
    assert (registry.limits, registry.rate) == (Limits(), Rate(20.0, 16))
    assert registry.policy is settings.policies["nightly"]
    assert (
        registry.key == "yandex-container-registry|https://container-registry.api.cloud.yandex.net|crpvab5oob146rh73ilt"
    )


TWO = """
registries:
  one: {{kind: yandex-container-registry, id: a, credentials: {{metadata: true}}, policy: p, {one}}}
  two: {{kind: yandex-container-registry, id: a, credentials: {{metadata: true}}, policy: p, {two}}}
policies: {{p: []}}
"""
USUAL = "https://container-registry.api.cloud.yandex.net"


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        pytest.param(USUAL, None, True, id="the usual, said and unsaid"),
        pytest.param(f"{USUAL}:443/", USUAL, True, id="its usual port, a trailing slash"),
        pytest.param(USUAL.upper().replace("HTTPS", "https"), USUAL, True, id="case"),
        pytest.param(f"{USUAL}.", USUAL, True, id="a trailing dot"),
        pytest.param(f"{USUAL}.:443", USUAL, True, id="a trailing dot and the port"),
        pytest.param(f"{USUAL}:", USUAL, True, id="no port after the colon"),
        pytest.param(f"{USUAL}:8443", USUAL, False, id="another port"),
        pytest.param("http://localhost:8080", "http://127.0.0.1:8080", True, id="localhost by its address"),
        pytest.param("http://[::1]:8080", "http://LocalHost:8080/", True, id="localhost by its other address"),
        pytest.param("http://[0:0:0:0:0:0:0:1]:8080", "http://127.0.0.1:8080", True, id="the same at length"),
        pytest.param("http://localhost:80", "http://127.0.0.1", True, id="the usual port of http"),
        pytest.param("http://localhost", "https://localhost", False, id="another scheme"),
        pytest.param("http://localhost:8080", "http://127.0.0.1:8081", False, id="another port of localhost"),
        pytest.param("http://127.0.0.1:8080", "http://127.0.0.2:8080", False, id="another address of this machine"),
        pytest.param("https://[2001:DB8::1]", "https://[2001:db8:0::1]:443", True, id="an IPv6 address"),
        pytest.param("https://реестр.рф", "https://xn--e1aa5aceg.xn--p1ai", True, id="a name in other letters"),
        pytest.param(f"https://{'é' * 90}.ru", "https://é.ru", False, id="a name that cannot be"),
        pytest.param("https://a.example.com", "https://b.example.com", False, id="other names"),
    ],
)
def test_one_registry_has_one_name_however_its_endpoint_is_written(folder, one, two, same):
    def at(endpoint):
        return f'endpoints: {{container_registry: "{endpoint}"}}' if endpoint else "mode: dry-run"

    if not same:
        assert len(loaded(folder, TWO.format(one=at(one), two=at(two))).registries) == 2
        return
    with pytest.raises(ConfigError) as raised:
        loaded(folder, TWO.format(one=at(one), two=at(two)))
    what = "registries.two: is the same registry as registries.one: kind, endpoint and id; keep one of the two"
    assert raised.value.lines == (f"{folder / 'registry-gc.yaml'}: {what}",)


def test_what_a_whole_file_means(folder):
    settings = loaded(folder, WHOLE)
    assert settings.redis_url() == "redis://127.0.0.1:6379/0"
    assert settings.store == "sqlite:////var/lib/registry-gc/registry-gc.db"
    assert (settings.web.host, settings.web.port) == ("0.0.0.0", 9900)  # noqa: S104 - read, not bound
    assert settings.web.token is not None
    assert settings.web.token.read() == "open sesame"
    assert settings.timing == Timing(timedelta(seconds=5), timedelta(seconds=10))
    assert settings.retention == Retention(3, timedelta(days=30))
    assert set(settings.policies) == {"nightly", "unused"}
    registry = settings.registries["production"]
    assert registry.credentials.service_account_key == Secret(file=folder / "keys" / "sa.json")
    assert registry.endpoints.container_registry == "http://127.0.0.1:8080"
    assert registry.endpoints.docker == "https://cr.example.com"
    assert registry.schedule == "0 3 * * MON-FRI"
    assert (registry.catch_up, registry.mode) == (timedelta(hours=2), "delete")
    assert registry.limits == Limits(5000, 0.3, 2 * 1024**4)
    assert (registry.plan_max_age, registry.deadline) == (timedelta(hours=12), timedelta(hours=5))


def test_an_own_key_takes_the_place_of_the_whole_default(folder):
    settings = loaded(folder, WHOLE)
    assert settings.registries["production"].rate == Rate(20.0, 4)
    assert settings.registries["test"].rate == Rate(5.0, 16)
    assert {registry.timezone for registry in settings.registries.values()} == {"Europe/Moscow"}


def test_defaults_may_say_what_a_registry_must(folder):
    text = """
defaults: {kind: yandex-container-registry, credentials: {metadata: true}, policy: p, schedule: "0 3 * * *"}
registries: {one: {id: a}, two: {id: b, schedule: "30 4 * * *"}}
policies: {p: []}
"""
    settings = loaded(folder, text)
    assert [registry.schedule for registry in settings.registries.values()] == ["0 3 * * *", "30 4 * * *"]


@pytest.mark.parametrize(
    ("text", "policies"),
    [
        pytest.param("policies: {p: []}", {"p"}, id="no registries"),
        pytest.param("policies: {}\nregistries: {}", set(), id="nothing yet"),
    ],
)
def test_a_file_without_registries_serves_inventories(folder, text, policies):
    settings = loaded(folder, text)
    assert (set(settings.policies), dict(settings.registries)) == (policies, {})


@pytest.mark.parametrize(
    ("written", "environ", "mode"),
    [
        pytest.param("delete", {}, "delete", id="the file decides"),
        pytest.param("delete", {"REGISTRY_GC_MODE": "dry-run"}, "dry-run", id="the environment makes it more careful"),
        pytest.param("dry-run", {"REGISTRY_GC_MODE": "delete"}, "dry-run", id="but never less"),
        pytest.param("delete", {"REGISTRY_GC_MODE": ""}, "delete", id="empty is as good as unset"),
    ],
)
def test_the_mode(folder, written, environ, mode):
    settings = loaded(folder, LEAST.replace("policy:", f"mode: {written}\n    policy:"), **environ)
    assert settings.registries["production"].mode == mode


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        pytest.param(
            {"REGISTRY_GC_MODE": "dryrun"},
            "REGISTRY_GC_MODE: expected dry-run, got 'dryrun'; unset it to follow the file",
            id="a mode misspelt",
        ),
        pytest.param(
            {"YC_METADATA_ADDR": "metadata.example.com"},
            "YC_METADATA_ADDR: plain http is for loopback addresses only, got 'http://metadata.example.com'; "
            "write https://metadata.example.com",
            id="a metadata service elsewhere",
        ),
    ],
)
def test_mistakes_of_the_environment(folder, environ, line):
    with pytest.raises(ConfigError) as raised:
        loaded(folder, LEAST, **environ)
    assert raised.value.lines == (f"{folder / 'registry-gc.yaml'}: {line}",)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        pytest.param("127.0.0.1:8080", "http://127.0.0.1:8080", id="host and port, as the vendor's SDK reads it"),
        pytest.param("http://[::1]:8080", "http://[::1]:8080", id="a URL"),
        pytest.param("169.254.169.254", "http://169.254.169.254", id="the link-local address"),
    ],
)
def test_the_metadata_service(folder, address, endpoint):
    settings = loaded(folder, LEAST, YC_METADATA_ADDR=address)
    assert settings.registries["production"].endpoints.metadata == endpoint


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        pytest.param({"STATE_DIRECTORY": "/var/lib/gc:/x"}, "sqlite:////var/lib/gc/registry-gc.db", id="systemd's"),
        pytest.param({"XDG_STATE_HOME": "/state"}, "sqlite:////state/registry-gc/registry-gc.db", id="the user's"),
    ],
)
def test_where_the_store_is_when_nothing_is_said(folder, environ, url):
    assert loaded(folder, LEAST, **environ).store == url


def test_secrets_are_not_looked_for_where_they_are_not_needed(folder):
    path = folder / "registry-gc.yaml"
    path.write_text(LEAST.replace("{metadata: true}", "{iam_token: {env: NONE}}") + "store: {file: none}\n")
    with pytest.raises(ConfigError):
        load(path, environ={})
    assert set(load(path, environ={}, look_for_secrets=False).policies) == {"nightly"}


def test_paths_are_relative_to_the_file(folder):
    assert loaded(folder, "store: sqlite:///gc.db").store == f"sqlite:///{folder}/gc.db"


def test_urls_with_passwords_come_from_secrets_and_show_in_no_repr(folder):
    text = "store: {env: STORE}\nredis: {env: REDIS}\nweb: {token: {file: web-token}}\n"
    store, redis = "postgresql+psycopg://gc:hunter2@db/gc", "redis://:hunter3@cache/0"
    settings = loaded(folder, text, STORE=store, REDIS=redis)
    assert (settings.store, settings.redis_url()) == (store, redis)
    assert not {"hunter2", "hunter3", "sesame"} & set(repr(settings).replace("'", " ").replace(":", " ").split())
    assert "hunter" not in repr(settings)


def test_a_schedule_is_a_cron_line_with_names(folder):
    text = LEAST.replace("policy:", 'schedule: " 30  2 1,15 JUL WED "\n    policy:')
    assert loaded(folder, text).registries["production"].schedule == "30 2 1,15 JUL WED"


def test_the_working_folder_has_the_last_word(folder, monkeypatch):
    (folder / "registry-gc.yaml").write_text("policies: {here: []}")
    (folder / "other.yaml").write_text("policies: {there: []}")
    monkeypatch.chdir(folder)
    assert set(load(environ={}).policies) == {"here"}
    assert set(load(environ={"REGISTRY_GC_CONFIG": "other.yaml"}).policies) == {"there"}
    assert set(load(Path("registry-gc.yaml"), environ={"REGISTRY_GC_CONFIG": "other.yaml"}).policies) == {"here"}
