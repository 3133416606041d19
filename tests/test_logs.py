"""Logs: JSON, readable lines on a terminal, no secrets in either; the events of a run."""

import io
import json
import logging
import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.support.hostile import HOSTILE, plain
from worker import logs

DAY = timedelta(days=1)

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
logging.getLogger("other").warning("not sent: %s", "gone", extra={{"task": "gc.scan"}})
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


def test_json_lines_have_their_fields():
    first, second, third = [json.loads(line) for line in logged().splitlines()]
    facts = {"event": "deleted", "level": "info", "logger": "worker.tasks", "run": "r1", "digest": "sha256:1"}
    assert facts.items() <= first.items()
    assert first["at"].endswith("Z")
    assert {
        "event": "not sent: gone",
        "level": "warning",
        "logger": "other",
        "task": "gc.scan",
    }.items() <= second.items()
    assert "ValueError: *** was refused" in third["exception"]


@contextmanager
def logged_here():
    """The log records of our own modules in this process, one line each."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    logs.configure(stream=stream)
    lines = []
    try:
        yield lines
    finally:
        root.handlers[:], root.level = handlers, level
        records = [json.loads(line) for line in stream.getvalue().splitlines()]
        lines += [line for line in records if line["logger"].startswith("worker.")]  # a library's thread may log late


def test_the_log_of_a_run_has_every_step_and_the_outcome_of_each_planned_image(simulator, make_harness):
    failing, moving, *rest = [simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY) for number in range(5)]
    simulator.push("shop/api", tags=["v1"], age=90 * DAY)
    with logged_here() as lines:
        harness = make_harness()
        run_id, task_calls = harness.plan()
        simulator.fault("fail_operation", method="DELETE", path=f"/images/{failing['id']}", code=13, message="ill")
        simulator.push("shop/api", tags=["pr-1"], age=timedelta())
        harness.carry_out(task_calls)
    assert {line["run"] for line in lines} == {run_id}
    ends = {line["digest"]: line for line in lines if line["event"].startswith("image_")}
    assert [line["event"] for line in lines if not line["event"].startswith("image_")] == [
        "run_opened", "scan_started", "planned", "recheck", "batch_started", "batch_done", "verified", "run_finished",
    ]  # fmt: skip
    assert sorted(line["digest"] for line in lines if line["event"].startswith("image_")) == sorted(
        item.decision.digest for item in harness.items(run_id)
    )
    assert {digest: line["event"] for digest, line in ends.items()} == {
        failing["digest"]: "image_failed",
        moving["digest"]: "image_skipped",
        **{image["digest"]: "image_deleted" for image in rest},
    }
    deleted = ends[rest[0]["digest"]]
    assert (deleted["repository"], deleted["tags"], deleted["bytes"]) == ("shop/api", ["pr-2"], 1500)
    assert deleted["operation"]
    assert ends[failing["digest"]]["reason"].endswith("INTERNAL: ill")
    finished = lines[-1]
    assert (finished["outcome"], finished["planned"], finished["deleted"]) == ("partial", 5, 3)
    assert finished["audit_sha256"] == harness.run(run_id).audit_sha256


def test_a_dry_run_and_a_blocked_run_end_in_the_log(simulator, make_harness):
    simulator.push("shop/api", tags=["pr-1"], age=30 * DAY)
    with logged_here() as lines:
        harness = make_harness(limits={"max_images": 0})
        harness.sweep(dry_run=True)
        blocked = harness.sweep()
        harness.sweep()
    assert [line["event"] for line in lines] == [
        *("run_opened", "scan_started", "planned", "run_finished"),
        *("run_opened", "scan_started", "planned", "blocked"),
        *("run_opened", "scan_started", "run_finished", "planned", "blocked"),
    ]
    assert (lines[7]["limits"], lines[7]["level"]) == (["max_images"], "warning")
    assert (lines[10]["run"], lines[10]["outcome"]) == (blocked.id, "blocked")


def test_verbose_logs_requests():
    events = [json.loads(line)["event"] for line in logged(verbose=True).splitlines()]
    assert {"details", "GET https://example.com"} <= set(events)


def test_a_terminal_gets_readable_lines_without_codes_from_elsewhere():
    text = logged(stream="Terminal()")
    assert "deleted" in text
    assert "run" in text
    assert "red\x1b" not in text
    assert not text.startswith("{")


def test_tracebacks_have_no_local_values_and_no_tokens():
    for text in (logged(), logged(stream="Terminal()")):
        assert "hunter2" not in text
        assert "abcdefghijklmnop" not in text


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


HOSTILE_LOG = """
import json, logging, sys
from worker import logs
class Terminal:
    def write(self, text): return sys.stderr.write(text)
    def flush(self): sys.stderr.flush()
    def isatty(self): return True
logs.configure(stream=Terminal() if sys.argv[1] == "terminal" else None)
log = logs.Log("worker.tasks")
for text in json.loads(sys.argv[2]):
    log.info("deleted", tag=text, tags=[text], nested={"tag": text})
    log.info(text)
    logging.getLogger("other").warning("not sent: %s", text, extra={"reason": text, text or "x": 1})
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("worker.tasks").exception("ended early")
"""


def hostile_log(where: str) -> str:
    command = [sys.executable, "-c", HOSTILE_LOG, where, json.dumps(list(HOSTILE.values()))]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    return done.stderr.decode()


def test_a_log_of_json_is_one_plain_line_a_record_and_loses_nothing():
    text = hostile_log("file")
    assert plain(text)
    records = [json.loads(line) for line in text.splitlines()]
    assert len(records) == 4 * len(HOSTILE)
    assert [record["tag"] for record in records[::4]] == list(HOSTILE.values())
    assert [record["event"] for record in records[1::4]] == list(HOSTILE.values())
    assert [record["reason"] for record in records[2::4]] == list(HOSTILE.values())


def test_a_log_on_a_terminal_has_no_control_characters():
    text = re.sub(r"\x1b\[(?!95)[0-9;]*m", "", hostile_log("terminal"))  # the renderer's own colours
    assert plain(text)
    assert "\\x1b[95m" in text
    assert "all is well" in text
    assert not [line for line in text.split("\n") if line.startswith("2026-11-23 [info]")], "a forged record"
