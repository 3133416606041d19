"""The supervisor with real processes: programs that end are restarted, a stop leaves no process."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.sandbox import Sandbox
from tests.support.waiting import until
from worker.processes.supervisor import Child, Program

FOREVER = ["sleep", "1000"]
DEAF = ["sh", "-c", 'trap "" TERM; echo ignores TERM; while :; do sleep 0.05; done']
# A main process that ends at SIGTERM, and its child, which records whether it received SIGTERM as well.
WAIT = "while :; do sleep 0.05; done"
FAMILY = ["sh", "-c", f'(trap "touch child-received-term" TERM; {WAIT}) & trap "exit 0" TERM; echo ready; {WAIT}']


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


@pytest.fixture
def supervise(sandbox):
    """Starts a supervisor of these programs: name=(command, patience)."""

    def start(**programs):
        listed = [[name, command, stop_seconds] for name, (command, stop_seconds) in programs.items()]
        return sandbox.running(sys.executable, str(Path(__file__).with_name("supervised.py")), json.dumps(listed))

    return start


def pid_of(sandbox, command):
    return next((pid for pid, words in sandbox.pids().items() if words.startswith(command)), None)


def test_a_killed_program_is_restarted_and_others_keep_running(sandbox, supervise):
    with supervise(one=(FOREVER, 5), two=(["sleep", "2000"], 5)) as running:
        first_pid = until(lambda: pid_of(sandbox, "sleep 1000"), what="the first")
        two = until(lambda: pid_of(sandbox, "sleep 2000"), what="the second")
        os.kill(first_pid, signal.SIGKILL)
        running.says("one was killed by SIGKILL; it is restarted in 1 s")
        until(lambda: pid_of(sandbox, "sleep 1000") not in (None, first_pid), what="the first again")
        assert pid_of(sandbox, "sleep 2000") == two
        assert running.stop() == 0
        sandbox.left_empty()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_stop_signals_main_processes_only_and_leaves_no_process(sandbox, supervise, number):
    """Even if the signal goes to the whole group, as from a terminal."""
    with supervise(family=(FAMILY, 5), one=(FOREVER, 5)) as running:
        running.says("ready")
        os.killpg(running.pid, number)
        assert running.process.wait(10) == 0
        sandbox.left_empty()
        assert "is killed" not in running.log()  # each main process received the signal in time
        assert not (sandbox.folder / "child-received-term").exists()


def test_ctrl_c_during_the_start_stops_everything(sandbox, supervise):
    programs = {f"program{number}": (FOREVER, 5) for number in range(10)}
    for _ in range(10):
        with supervise(**programs) as running:
            running.says("program0 started")
            os.killpg(running.pid, signal.SIGINT)
            assert running.process.wait(10) == 0, running.log()
            sandbox.left_empty()


def test_a_program_that_exceeds_its_stop_time_is_killed(sandbox, supervise):
    with supervise(deaf=(DEAF, 0.3)) as running:
        running.says("ignores TERM")
        running.process.terminate()
        running.says("deaf did not end within 0.3 s and is killed")
        assert running.process.wait(10) == 0
        sandbox.left_empty()


def test_a_second_signal_kills_at_once(sandbox, supervise):
    with supervise(deaf=(DEAF, 1000)) as running:
        running.says("ignores TERM")
        running.process.terminate()
        running.says("stopping deaf")
        running.process.terminate()
        assert running.process.wait(10) == 0
        sandbox.left_empty()


def test_the_programs_of_a_killed_supervisor_end(sandbox, supervise):
    with supervise(one=(FOREVER, 5), two=(FOREVER, 5)) as running:
        until(lambda: len(sandbox.pids()) == 3, what="the supervisor and its two")
        running.process.kill()
        running.process.wait()
        sandbox.left_empty()


def test_a_program_that_fails_is_restarted_with_growing_pauses(sandbox, supervise):
    with supervise(absent=(["/no/such/program"], 5), brief=(["sh", "-c", "exit 3"], 5)) as running:
        running.says("absent cannot be started: No such file or directory; the next try is in 1 s")
        running.says("brief ended with exit code 3; it is restarted in 1 s")
        running.says("brief ended with exit code 3; it is restarted in 2 s")
        running.says("absent cannot be started: No such file or directory; the next try is in 2 s")
        assert running.stop(timeout=5) == 0  # not after the pause


def test_the_pause_doubles_up_to_a_minute_and_is_reset_after_a_stable_minute():
    child = Child(Program("one", ("true",), 1.0))
    child.started_at = 1000.0
    assert [child.schedule_restart(1001.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert child.start_at == 1061.0
    child.started_at = 2000.0
    assert [child.schedule_restart(2060.0), child.schedule_restart(2059.0)] == [1, 2]
