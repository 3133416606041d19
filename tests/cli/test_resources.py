"""Resources of commands: the store if it exists, known registries, a local rate limit, a log with --verbose."""

import contextlib
import json
import sqlite3

import pytest

from tests.support.servers import free_port

POLICY = "policies: {nightly: [{name: leftovers, delete: {untagged: true, older_than: 7d}}]}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml; known: none"),
        (["inventory", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml; known: none"),
        (["sweep", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml; known: none"),
        (["show", "nothing"], "no run has the id 'nothing'; the store does not exist yet"),
        (["approve", "nothing"], "no run has the id 'nothing'; the store does not exist yet"),
        (["abort", "nothing"], "no run has the id 'nothing'; the store does not exist yet"),
        (["runs", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml or its store; known: none"),
        (["audit", "nowhere"], "there is no registry 'nowhere' in {folder}/registry-gc.yaml or its store; known: none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unknown_registry_or_run_is_exit_code_2(gc, tmp_path, words, message):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    done = gc(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err == message.format(folder=tmp_path) + "\n"
    assert not (tmp_path / "gc.db").exists()


def test_an_unreadable_store_is_exit_code_1(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    (tmp_path / "gc.db").write_text("this is no database, and long enough to be seen as none" * 100)
    for words in (["runs"], ["audit"], ["show", "a"], ["approve", "a"], ["abort", "a"]):
        done = gc(*words)
        assert (done.code, done.out) == (1, ""), words
        assert len(done.err.splitlines()) == 1
        assert "store" in done.err


def test_reading_does_not_migrate_the_store(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    (tmp_path / "gc.db").touch()
    done = gc("runs")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "gc.db")) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == []


def test_verbose_logs_requests_without_tokens(mixed, make_harness, gc):
    make_harness()
    done = gc("plan", "production", "--verbose", "--format", "json")
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert any("/container-registry/v1/images" in event for event in events)
    assert mixed.token not in done.err
    assert done.json["totals"]["images"] == 7


def test_plan_warns_and_continues_without_redis(mixed, make_harness, gc):
    port = free_port()
    make_harness(redis=f"redis://127.0.0.1:{port}/0")
    done = gc("plan", "production", "--format", "json")
    assert done.code == 0
    assert done.json["totals"]["images"] == 7
    assert done.err.count("warning: ") == 1
    assert "this command limits its own rate instead" in done.err
