"""The command itself: help, usage, exit codes, streams. Nothing here needs a registry."""

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys

import pytest

from tests.support.command import COMMAND
from worker.cli import SECTIONS
from worker.cli.output import Output

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
def test_every_command_has_help_of_its_own(gc, name):
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
            ["zzz"], "registry-gc: there is no command 'zzz'; registry-gc --help lists them", id="no such command"
        ),
        pytest.param(
            ["why"], f"registry-gc: why is not built yet; known here: {', '.join(NAMES)}", id="a command of later"
        ),
        pytest.param(
            ["check", "--fast"],
            "registry-gc check: No such option '--fast'. Did you mean '--format'?",
            id="an unknown option",
        ),
        pytest.param(["check", "more"], "registry-gc check: Got unexpected extra argument (more)", id="an argument"),
        pytest.param(
            ["runs", "--format", "html"],
            "registry-gc runs: Invalid value for '--format': html is not built yet; known here: table, json, ndjson",
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
            "registry-gc plan: --policy is for --inventory; a registry has its policy in the configuration",
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
    "words",
    [
        ["check"], ["plan", "a"], ["inventory", "a"], ["sweep", "a"], ["runs"], ["show", "a"], ["approve", "a"],
        ["abort", "a"], ["audit"], ["plan", "--inventory", "b", "--policy", "c"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_without_a_configuration(gc, words):
    done = gc(*words)
    assert (done.code, done.out) == (2, "")
    message = "there is no such file; name one with --config or REGISTRY_GC_CONFIG"
    assert done.err == f"registry-gc.yaml: {message}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml; known: none"),
        (["inventory", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml; known: none"),
        (["sweep", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml; known: none"),
        (["show", "nothing"], "no run has the id 'nothing'; there is no store yet"),
        (["approve", "nothing"], "no run has the id 'nothing'; there is no store yet"),
        (["abort", "nothing"], "no run has the id 'nothing'; there is no store yet"),
        (["runs", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml or its store; known: none"),
        (["audit", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml or its store; known: none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_exit_code_2(gc, tmp_path, words, message):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    done = gc(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err == message.format(folder=tmp_path) + "\n"
    assert not (tmp_path / "gc.db").exists()


def test_check_says_what_it_found(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(POLICY)
    done = gc("check")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{tmp_path}/registry-gc.yaml: no mistakes: 0 registries, 1 policy\n"
    assert gc("check", "--format", "json").json == {"file": f"{tmp_path}/registry-gc.yaml", "mistakes": []}


def test_check_writes_mistakes_as_json_too(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text("wbe: {}\n" + POLICY)
    done = gc("check", "--format", "json")
    assert (done.code, done.err) == (2, "")
    assert [one["path"] for one in done.json["mistakes"]] == ["wbe"]


def test_the_environment_names_the_file(gc, tmp_path):
    (tmp_path / "other.yaml").write_text(POLICY)
    assert gc("check", REGISTRY_GC_CONFIG="other.yaml").code == 0
    assert gc("check", "--config", "no.yaml", REGISTRY_GC_CONFIG="other.yaml").code == 2


def test_history_of_nothing(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    assert gc("runs").out == "No runs yet.\n"
    assert gc("runs", "--format", "json").json == {"runs": []}
    assert gc("runs", "--format", "ndjson").out == ""
    assert gc("audit").out == "Nothing was deleted.\n"
    assert gc("audit", "--format", "json").json == {"deletions": []}
    assert not (tmp_path / "gc.db").exists()


def test_a_store_that_is_there_but_unreadable_is_exit_code_1(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    (tmp_path / "gc.db").write_text("this is no database, and long enough to be seen as none" * 100)
    for words in (["runs"], ["audit"], ["show", "a"], ["approve", "a"], ["abort", "a"]):
        done = gc(*words)
        assert (done.code, done.out) == (1, ""), words
        assert len(done.err.splitlines()) == 1
        assert "store" in done.err


def test_looking_brings_no_store_up_to_date(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    (tmp_path / "gc.db").touch()
    done = gc("runs")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "gc.db")) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == []


def test_only_light_modules_are_loaded_by_check(tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(POLICY)
    heavy = ["numpy", "sqlalchemy", "celery", "httpx", "rich", "cryptography", "structlog", "redis", "starlette"]
    script = (
        "import sys; from worker.cli import cli; cli.main(['check'], standalone_mode=False); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_results_go_to_a_file_whole_or_not_at_all(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(POLICY)
    (tmp_path / "result").write_text("old")
    done = gc("schema", "--output", "result")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "result").read_text().startswith("{")
    (tmp_path / "result").write_text("old")
    assert gc("runs", "nowhere", "--output", "result", "--limit", "0").code == 2
    assert (tmp_path / "result").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry-gc.yaml", "result"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    result = tmp_path / "result"
    result.write_text("old")
    with pytest.raises(ZeroDivisionError), Output(result, "table") as output:
        output.line(f"half {1 / 0}")
    assert result.read_text() == "old"
    assert list(tmp_path.iterdir()) == [result]
    with Output(result, "table") as output:
        output.line("whole")
    assert result.read_text() == "whole\n"
    assert list(tmp_path.iterdir()) == [result]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("no/such/file", "there is no folder {folder}/no/such; make it, or name another", id="no folder"),
        pytest.param(".", "this is a folder; name a file in it", id="a folder"),
        pytest.param("link-to-folder", "this is a folder; name a file in it", id="a link to a folder"),
        pytest.param("registry-gc.yaml/x", "Not a directory; name another file", id="a file as a folder"),
        pytest.param("loop", "Too many levels of symbolic links; name another file", id="links in a circle"),
    ],
)
def test_an_output_that_cannot_be_written(gc, tmp_path, path, message):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    (tmp_path / "link-to-folder").symlink_to(".")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    for words in (["schema"], ["runs"], ["sweep", "production"]):
        done = gc(*words, "--output", path)
        assert (done.code, done.out) == (2, ""), words
        assert done.err == f"--output {path}: {message.format(folder=tmp_path)}\n"
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_keeps_its_mode_and_its_links(tmp_path):
    """What is replaced is the file behind the links, in its own folder, with the mode that it has."""
    folder = tmp_path / "results"
    folder.mkdir()
    kept = folder / "result"
    kept.write_text("old")
    kept.chmod(0o640)
    (tmp_path / "second").symlink_to("results/result")
    (tmp_path / "first").symlink_to("second")
    with Output(tmp_path / "first", "table") as output:
        output.line("whole")
    assert (kept.read_text(), kept.stat().st_mode & 0o7777) == ("whole\n", 0o640)
    assert [os.readlink(tmp_path / name) for name in ("first", "second")] == ["second", "results/result"]
    assert list(folder.iterdir()) == [kept]


def test_a_link_to_nothing_yet_is_filled_and_a_new_file_has_the_usual_mode(tmp_path):
    (tmp_path / "link").symlink_to("new")
    before = os.umask(0o027)
    try:
        with Output(tmp_path / "link", "table") as output:
            output.line("whole")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert ((tmp_path / "new").read_text(), (tmp_path / "new").stat().st_mode & 0o7777) == ("whole\n", 0o640)


def test_a_name_of_the_greatest_length(tmp_path):
    with Output(tmp_path / ("x" * 255), "table") as output:
        output.line("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole\n"]


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_named_pipe_is_written_through(gc, tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb") as pipe:  # it holds more than a schema
        done = gc("schema", "--output", name)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert pipe.read().startswith(b"{")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


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
def test_closed_streams(tmp_path, redirect, words, code, message):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    command = f'exec "$0" -m worker.cli {words} {redirect}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (code, message)
    if "--output" in words:
        assert (tmp_path / "result").read_text()


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    reader, writer = os.pipe()
    process = subprocess.Popen([*COMMAND, "schema"], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (141, b"")


def test_a_full_disk_is_told(tmp_path):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "schema"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "standard output: No space left on device\n"


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
