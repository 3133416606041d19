"""The Redis that is used, and descriptions of its errors without a part of its URL."""

import errno
import socket
from pathlib import Path

import pytest
from redis import exceptions

from worker.config.broker import NoRedisError, celery_url, describe_redis_error, redis_url
from worker.config.files import own_redis_file
from worker.config.settings import Settings, load

URL = "redis://:hunter2@cache.example.com:6379/0"


def settings(folder: Path, text: str = "policies: {}", **environ: str) -> Settings:
    file = folder / "registry-gc.yaml"
    file.write_text(text)
    return load(file, environ={"HOME": str(folder), **environ})


def test_prefers_the_configured_redis_to_its_own(tmp_path: Path) -> None:
    environ = {"STATE_DIRECTORY": str(tmp_path)}
    own_redis_file(environ).write_text("redis://127.0.0.1:7000/0\n")
    configured = settings(tmp_path, "redis: {env: REDIS}\npolicies: {}", REDIS=URL)
    assert redis_url(configured, environ) == URL
    assert redis_url(settings(tmp_path), environ) == "redis://127.0.0.1:7000/0"


def test_raises_without_a_configured_redis_or_its_own(tmp_path: Path) -> None:
    with pytest.raises(NoRedisError, match="no redis is configured, and `registry-gc up`"):
        redis_url(settings(tmp_path), {"STATE_DIRECTORY": str(tmp_path)})


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.AuthenticationError("invalid hunter2"), "Redis refuses the user or the password"),
        (exceptions.NoPermissionError("hunter2"), "the user of Redis lacks a permission"),
        (exceptions.TimeoutError("Timeout connecting to hunter2"), "no answer in time"),
        (socket.gaierror(-2, "hunter2"), "the host name of Redis cannot be resolved"),
        (exceptions.ResponseError("OOM command not allowed\nhunter2"), "OOM command not allowed"),
        (exceptions.ResponseError(""), "an empty error"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "hunter2"), "Connection refused"),
        (exceptions.ConnectionError("Error connecting to hunter2"), "the connection failed"),
        (caused(exceptions.ConnectionError("hunter2"), OSError(errno.EHOSTUNREACH, "hunter2")), "No route to host"),
        (caused(exceptions.ConnectionError("hunter2"), socket.gaierror(-2, "x")),
         "the host name of Redis cannot be resolved"),
    ],
)  # fmt: skip
def test_describes_an_error_of_redis_without_its_url(error: Exception, words: str) -> None:
    assert describe_redis_error(error) == words


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("unix:///run/redis.sock?db=0", "redis+socket:///run/redis.sock?db=0"),
        ("rediss://host/0", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_ca_certs=/ca", "rediss://host/0?ssl_ca_certs=/ca&ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
    ],
)
def test_converts_the_url_for_celery(url, expected):
    assert celery_url(url) == expected
