"""`after_run`: a command or a URL, at least once, without an effect on the run."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.harness import Harness, MakeHarness
from tests.support.simulator.client import Simulator
from tests.support.webhook import SECRET, Webhook
from worker.notify import after_run
from worker.runs.lifecycle import TaskCall
from worker.runs.outcome import run_json

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

# Appends its input to a file, and exits with the code in the second argument.
COLLECTOR = """\
import pathlib, sys
with open(sys.argv[1], "a") as file:
    file.write(sys.stdin.read())
print("collecting")
print(sys.argv[3:], file=sys.stderr)
sys.exit(int(pathlib.Path(sys.argv[2]).read_text()))
"""


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The log records during the test: event, level and fields of each."""
    lines: list[dict[str, Any]] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append({**vars(record), "event": record.getMessage(), "log_level": record.levelname.lower()})

    logger, handler = logging.getLogger(after_run.__name__), Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook().listening() as listening:
        yield listening


@pytest.fixture
def make_harness(simulator: Simulator, tmp_path: Path) -> Iterator[MakeHarness]:
    made: list[Harness] = []

    def make(**keys: Any) -> Harness:
        for number in range(2):
            simulator.push("shop/api", tags=[f"pr-{number}"], age=30 * DAY, layers=[1000])
        made.append(Harness(simulator, tmp_path, **keys))
        return made[-1]

    yield make
    for harness in made:
        harness.store.dispose()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "code").write_text("0")
    return [sys.executable, "-c", COLLECTOR, str(tmp_path / "got"), str(tmp_path / "code"), "$HOME", "; false"]


def got(folder: Path) -> list[dict[str, Any]]:
    path = folder / "got"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def minute(harness: Harness, after: timedelta = timedelta()) -> list[str]:
    """Execute the tasks that reconcile publishes at a time from now; returns their names."""
    task_calls = harness.reconcile(after)
    for task_call in task_calls:
        after_run.start(harness.store, harness.settings, str(task_call.args[0]), datetime.now(UTC) + after)
    return [task_call.task for task_call in task_calls]


def test_executes_a_command_once_with_the_run_and_without_a_shell(
    make_harness: MakeHarness, command: list[str], tmp_path: Path
) -> None:
    harness = make_harness(after_run={"command": command})
    run = harness.sweep()
    with capture_logs() as logs:
        assert minute(harness) == ["gc.after_run"]
        assert minute(harness, 10 * MINUTE) == []
    assert got(tmp_path) == [json.loads(msgspec.json.encode(run_json(run)))]
    assert (run.outcome, got(tmp_path)[0]["deleted"]) == ("succeeded", 2)
    assert [line["event"] for line in logs if "after_run" in line["event"]] == [
        "after_run_started",
        "after_run_succeeded",
    ]
    assert not [line for line in logs if "$HOME" in str(line)], "arguments may be secrets"


def test_ignores_a_run_that_deleted_nothing(make_harness: MakeHarness, command: list[str], tmp_path: Path) -> None:
    harness = make_harness(after_run={"command": command})
    harness.sweep(dry_run=True)
    assert minute(harness) == []
    assert got(tmp_path) == []


def test_tries_three_times_and_never_changes_the_run(
    make_harness: MakeHarness, command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "code").write_text("3")
    harness = make_harness(after_run={"command": command})
    run = harness.sweep()
    with capture_logs() as logs:
        done = [minute(harness, number * MINUTE) for number in range(12)]
    assert [bool(tasks) for tasks in done].count(True) == 3
    assert len(got(tmp_path)) == 3
    assert harness.run(run.id) == run
    said = [line for line in logs if "failed" in line["event"]]
    assert [line["log_level"] for line in said] == ["warning", "warning", "error"]
    assert said[0]["reason"] == "the command ended with exit code 3: ['$HOME', '; false']"


def test_kills_a_slow_command_with_its_children(make_harness: MakeHarness, tmp_path: Path) -> None:
    harness = make_harness(after_run={"command": ["sh", "-c", f"sleep 300 & echo $! > {tmp_path}/pid; wait"]})
    run = harness.sweep()
    with capture_logs() as logs:
        after_run.start(harness.store, harness.settings, run.id, datetime.now(UTC), seconds=1.0)
    assert logs[-1]["reason"] == "the command did not end within 1 s"
    pid = int((tmp_path / "pid").read_text())
    ends = time.monotonic() + 10
    while _lives(pid):
        assert time.monotonic() < ends
    assert harness.reconcile(5 * MINUTE) == (TaskCall("gc.after_run", (run.id,)),)


def _lives(pid: int) -> bool:
    """In some containers no process reaps an orphan, so a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_reports_a_missing_program(make_harness: MakeHarness) -> None:
    harness = make_harness(after_run={"command": ["/nowhere/collector"]})
    harness.sweep()
    with capture_logs() as logs:
        minute(harness)
    assert [line["reason"] for line in logs if "reason" in line] == [
        "the command cannot be started: No such file or directory"
    ]


def test_repeats_an_attempt_after_a_crash(make_harness: MakeHarness, command: list[str], tmp_path: Path) -> None:
    """A try is counted before it begins: one that dies is made again, and a third that dies is the last."""
    harness = make_harness(after_run={"command": ["sh", "-c", "kill -9 $PPID"]})
    run = harness.sweep()
    for number in range(3):
        child = os.fork()
        if child == 0:
            harness.store.engine.dispose(close=False)
            after_run.start(harness.store, harness.settings, run.id, datetime.now(UTC) + number * 5 * MINUTE)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert harness.reconcile(number * 5 * MINUTE) == (), "not at once"
        assert harness.reconcile((number + 1) * 5 * MINUTE) == (TaskCall("gc.after_run", (run.id,)),)
    harness.rewrite(after_run={"command": command})
    assert minute(harness, 20 * MINUTE) == ["gc.after_run"]
    assert minute(harness, 30 * MINUTE) == []
    assert got(tmp_path) == []


def test_sends_the_run_and_the_token_to_a_url(make_harness: MakeHarness, hook: Webhook, tmp_path: Path) -> None:
    (tmp_path / "bearer").write_text(SECRET)
    url = f"http://{hook.address}/collect?key={SECRET}"
    harness = make_harness(after_run={"url": url, "token": {"file": str(tmp_path / "bearer")}})
    run = harness.sweep()
    hook.status = 503
    with capture_logs() as logs:
        minute(harness)
        hook.status = 200
        minute(harness, 5 * MINUTE)
        assert minute(harness, 10 * MINUTE) == []
    assert hook.received == [(f"/collect?key={SECRET}", json.loads(msgspec.json.encode(run_json(run))))] * 2
    assert [line["reason"] for line in logs if "reason" in line] == ["answers 503"]
    assert SECRET not in str(logs)


def test_ignores_a_run_of_long_ago(make_harness: MakeHarness, command: list[str], tmp_path: Path) -> None:
    """A key that is added later does not apply to earlier runs."""
    harness = make_harness()
    harness.sweep()
    assert minute(harness) == []
    harness.rewrite(after_run={"command": command})
    assert minute(harness) == []
    harness = make_harness(after_run={"command": command})
    harness.sweep()
    assert minute(harness, 2 * DAY) == []
    assert got(tmp_path) == []
