"""The keys of a registry: one sign-in method, the keys of each kind of evidence, one action after a run."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from policies.findings import Form, mistakes_of
from worker.config.registry import AfterRun, Credentials, DefaultKeys, EvidenceSettings, Rate, RegistryKeys
from worker.config.secret import Origin, Secret

ORIGIN = Origin(folder=Path("/etc/gc"), environ={}, look_for_secrets=False)
SECRET = {"env": "TOKEN"}
KEEP_ONE = "keep one of iam_token, service_account_key, metadata, workload_identity, username with password"


def read(form: type[Form], tree: Any) -> Any:
    return form.model_validate(tree, context=ORIGIN)


def lines(form: type[Form], tree: Any) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        read(form, tree)
    return [str(mistake) for mistake in mistakes_of(raised.value, form, tree, "r")]


@pytest.mark.parametrize(
    ("tree", "given"),
    [
        ({"iam_token": SECRET}, ("iam_token",)),
        ({"service_account_key": SECRET}, ("service_account_key",)),
        ({"metadata": True}, ("metadata",)),
        ({"workload_identity": {"service_account": "aje1", "token": SECRET}}, ("workload_identity",)),
        ({"username": "robot", "password": SECRET}, ("username", "password")),
        ({"anonymous": True, "repositories": ["shop/*"]}, ("anonymous",)),
        ({"helper": "ecr-login"}, ("helper",)),
        ({"docker_config": "config.json"}, ("docker_config",)),
        ({"command": ["get", "it"]}, ("command",)),
    ],
)
def test_accepts_each_sign_in_method(tree: dict[str, Any], given: tuple[str, ...]) -> None:
    assert read(Credentials, tree).given == given


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({}, f"r: expected one sign-in method, got none; write {KEEP_ONE.removeprefix('keep ')}"),
        ({"repositories": ["a"]}, f"r: expected one sign-in method, got none; write {KEEP_ONE.removeprefix('keep ')}"),
        ({"metadata": True, "anonymous": True}, "r: expected one sign-in method, got metadata and anonymous; "),
        ({"username": "u"}, "r: expected username and password, got only username; add password"),
        ({"password": SECRET}, "r: expected username and password, got only password; add username"),
        ({"username": "u", "password": SECRET, "helper": "x"},
         "r: expected one sign-in method, got username, password and helper; "),
        ({"metadata": False}, "r.metadata: expected true, got false; remove the key to turn it off"),
    ],
)  # fmt: skip
def test_refuses_credentials_that_are_not_one_sign_in_method(tree: dict[str, Any], line: str) -> None:
    (reported,) = lines(Credentials, tree)
    assert reported.startswith(line)


def test_a_command_runs_in_the_folder_of_the_file() -> None:
    assert read(Credentials, {"command": ["get"]}).folder == Path("/etc/gc")
    assert read(Credentials, {"helper": "x"}).folder is None


@pytest.mark.parametrize(
    ("kind", "own", "hours"),
    [
        ("file", {"path": "in-use.json"}, 24),
        ("http", {"url": "https://example.com/in-use"}, 24),
        ("kubernetes", {}, 1),
    ],
)
def test_each_kind_of_source_has_its_required_keys_and_maximum_age(kind: str, own: dict[str, Any], hours: int) -> None:
    source = read(EvidenceSettings, {"name": "list", "kind": kind, **own})
    assert source.max_age.total_seconds() == hours * 3600
    assert (source.allow_empty, source.allow_foreign) == (False, False)
    if kind == "file":
        assert source.path == Path("/etc/gc/in-use.json")


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"kind": "file"}, "r.path: is missing; write path: FILE, relative to this file"),
        ({"kind": "http"}, "r.url: is missing; write url: https://…"),
        ({"kind": "file", "path": "x", "url": "https://a.example"}, "r.url: unknown key 'url'; known here: "
         "name, kind, max_age, allow_empty, allow_foreign, path"),
        ({"kind": "kubernetes", "token": SECRET}, "r.token: unknown key 'token'; known here: "
         "name, kind, max_age, allow_empty, allow_foreign, kubeconfig, contexts, namespaces"),
        ({"kind": "fiel", "path": "x"}, "r.kind: expected file, http or kubernetes, got 'fiel'; did you mean file?"),
        ({"kind": "kubernetes", "max_age": "0s"}, "r.max_age: expected a duration of at least 1s, got 0s; "
         "write 1s or more"),
    ],
)  # fmt: skip
def test_refuses_keys_of_another_kind_of_source(tree: dict[str, Any], line: str) -> None:
    assert lines(EvidenceSettings, {"name": "list", **tree}) == [line]


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({}, "r: expected one of command and url, got neither; write one"),
        ({"command": ["x"], "url": "https://a.example"}, "r: expected one of command and url, got both; keep one"),
        ({"command": ["x"], "token": SECRET}, "r: token can be used only with url, not with command; remove it"),
    ],
)
def test_refuses_after_run_with_both_or_neither(tree: dict[str, Any], line: str) -> None:
    assert lines(AfterRun, tree) == [line]


def test_after_run_is_a_command_or_a_url() -> None:
    assert read(AfterRun, {"command": ["x", "y"]}).command == ("x", "y")
    after_run = read(AfterRun, {"url": "https://a.example/hook", "token": SECRET})
    assert (after_run.url, after_run.token) == ("https://a.example/hook", Secret(env="TOKEN"))


@pytest.mark.parametrize(
    "tree", [{"requests_per_second": 0}, {"requests_per_second": 1001}, {"concurrency": 0}, {"concurrency": 129}]
)
def test_a_rate_has_its_bounds(tree: dict[str, Any]) -> None:
    (line,) = lines(Rate, tree)
    assert line.startswith(f"r.{next(iter(tree))}: expected")


def test_the_defaults_are_careful() -> None:
    keys = read(DefaultKeys, {})
    assert (keys.mode, keys.schedule, keys.in_use, keys.keep_per_repository) == ("dry-run", None, (), 0)
    assert (keys.insecure_http, keys.transitional, keys.push_time) == (False, False, "first_seen")
    assert (keys.limits.max_images, keys.rate) == (None, Rate())


def test_refuses_a_registry_without_its_identity() -> None:
    assert {line.partition(":")[0] for line in lines(RegistryKeys, {})} == {"r.kind", "r.credentials", "r.policy"}
    assert lines(DefaultKeys, {"policy": ["p"]}) == ["r.policy: expected text, got a list; put it in quotes"]


def test_credentials_are_one_mapping_or_a_list_of_them() -> None:
    mapping = read(DefaultKeys, {"credentials": {"anonymous": True}}).credentials
    several = read(DefaultKeys, {"credentials": [{"anonymous": True}, {"helper": "x", "repositories": ["a/*"]}]})
    assert mapping == Credentials(anonymous=True)
    assert [way.given for way in several.credentials] == [("anonymous",), ("helper",)]
    assert lines(DefaultKeys, {"credentials": [{}, {"anonymous": True}]})[0].startswith("r.credentials[0]: ")
