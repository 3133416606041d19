"""The command itself: help, usage, exit codes, streams. No test here needs a registry."""

import os
import signal
import subprocess
import sys

import pytest

from tests.support.command import COMMAND
from worker.cli import SECTIONS

POLICY = "policies: {nightly: [{name: leftovers, delete: {untagged: true, older_than: 7d}}]}\n"
NAMES = [name for section in SECTIONS.values() for name in section]


def test_help_names_every_command_in_its_section(gc):
    done = gc("--help")
    assert (done.code, done.err) == (0, "")
    at = [done.out.index(f"\n  {name}") for name in NAMES]
    assert at == sorted(at)
    assert [done.out.count(f"\n{title}:\n") for title in SECTIONS] == [1] * len(SECTIONS)
    assert "trigger" not in done.out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_its_own_help(gc, name):
    done = gc(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert ("--config" in done.out) is (name != "schema")
    assert "--verbose" in done.out
    assert "trigger" not in done.out


def test_without_a_command_the_help_is_shown(gc):
    done = gc()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: registry-gc [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["chek"], "registry-gc: there is no command 'chek'; did you mean check?", id="a command misspelt"),
        pytest.param(
            ["zzz"],
            "registry-gc: there is no command 'zzz'; registry-gc --help lists the commands",
            id="no such command",
        ),
        pytest.param(
            ["why"], f"registry-gc: why is not implemented yet; available: {', '.join(NAMES)}", id="a command of later"
        ),
        pytest.param(
            ["check", "--fast"],
            "registry-gc check: No such option '--fast'. Did you mean '--format'?",
            id="an unknown option",
        ),
        pytest.param(["check", "more"], "registry-gc check: Got unexpected extra argument (more)", id="an argument"),
        pytest.param(
            ["runs", "--format", "html"],
            "registry-gc runs: Invalid value for '--format': "
            "html is not implemented yet; available: table, json, ndjson",
            id="html",
        ),
        pytest.param(
            ["runs", "--format", "yaml"],
            "registry-gc runs: Invalid value for '--format': expected table or json or ndjson, got 'yaml'",
            id="an unknown format",
        ),
        pytest.param(
            ["plan"], "registry-gc plan: give a REGISTRY, or --inventory F.ndjson --policy NAME", id="plan of nothing"
        ),
        pytest.param(
            ["plan", "a", "--inventory", "b"],
            "registry-gc plan: give either REGISTRY or --inventory, not both",
            id="plan of two things",
        ),
        pytest.param(["plan", "--inventory", "b"], "registry-gc plan: --inventory needs --policy NAME", id="no policy"),
        pytest.param(
            ["plan", "a", "--policy", "b"],
            "registry-gc plan: --policy needs --inventory; the configuration names the policy of a registry",
            id="a policy beside a registry",
        ),
        pytest.param(
            ["plan", "a", "--now", "yesterday"],
            "registry-gc plan: Invalid value for '--now': expected a time, got 'yesterday'; "
            "write, for example, 2026-11-23T03:00:00Z or 2026-11-23",
            id="a time that is none",
        ),
        pytest.param(
            ["plan", "a", "--now", "2026-11-23T03:00:00"],
            "registry-gc plan: Invalid value for '--now': expected a time, got '2026-11-23T03:00:00'; "
            "write, for example, 2026-11-23T03:00:00Z or 2026-11-23",
            id="a time without its offset",
        ),
        pytest.param(
            ["schema", "--config", "a"], "registry-gc schema: No such option '--config'.", id="a file that is not read"
        ),
        *(
            pytest.param(
                ["audit", "production", text],
                f"registry-gc audit: Invalid value for '[REFERENCE]': expected an image, got {text!r}; "
                "write path:tag, path@sha256:… or an image's id",
                id=f"no reference: {text}",
            )
            for text in (
                "",
                "shop/api",
                "shop/api:",
                ":v1",
                "shop//api:v1",
                "shop/api@sha256:9f86",
                "shop/api@latest",
                "a b:c",
                "pr-7",
                "shop/api:v1:v2",
                "shop/api:v1@sha256:" + "0" * 64,
                "shop/api:" + "x" * 129,
            )
        ),
        pytest.param(["sweep"], "registry-gc sweep: Missing argument 'REGISTRY'.", id="sweep of nothing"),
        pytest.param(
            ["sweep", "a", "--now", "2026-11-23"],
            "registry-gc sweep: No such option '--now'. Did you mean '--who'?",
            id="no --now",
        ),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(gc, words, message):
    done = gc(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"{message}\n"


@pytest.mark.parametrize(
    ("redirect", "words", "code", "message"),
    [
        pytest.param(">&-", "schema", 1, "standard output: is closed\n", id="no standard output"),
        pytest.param(">&-", "--help", 1, "standard input or output is closed\n", id="nor for the help"),
        pytest.param(">&-", "schema --output result", 0, "", id="none needed"),
        pytest.param("2>&-", "schema", 0, "", id="no standard error"),
        pytest.param("2>&-", "nothing", 2, "", id="nor for the mistake"),
        pytest.param(
            "<&-", "plan --inventory - --policy nightly", 1, "standard input or output is closed\n", id="no input"
        ),
        pytest.param("<&- >&- 2>&-", "runs --output result", 0, "", id="nothing at all"),
    ],
)
def test_closed_standard_streams(tmp_path, redirect, words, code, message):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    command = f'exec "$0" -m worker.cli {words} {redirect}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (code, message)
    if "--output" in words:
        assert (tmp_path / "result").read_text()


def test_a_closed_pipe_is_not_an_error(tmp_path):
    reader, writer = os.pipe()
    process = subprocess.Popen([*COMMAND, "schema"], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (141, b"")


def test_an_interrupt_is_quiet(tmp_path):
    """A named pipe as the inventory: the command waits for its writer until it is interrupted."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "registry-gc.yaml").write_text("policies: {p: [{name: old, delete: {tags: [old]}}]}")
    words = [*COMMAND, "plan", "--inventory", "pipe", "--policy", "p"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with open(tmp_path / "pipe", "wb"):  # opens when the command has opened its end
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (130, b"", b"")
