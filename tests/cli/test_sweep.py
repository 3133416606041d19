"""`sweep`, `approve` and `abort`, and waiting for the end of a run."""

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.command import COMMAND, on_a_terminal
from tests.support.servers import free_port, redis_server
from tests.support.waiting import until
from worker.runs import lifecycle as life
from worker.store import runs

DAY = timedelta(days=1)


def test_approve_needs_no_credentials_of_a_registry(filled, make_harness, gc, tmp_path):
    """Otherwise an approval would wait for the next reconcile."""
    with redis_server() as redis:
        run = make_harness(limits={"max_images": 1}, redis=redis.url).sweep().id
        (tmp_path / "token").unlink()
        done = gc("approve", run)
    assert (done.code, done.err) == (0, "")


def test_a_finished_run_cannot_be_aborted(filled, make_harness, gc):
    run = make_harness().sweep().id
    before = gc("runs", "--format", "json").json
    done = gc("abort", run)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"run {run} is succeeded already: nothing was stopped\n"
    assert gc("runs", "--format", "json").json == before


def test_sweep_opens_one_run_without_redis(make_harness, gc):
    make_harness(redis=f"redis://127.0.0.1:{free_port()}/0")
    first, second = gc("sweep", "production", "--format", "json"), gc("sweep", "production")
    assert first.code == 0
    assert (first.json["state"], first.json["trigger"], first.json["mode"]) == ("pending", "command", "delete")
    assert first.err.splitlines()[-1].startswith("warning: Redis accepts no messages; the run is open")
    assert (second.code, second.out) == (4, "")
    assert second.err == (
        f"production: run {first.json['id']} is active; wait for it, or `registry-gc abort {first.json['id']}`\n"
    )


@pytest.mark.parametrize(
    ("words", "environ"),
    [(["--dry-run"], {}), ([], {"REGISTRY_GC_MODE": "dry-run"})],
    ids=["by its option", "by the environment"],
)
def test_a_sweep_can_be_a_dry_run_although_the_file_says_delete(make_harness, gc, words, environ):
    make_harness()
    assert gc("sweep", "production", *words, "--format", "json", **environ).json["mode"] == "dry-run"


def test_a_blocked_run_is_approved_or_aborted(filled, make_harness, gc):
    made = make_harness(limits={"max_images": 1})
    blocked = made.sweep().id
    assert "The plan is over its limits" not in gc("show", blocked).err
    assert "over limits max_images is 2, allowed 1" in gc("show", blocked).out.replace("  ", " ")
    approved = gc("approve", blocked, "--format", "json")
    assert (approved.code, approved.json["state"]) == (0, "deleting")
    # No worker has received the tasks that the command published.
    made.carry_out(life.next_task_calls(made.store, blocked, datetime.now(UTC), again_after=timedelta()))
    assert made.run(blocked).outcome == "succeeded"
    again = gc("approve", blocked)
    assert (again.code, again.out, len(again.err.splitlines())) == (1, "", 1)

    filled.push("shop/api", tags=["pr-8"], age=52 * DAY)
    filled.push("shop/api", tags=["pr-9"], age=52 * DAY)
    other = made.sweep().id
    assert gc("abort", other, "--format", "json").json["outcome"] == "aborted"
    assert made.run(other).deleted == 0


def test_show_names_who_started_approved_and_aborted_a_run(filled, make_harness, gc):
    made = make_harness(limits={"max_images": 1})
    opened = gc("sweep", "production", "--who", "anna", "--format", "json").json
    assert opened["opened_by"] == "anna"
    made.carry_out(made.reconcile())
    gc("approve", opened["id"], "--who", "ben, on call", "--format", "json")
    gc("abort", opened["id"], "--who", "cleo")
    shown = gc("show", opened["id"], "--format", "json").json
    people = {"opened_by": "anna", "approved_by": "ben, on call", "aborted_by": "cleo"}
    assert {name: shown.get(name) for name in people} == people
    text = gc("show", opened["id"]).out
    assert all(f"{name.replace('_', ' '):<12}{who}" in text for name, who in people.items())


def test_a_scheduled_run_has_no_opened_by(filled, make_harness, gc):
    run = make_harness().sweep().id
    assert "opened_by" not in gc("show", run, "--format", "json").json


def test_approve_warns_of_a_changed_file(filled, make_harness, gc):
    made = make_harness(limits={"max_images": 1})
    blocked = made.sweep().id
    made.rewrite(limits={"max_images": 1}, rules=[{"name": "everything", "keep": {"all": True}}])
    approved = gc("approve", blocked, "--format", "json")
    assert (approved.code, approved.json["state"]) == (0, "deleting")
    assert f"warning: the policy 'nightly' is another one than run {blocked} was planned by" in approved.err


def test_wait_reports_the_finished_run(filled, make_harness, tmp_path):
    made = make_harness()
    process = subprocess.Popen(
        [*COMMAND, "sweep", "production", "--wait", "--format", "json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    task_calls = until(made.reconcile, what="the run to be opened")
    made.carry_out(task_calls)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out)["outcome"] == "succeeded"
    assert json.loads(out)["deleted"] == 2


def test_wait_shows_a_progress_bar_on_a_terminal(filled, make_harness, tmp_path):
    made = make_harness()
    words = [*COMMAND, "sweep", "production", "--wait"]
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(on_a_terminal, words, tmp_path)
        made.carry_out(until(made.reconcile, what="the run to be opened"))
        code, written = command.result(timeout=30)
    with made.store.read() as connection:
        (run,) = runs.newest(connection)
    assert code == 0
    assert f"run {run.id}" in written
    assert "━" in written
    assert written.splitlines()[-1].endswith("2 images planned, 1.4 KiB reclaimable; 2 deleted; 1.4 KiB reclaimed")


@pytest.mark.parametrize(
    ("registry", "code"),
    [
        pytest.param({"limits": {"max_images": 1}}, 3, id="blocked"),
        pytest.param({"limits": {"max_images": 1}, "mode": "dry-run"}, 3, id="a dry run over its limits"),
        pytest.param({"mode": "dry-run"}, 0, id="a dry run"),
        pytest.param({"id": "elsewhere"}, 1, id="failed"),
    ],
)
def test_the_exit_code_of_wait(filled, make_harness, gc, tmp_path, registry, code):
    made = make_harness(**registry)
    words = [*COMMAND, "sweep", "production", "--wait"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    made.carry_out(until(made.reconcile, what="the run to be opened"))
    out, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert out.startswith(b"run ")
    over = b"The plan is over its limits: max_images is 2, allowed 1." in errors
    assert over is (code == 3 and registry.get("mode") == "dry-run")
    (run,) = gc("runs", "--format", "json").json["runs"]
    assert ("over limits max_images is 2, allowed 1" in gc("show", run["id"]).out) is (code == 3)


def test_wait_says_that_no_worker_takes_the_run(make_harness, tmp_path):
    made = make_harness()
    process = subprocess.Popen(
        [*COMMAND, "sweep", "production", "--wait"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, b"")
    assert next(line for line in lines if b"no worker has taken the run yet" in line)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read().decode()
    assert process.wait(30) == 130
    assert "continues; `registry-gc abort" in rest
    with made.store.read() as connection:
        assert [run.state for run in runs.newest(connection)] == ["pending"]
