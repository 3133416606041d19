"""A valid configuration file with every default, and the changes that the environment can make."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from policies.limits import Limits
from worker.config.settings import (
    OUTCOMES,
    ConfigError,
    Credentials,
    Endpoints,
    EvidenceSettings,
    Notification,
    Rate,
    Retention,
    Secret,
    Timing,
    Web,
    load,
)

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
notify:
  - {url: {env: YC_TOKEN}}
  - {url: "json://127.0.0.1:8080/hook", "on": [missed, succeeded], registries: [production]}
  - {url: {file: web-token}, "on": always}
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
    settle: 24h
    trust_times_after: "2026-11-20 03:00:00+03:00"
    in_use:
      - {name: list, kind: file, path: lists/in-use.json, allow_empty: true}
      - {name: service, kind: http, url: "https://example.com/in-use?all=1", token: {file: web-token}, max_age: 2h}
      - {name: cluster, kind: kubernetes, kubeconfig: kube.yaml, contexts: [blue, green], namespaces: [shop]}
      - {name: own, kind: kubernetes}
    policy: nightly
    keep_per_repository: 1
    limits: {max_images: 5000, max_share: 30%, max_bytes: 2TiB}
    rate: {concurrency: 4}
    plan_max_age: 12h
    deadline: 5h
  test:
    kind: yandex-container-registry
    id: crpvab5oob146rh73xxx
    credentials: {workload_identity: {service_account: ajepg0mjt06siua65usm, token: {env: YC_TOKEN}}}
    endpoints: {sts: "https://auth.example.com"}
    policy: nightly
  moved:
    kind: yandex-cloud-registry
    id: crpvab5oob146rh73ilu
    credentials: {metadata: true}
    transitional: true
    policy: nightly
  hub:
    kind: oci
    url: "https://Registry.example.com:443/"
    repositories: [shop/api, "ml/**", shop/api]
    token_hosts: [Auth.example.com, "auth.example.com:443", "127.0.0.1:5001"]
    push_time: image
    credentials: {username: robot, password: {file: web-token}}
    policy: tags
  mirror: {kind: oci, url: "http://127.0.0.1:5000", credentials: {anonymous: true}, policy: tags}
policies:
  nightly:
    - {name: leftovers, delete: {untagged: true, older_than: 7d}}
  tags:
    - {name: releases, keep: {tags: ["v*"], tagged: true}}
    - {name: pull requests, delete: {tags: ["pr-*"], older_than: 14d, larger_than: 1MiB}}
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


def test_reads_the_smallest_file_with_every_default(folder):
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
    assert (registry.limits, registry.rate) == (Limits(), Rate())
    assert (registry.settle, registry.trust_times_after, registry.in_use) == (timedelta(0), None, ())
    assert (registry.history_key, settings.notify) == ("production|crpvab5oob146rh73ilt", ())
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
def test_refuses_two_names_of_one_registry_with_different_spellings(folder, one, two, same):
    def at(endpoint):
        return f'endpoints: {{container_registry: "{endpoint}"}}' if endpoint else "mode: dry-run"

    if not same:
        assert len(loaded(folder, TWO.format(one=at(one), two=at(two))).registries) == 2
        return
    with pytest.raises(ConfigError) as raised:
        loaded(folder, TWO.format(one=at(one), two=at(two)))
    what = "registries.two: is the same registry as registries.one: the same kind, endpoint and id; keep one of the two"
    assert raised.value.lines == (f"{folder / 'registry-gc.yaml'}: {what}",)


def test_reads_a_file_with_every_key(folder):
    settings = loaded(folder, WHOLE)
    assert settings.redis_url() == "redis://127.0.0.1:6379/0"
    assert settings.store == "sqlite:////var/lib/registry-gc/registry-gc.db"
    assert settings.web.listen == ("0.0.0.0", 9900)  # noqa: S104 - read, not bound
    assert settings.web.token is not None
    assert settings.web.token.read() == "open sesame"
    assert settings.timing == Timing(reconcile=timedelta(seconds=5), lease=timedelta(seconds=10))
    assert settings.retention == Retention(plans=3, audit=timedelta(days=30))
    assert set(settings.policies) == {"nightly", "tags", "unused"}
    registry = settings.registries["production"]
    assert registry.credentials.service_account_key == Secret(file=folder / "keys" / "sa.json")
    assert registry.endpoints.container_registry == "http://127.0.0.1:8080"
    assert registry.endpoints.docker == "https://cr.example.com"
    assert registry.schedule == "0 3 * * MON-FRI"
    assert (registry.catch_up, registry.mode) == (timedelta(hours=2), "delete")
    assert registry.limits == Limits(max_images=5000, max_share=0.3, max_bytes=2 * 1024**4)
    assert (registry.plan_max_age, registry.deadline) == (timedelta(hours=12), timedelta(hours=5))
    assert registry.settle == timedelta(hours=24)
    assert registry.trust_times_after == datetime(2026, 11, 20, tzinfo=UTC)
    identity = settings.registries["test"].credentials.workload_identity
    assert identity is not None
    assert (identity.service_account, identity.token.read()) == ("ajepg0mjt06siua65usm", "t1.token")
    assert settings.registries["test"].endpoints.sts == "https://auth.example.com"


def test_reads_an_oci_registry(folder):
    registries = loaded(folder, WHOLE).registries
    hub, mirror = registries["hub"], registries["mirror"]
    assert (hub.id, hub.url, hub.key) == ("", "https://registry.example.com", "oci|https://registry.example.com|")
    assert hub.repositories == ("shop/api", "ml/**")
    assert hub.token_hosts == ("auth.example.com", "127.0.0.1:5001")
    assert hub.credentials == Credentials(username="robot", password=Secret(file=folder / "web-token"))
    assert (hub.push_time, hub.reports_push_time, hub.lists_untagged) == ("image", True, False)
    assert mirror.credentials == Credentials(anonymous=True)
    assert (mirror.repositories, mirror.token_hosts) == ((), ())
    assert (mirror.push_time, mirror.reports_push_time) == ("first_seen", False)
    assert mirror.key == "oci|http://localhost:5000|"


def test_reads_a_cloud_registry(folder):
    registries = loaded(folder, WHOLE).registries
    moved, before = registries["moved"], registries["test"]
    assert moved.key == "yandex-cloud-registry|https://registry.api.cloud.yandex.net|crpvab5oob146rh73ilu"
    assert (moved.endpoints.docker, before.endpoints.docker) == (
        "https://registry.yandexcloud.net",
        "https://cr.yandex",
    )
    assert (moved.transitional, before.transitional) == (True, False)
    assert (moved.reports_push_time, moved.lists_untagged) == (True, True)


def test_an_entry_keeps_its_other_facts_when_its_kind_changes(folder):
    text = LEAST.replace("policy:", 'endpoints: {container_registry: "http://127.0.0.1:1"}\n    policy:')
    before = loaded(folder, text).registries["production"]
    after = loaded(folder, text.replace("yandex-container", "yandex-cloud")).registries["production"]
    assert before.history_key == after.history_key
    assert before.key != after.key


OF_KINDS = """
defaults: {credentials: {metadata: true}, policy: p}
registries:
  yandex: {kind: yandex-container-registry, id: a}
  hub: {kind: oci, url: "https://registry.example.com", credentials: {anonymous: true}}
policies: {p: []}
"""


def test_a_registry_of_another_kind_has_its_own_sign_in_method(folder):
    ways = [registry.credentials for registry in loaded(folder, OF_KINDS).registries.values()]
    assert ways == [Credentials(metadata=True), Credentials(anonymous=True)]
    with pytest.raises(ConfigError) as raised:
        loaded(folder, OF_KINDS.replace(", credentials: {anonymous: true}", ""))
    assert [str(mistake.path) for mistake in raised.value.mistakes] == ["defaults.credentials.metadata"]


def test_refuses_a_policy_only_for_registries_that_cannot_answer_it(folder):
    text = OF_KINDS.replace("p: []", "p: [{name: a, delete: {untagged: true}}], q: [{name: a, keep: {tagged: true}}]")
    with pytest.raises(ConfigError) as raised:
        loaded(folder, text)
    (mistake,) = raised.value.mistakes
    assert mistake.path == "policies.p[0].delete.untagged"
    assert "registries.hub: kind oci" in mistake.got
    assert "p" in loaded(folder, text.replace("anonymous: true}", "anonymous: true}, policy: q")).policies


def test_reads_every_source_of_evidence(folder):
    hour, token = timedelta(hours=1), Secret(file=folder / "web-token")
    url = "https://example.com/in-use?all=1"
    cluster = folder / "kube.yaml"
    assert loaded(folder, WHOLE).registries["production"].in_use == (
        EvidenceSettings(
            name="list", kind="file", max_age=24 * hour, allow_empty=True, path=folder / "lists" / "in-use.json"
        ),
        EvidenceSettings(name="service", kind="http", max_age=2 * hour, url=url, token=token),
        EvidenceSettings(
            name="cluster",
            kind="kubernetes",
            max_age=hour,
            kubeconfig=cluster,
            contexts=("blue", "green"),
            namespaces=("shop",),
        ),
        EvidenceSettings(name="own", kind="kubernetes", max_age=hour),
    )


def test_reads_the_recipients_of_notifications(folder):
    by_default, chosen, always = loaded(folder, WHOLE).notify
    assert (by_default.address(), by_default.registries) == ("t1.token", ())
    assert by_default.on == {"blocked", "failed", "partial"}
    assert chosen == Notification(
        url="json://127.0.0.1:8080/hook", on=frozenset({"missed", "succeeded"}), registries=("production",)
    )
    assert always.on == OUTCOMES
    assert "8080" not in repr(chosen)


def test_on_is_text_and_not_true(folder):
    (recipient,) = loaded(folder, "notify: [{url: {env: YC_TOKEN}, on: [aborted]}]\npolicies: {}").notify
    assert recipient.on == {"aborted"}


def test_a_registry_takes_the_sources_of_the_defaults_or_none(folder):
    text = """
defaults: {kind: yandex-container-registry, credentials: {metadata: true}, policy: p, settle: 2d, in_use: [{name: c,
  kind: kubernetes}]}
registries: {one: {id: a}, two: {id: b, in_use: [], settle: 0s}}
policies: {p: []}
"""
    registries = loaded(folder, text).registries
    assert [[source.name for source in registry.in_use] for registry in registries.values()] == [["c"], []]
    assert [registry.settle.days for registry in registries.values()] == [2, 0]


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        pytest.param("2026-11-20T03:00:00Z", datetime(2026, 11, 20, 3, tzinfo=UTC), id="ISO, in UTC"),
        pytest.param("2026-11-20T03:00:00.5+03:00", datetime(2026, 11, 20, 0, 0, 0, 500000, UTC), id="with an offset"),
        pytest.param("2026-11-20 03:00:00Z", datetime(2026, 11, 20, 3, tzinfo=UTC), id="YAML's blank"),
        pytest.param("2026-11-20T03:00-05:00", datetime(2026, 11, 20, 8, tzinfo=UTC), id="without seconds"),
    ],
)
def test_an_instant_is_read_as_utc(folder, written, instant):
    text = LEAST.replace("policy:", f"trust_times_after: {written}\n    policy:")
    read = loaded(folder, text).registries["production"].trust_times_after
    assert (read, read.tzinfo) == (instant, UTC)


def test_a_registrys_key_replaces_the_whole_default(folder):
    settings = loaded(folder, WHOLE)
    assert settings.registries["production"].rate == Rate(concurrency=4)
    assert settings.registries["test"].rate == Rate(requests_per_second=5.0)
    assert {registry.timezone for registry in settings.registries.values()} == {"Europe/Moscow"}


def test_defaults_may_contain_required_keys(folder):
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
def test_the_environment_makes_the_mode_more_careful_and_never_less(folder, written, environ, mode):
    settings = loaded(folder, LEAST.replace("policy:", f"mode: {written}\n    policy:"), **environ)
    assert settings.registries["production"].mode == mode


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        pytest.param(
            {"REGISTRY_GC_MODE": "dryrun"},
            "REGISTRY_GC_MODE: expected dry-run, got 'dryrun'; unset it to use the mode of the file",
            id="a mode misspelt",
        ),
        pytest.param(
            {"YC_METADATA_ADDR": "metadata.example.com"},
            "YC_METADATA_ADDR: plain http is allowed to loopback addresses only, got 'http://metadata.example.com'; "
            "write https://metadata.example.com",
            id="a metadata service elsewhere",
        ),
    ],
)
def test_reports_mistakes_of_the_environment(folder, environ, line):
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
def test_the_environment_names_the_metadata_service(folder, address, endpoint):
    settings = loaded(folder, LEAST, YC_METADATA_ADDR=address)
    assert settings.registries["production"].endpoints.metadata == endpoint


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        pytest.param({"STATE_DIRECTORY": "/var/lib/gc:/x"}, "sqlite:////var/lib/gc/registry-gc.db", id="systemd's"),
        pytest.param({"XDG_STATE_HOME": "/state"}, "sqlite:////state/registry-gc/registry-gc.db", id="the user's"),
    ],
)
def test_the_store_is_in_the_state_folder_by_default(folder, environ, url):
    assert loaded(folder, LEAST, **environ).store == url


def test_does_not_read_secrets_that_a_command_does_not_need(folder):
    path = folder / "registry-gc.yaml"
    path.write_text(LEAST.replace("{metadata: true}", "{iam_token: {env: NONE}}") + "store: {file: none}\n")
    with pytest.raises(ConfigError):
        load(path, environ={})
    assert set(load(path, environ={}, look_for_secrets=False).policies) == {"nightly"}


def test_paths_are_relative_to_the_file(folder):
    assert loaded(folder, "store: sqlite:///gc.db").store == f"sqlite:///{folder}/gc.db"


def test_no_repr_shows_a_url_with_a_password(folder):
    text = "store: {env: STORE}\nredis: {env: REDIS}\nweb: {token: {file: web-token}}\n"
    store, redis = "postgresql+psycopg://gc:hunter2@db/gc", "redis://:hunter3@cache/0"
    settings = loaded(folder, text, STORE=store, REDIS=redis)
    assert (settings.store, settings.redis_url()) == (store, redis)
    assert not {"hunter2", "hunter3", "sesame"} & set(repr(settings).replace("'", " ").replace(":", " ").split())
    assert "hunter" not in repr(settings)


def test_a_schedule_is_a_cron_line_with_names(folder):
    text = LEAST.replace("policy:", 'schedule: " 30  2 1,15 JUL WED "\n    policy:')
    assert loaded(folder, text).registries["production"].schedule == "30 2 1,15 JUL WED"


def test_reads_the_file_in_the_working_folder_last(folder, monkeypatch):
    (folder / "registry-gc.yaml").write_text("policies: {here: []}")
    (folder / "other.yaml").write_text("policies: {there: []}")
    monkeypatch.chdir(folder)
    assert set(load(environ={}).policies) == {"here"}
    assert set(load(environ={"REGISTRY_GC_CONFIG": "other.yaml"}).policies) == {"there"}
    assert set(load(Path("registry-gc.yaml"), environ={"REGISTRY_GC_CONFIG": "other.yaml"}).policies) == {"here"}
