"""The options that subcommands share, and the types of their values."""

import os

import pytest

from worker.cli.options import current_user

POLICY = "policies: {nightly: [{name: leftovers, delete: {untagged: true, older_than: 7d}}]}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["check"], ["plan", "a"], ["inventory", "a"], ["sweep", "a"], ["runs"], ["show", "a"], ["approve", "a"],
        ["abort", "a"], ["audit"], ["plan", "--inventory", "b", "--policy", "c"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_missing_configuration_is_exit_code_2(gc, words):
    done = gc(*words)
    assert (done.code, done.out) == (2, "")
    message = "the file does not exist; name one with --config or REGISTRY_GC_CONFIG"
    assert done.err == f"registry-gc.yaml: {message}\n"


def test_the_environment_names_the_configuration_file(gc, tmp_path):
    (tmp_path / "other.yaml").write_text(POLICY)
    assert gc("check", REGISTRY_GC_CONFIG="other.yaml").code == 0
    assert gc("check", "--config", "no.yaml", REGISTRY_GC_CONFIG="other.yaml").code == 2


def test_who_defaults_to_user_at_host(make_harness, gc):
    make_harness()
    environ = {"SUDO_USER": "", "LOGNAME": "dora"}
    opened = gc("sweep", "production", "--format", "json", **environ).json
    assert opened["opened_by"] == f"dora@{os.uname().nodename}"


def test_a_user_without_a_name_is_named_by_number(monkeypatch):
    """As in a container that runs as 12345."""

    def no_name(_uid):
        raise KeyError("uid not found")

    for name in ("SUDO_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_name)
    assert current_user() == f"uid {os.getuid()}@{os.uname().nodename}"
