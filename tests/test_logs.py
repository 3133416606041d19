"""Logs: JSON where nobody reads along, readable at a terminal, secrets in neither."""

import json
import subprocess
import sys

import pytest

from worker.text import masked

SCRIPT = """
import logging, sys
from worker import logs
class Terminal:
    def write(self, text): return sys.stderr.write(text)
    def flush(self): sys.stderr.flush()
    def isatty(self): return True
logs.configure(verbose={verbose}, stream={stream})
log = logs.Log("worker.tasks")
log.info("deleted", run="r1", digest="sha256:1", tag="red\\x1b[31m")
logging.getLogger("other").warning("not rung: %s", "gone", extra={{"task": "gc.scan"}})
logging.getLogger("httpx").info("GET https://example.com")
log.debug("details")
try:
    secret = "hunter2-in-a-frame"
    raise ValueError("Bearer abcdefghijklmnop was refused")
except ValueError:
    logging.getLogger("worker.tasks").exception("ended early")
"""


def logged(*, verbose=False, stream="None"):
    script = SCRIPT.format(verbose=verbose, stream=stream)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == ""
    return done.stderr


def test_json_lines_hold_their_fields():
    first, second, third = [json.loads(line) for line in logged().splitlines()]
    facts = {"event": "deleted", "level": "info", "logger": "worker.tasks", "run": "r1", "digest": "sha256:1"}
    assert facts.items() <= first.items()
    assert first["at"].endswith("Z")
    assert {
        "event": "not rung: gone",
        "level": "warning",
        "logger": "other",
        "task": "gc.scan",
    }.items() <= second.items()
    assert "ValueError: *** was refused" in third["exception"]


def test_verbose_says_more():
    events = [json.loads(line)["event"] for line in logged(verbose=True).splitlines()]
    assert {"details", "GET https://example.com"} <= set(events)


def test_a_terminal_gets_readable_lines_without_codes_from_elsewhere():
    text = logged(stream="Terminal()")
    assert "deleted" in text
    assert "run" in text
    assert "red\x1b" not in text
    assert not text.startswith("{")


def test_no_frame_s_values_and_no_tokens_are_told():
    for text in (logged(), logged(stream="Terminal()")):
        assert "hunter2" not in text
        assert "abcdefghijklmnop" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("token t1.9euelZqOnJyWm5aNl5OXlM0 expired", "token *** expired", id="an IAM token"),
        pytest.param("Authorization: Bearer abc.def-ghi_jkl", "Authorization: ***", id="a header"),
        pytest.param("Basic aWFtOnNlY3JldA==", "***", id="a basic header"),
        pytest.param("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0", id="a password in a URL"),
        pytest.param("postgresql+psycopg://gc:hunter2@db/gc", "postgresql+psycopg://***@db/gc", id="with its user"),
        pytest.param("eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", "***", id="a JWT"),
        pytest.param(
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nnext", "***\nnext", id="a private key"
        ),
        pytest.param("-----BEGIN PRIVATE KEY-----\\nMIIE", "***", id="a cut private key"),
        pytest.param(
            "v1@sha256:9f86, basic authentication", "v1@sha256:9f86, basic authentication", id="nothing secret"
        ),
        pytest.param("https://cr.yandex/v2/a@sha256:1", "https://cr.yandex/v2/a@sha256:1", id="a digest in a URL"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, shown):
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("error", "verbose", "traced"),
    [
        pytest.param("redis.exceptions.ConnectionError('refused')", False, False, id="Redis away"),
        pytest.param("kombu.exceptions.OperationalError('refused')", False, False, id="the broker away"),
        pytest.param("ConnectionResetError('reset')", False, False, id="a connection reset"),
        pytest.param("redis.exceptions.ConnectionError('refused')", True, True, id="on request the whole"),
        pytest.param("ValueError('refused')", False, True, id="a mistake of ours"),
    ],
)
def test_a_lost_connection_is_one_line(error, verbose, traced):
    script = f"""
import logging, kombu.exceptions, redis.exceptions
from worker import logs
logs.configure(verbose={verbose})
try:
    raise {error}
except Exception as error:
    logging.getLogger("celery.beat").error("connection error: %r", error, exc_info=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    (line,) = [json.loads(line) for line in done.stderr.splitlines() if "connection error" in line]
    assert line["event"].startswith("connection error: ")
    assert ("exception" in line) is traced
