"""`runs`, `show` and `audit` of real runs, and a person's words on them: `sweep`, `approve`, `abort`."""

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from tests.support.command import COMMAND, on_a_terminal
from tests.support.servers import free_port, redis_server
from tests.support.waiting import until
from worker.cli.options import me
from worker.runs import lifecycle as life
from worker.store import runs

ROOT = Path(__file__).resolve().parents[2]
DAY = timedelta(days=1)
SECRET = "a secret must be there and readable before anything starts"
RUN_KEYS = [
    "id", "registry", "trigger", "task_id", "mode", "state", "outcome", "scheduled_for", "started_at", "finished_at",
    "policy_sha256", "plan_sha256", "message", "images", "planned", "deleted", "gone", "skipped", "failed",
    "selected_bytes", "reclaimable_bytes", "reclaimed_bytes", "registry_bytes",
]  # fmt: skip


@pytest.fixture
def filled(simulator):
    simulator.push("shop/api", tags=["v1.0.0"], layers=["base:1000", 10], age=100 * DAY)
    simulator.push("shop/api", tags=["pr-1"], layers=["base:1000", 200], age=52 * DAY)
    simulator.push("shop/web", tags=["pr-2", "pr-3"], layers=["base:1000", 300], age=20 * DAY)
    return simulator


def test_a_finished_run(filled, night, gc):
    made = night()
    done = made.sweep()
    (run,) = gc("runs", "--format", "json").json["runs"]
    assert list(run) == RUN_KEYS
    facts = ("id", "registry", "trigger", "mode", "state", "outcome", "images", "planned", "deleted", "failed")
    assert [run[key] for key in facts] == [
        done.id, "production", "command", "delete", "finished", "succeeded", 3, 2, 2, 0,
    ]  # fmt: skip
    assert run["reclaimed_bytes"] == run["reclaimable_bytes"] == filled.state()["lost_bytes"]
    assert run["started_at"] <= run["finished_at"]

    shown = gc("show", done.id, "--format", "json").json
    items = shown.pop("items")
    assert shown == run | {"emptied_repositories": ["shop/web"]}
    assert [(item["tags"], item["state"], item["outcome_cause"]) for item in items] == [
        (["pr-1"], "deleted", None),
        (["pr-2", "pr-3"], "deleted", None),
    ]
    assert list(items[0])[-6:] == ["state", "outcome_cause", "message", "operation_id", "attempts", "at"]
    assert all(item["operation_id"] and item["attempts"] == 1 for item in items)

    first, *rest = gc("show", done.id, "--format", "ndjson").lines
    assert (first, rest) == (shown, items)
    assert gc("runs", "--format", "ndjson").lines == [run]


def test_why_an_image_was_not_deleted_is_shown(filled, night, gc):
    made = night()
    run_id, bells = made.plan()
    filled.tag("shop/api", "pr-1", "stable")
    made.ring(bells)
    why = "its tags are pr-1, stable now, planned pr-1"
    shown = gc("show", run_id, "--format", "json").json
    assert [item["message"] for item in shown["items"]] == [why, None]
    assert (
        shown["message"]
        == f"1 of 2 images skipped (changed), for example shop/api@{shown['items'][0]['digest']}: {why}"
    )
    assert [line.get("message") for line in gc("show", run_id, "--format", "ndjson").lines][1:] == [why, None]
    table = gc("show", run_id).out
    assert f"skipped: changed  {why}; planned: every tag matches pr-*" in table
    assert "1 of 2 images skipped (changed)" in gc("runs").out


def test_the_tables(filled, night, gc):
    done = night().sweep()
    table, show, audit = gc("runs").out, gc("show", done.id).out, gc("audit").out
    assert [line.split()[0] for line in table.splitlines()] == ["RUN", done.id]
    assert "succeeded" in table
    assert "done        2 deleted; " in show
    assert "every tag matches pr-*; 52 days old, at least 14" in show
    assert [line.split()[2] for line in audit.splitlines()] == ["REPOSITORY", "shop/web", "shop/api"]


def test_the_audit(filled, night, gc):
    done = night().sweep()
    newest, oldest = gc("audit", "production", "--format", "json").json["deletions"]
    assert list(newest) == [
        "at", "registry", "repository", "digest", "id", "tags", "run", "outcome", "operation_id", "reclaimed_bytes",
        "created_at", "size", "cause", "rule", "reason", "seq", "sha256", "facts",
    ]  # fmt: skip
    assert (newest["run"], newest["outcome"], newest["rule"]) == (done.id, "deleted", "pull requests")
    assert newest["reclaimed_bytes"] + oldest["reclaimed_bytes"] == filled.state()["lost_bytes"]

    def found(reference):
        return [one["id"] for one in gc("audit", "production", reference, "--format", "ndjson").lines]

    assert found("shop/web:pr-3") == [newest["id"]]
    assert found(f"shop/api@{oldest['digest']}") == [oldest["id"]]
    assert found(oldest["id"]) == [oldest["id"]]

    def between(*words):
        return [one["id"] for one in gc("audit", "--format", "ndjson", *words).lines]

    assert between("--since", newest["at"]) == [newest["id"]]
    assert between("--until", newest["at"]) == [oldest["id"]]
    assert between("--since", oldest["at"], "--until", "9999-01-01") == [newest["id"], oldest["id"]]
    assert found("shop/web:PR-3") == found("shop/api:pr-3") == found("shop/web:pr") == []
    assert (gc("audit", "production", "shop/web:never").code, gc("audit", "production", "crp1").code) == (0, 0)


RECIPE = re.search(r"```python\n(import hashlib.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)


def test_the_chain_is_verified_also_from_an_export_alone(filled, night, gc, tmp_path):
    made = night()
    assert gc("audit", "--verify").out == "the audit's chain holds: 0 rows; head none yet\n"
    made.sweep()
    newest, oldest = gc("audit", "--format", "ndjson").lines
    found = gc("audit", "--verify")
    span = f"from {oldest['at'][:19]}Z to {newest['at'][:19]}Z"
    told = gc("audit", "--verify", "--format", "json").json
    head = told.pop("head")
    assert (found.code, found.out) == (0, f"the audit's chain holds: 2 rows, {span}; head {head}\n")
    assert told == {"rows": 2, "from": oldest["at"], "to": newest["at"], "anchor": "", "broken": None}

    assert RECIPE is not None
    program = tmp_path / "verify.py"
    program.write_text(RECIPE[1])

    def recipe(lines, *words):
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        done = subprocess.run(
            [sys.executable, program, *words], input=text, capture_output=True, text=True, check=False
        )
        return done.stdout or done.stderr

    assert recipe([oldest, newest]) == f"2 rows hold\n{newest['run']} {newest['sha256']}\n"
    assert recipe([newest], oldest["sha256"]) == f"1 rows hold\n{newest['run']} {newest['sha256']}\n"
    doctored = oldest | {"facts": oldest["facts"].replace("pr-1", "pr-9")}
    for lines, seq in (([newest], 2), ([newest, oldest], 2), ([doctored, newest], 1)):
        assert recipe(lines) == f"seq {seq} does not hold\n"
    assert recipe([oldest, newest | {"digest": oldest["digest"]}]) == "seq 2 does not hold\n"


def test_a_chain_that_does_not_hold(filled, night, gc):
    made = night()
    made.sweep()
    newest, oldest = gc("audit", "--format", "ndjson").lines
    head = gc("audit", "--verify", "--format", "json").json["head"]
    for noted in (head, newest["sha256"], oldest["sha256"]):
        assert gc("audit", "--verify", "--head", noted).code == 0
    done = gc("audit", "--verify", "--head", "0" * 64)
    assert (done.code, done.out) == (1, "")
    assert "the noted head is not in the chain" in done.err
    with made.store.write() as connection:
        connection.execute(text("update audit set reclaimed_bytes = 1 where seq = 2"))
    done = gc("audit", "--verify")
    assert (done.code, done.out) == (1, "")
    row = f"seq 2, {newest['at'][:19]}Z, production, shop/web@{newest['digest']}"
    row = f"{row} does not follow the row before it: it was changed or inserted, or what was between them was removed"
    assert done.err == f"the audit's chain does not hold: {row}; 1 row before that\n"
    done = gc("audit", "--verify", "--format", "json")
    assert (done.code, done.json["broken"]) == (1, row)


@pytest.mark.parametrize(
    "words",
    [
        ["--verify", "production"],
        ["--verify", "--since", "2026-01-01"],
        ["--head", "0" * 64],
        ["--verify", "--head", "x"],
        ["--since", "yesterday"],
    ],
    ids=" ".join,
)
def test_questions_that_the_audit_cannot_be_asked(night, gc, words):
    night()
    done = gc("audit", *words)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)


def test_without_a_store_nothing_is_verified(night, gc, tmp_path):
    made = night()
    made.store.dispose()
    for file in tmp_path.glob("registry-gc.db*"):
        file.unlink()
    done = gc("audit", "--verify")
    assert (done.code, done.err) == (1, "there is no store yet, and so no audit to verify\n")
    assert list(tmp_path.glob("registry-gc.db*")) == []


def test_runs_are_newest_first_and_can_be_fewer(filled, night, gc):
    made = night(mode="dry-run")
    ids = [made.sweep().id for _ in range(3)]
    assert [run["id"] for run in gc("runs", "--format", "json").json["runs"]] == ids[::-1]
    assert [run["id"] for run in gc("runs", "--limit", "1", "--format", "json").json["runs"]] == ids[-1:]


def test_registries_that_are_known_to_the_file_or_to_the_store(filled, night, gc, tmp_path):
    done = night().sweep()
    for words in (["runs", "elsewhere"], ["audit", "elsewhere"]):
        refused = gc(*words)
        assert (refused.code, refused.out) == (2, "")
        where = f"{tmp_path}/registry-gc.yaml or its store"
        assert refused.err == f"there is no registry 'elsewhere' in {where}; known: production\n"
    file = tmp_path / "registry-gc.yaml"
    file.write_text(file.read_text().replace("production", "renamed"))
    assert gc("runs", "renamed").out == "No runs yet.\n"
    assert gc("audit", "renamed").out == "Nothing was deleted.\n"
    assert done.id in gc("runs", "production").out
    assert done.id in gc("audit", "production").out
    assert gc("runs", "elsewhere").err.endswith("known: production, renamed\n")


def test_the_past_needs_no_key_of_a_registry(filled, night, gc, tmp_path):
    run = night(limits={"max_images": 1}).sweep().id
    file = tmp_path / "registry-gc.yaml"
    written = yaml.safe_load(file.read_text())
    written["registries"]["production"]["credentials"] = {"iam_token": {"env": "NO_SUCH_TOKEN"}}
    file.write_text(yaml.safe_dump(written))
    assert gc("check").code == gc("sweep", "production").code == 2
    for words in (["runs"], ["show", run], ["audit"], ["approve", run], ["abort", run]):
        done = gc(*words)
        assert (done.code, "NO_SUCH_TOKEN" in done.err) == (0, False), words
    written["store"] = {"env": "NO_SUCH_STORE"}
    file.write_text(yaml.safe_dump(written))
    for words in (["runs"], ["show", run], ["audit"], ["approve", run], ["abort", run]):
        done = gc(*words)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"registry-gc.yaml: store: environment variable NO_SUCH_STORE is not set; {SECRET}\n"


def test_a_bell_needs_no_key_of_a_registry(filled, night, gc, tmp_path):
    """Else a person's word would wait for the next reconcile."""
    with redis_server() as redis:
        run = night(limits={"max_images": 1}, redis=redis.url).sweep().id
        (tmp_path / "token").unlink()
        done = gc("approve", run)
    assert (done.code, done.err) == (0, "")


def test_there_is_no_such_run(night, gc):
    night()
    for words in (["show", "x"], ["approve", "x"], ["abort", "x"]):
        done = gc(*words)
        assert (done.code, done.out) == (2, "")
        assert done.err == "no run has the id 'x'; `registry-gc runs` lists them\n"


def test_what_has_ended_cannot_be_stopped(filled, night, gc):
    run = night().sweep().id
    before = gc("runs", "--format", "json").json
    done = gc("abort", run)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"run {run} is succeeded already: nothing was stopped\n"
    assert gc("runs", "--format", "json").json == before


def test_sweep_opens_one_run_even_without_redis(night, gc):
    night(redis=f"redis://127.0.0.1:{free_port()}/0")
    first, second = gc("sweep", "production", "--format", "json"), gc("sweep", "production")
    assert first.code == 0
    assert (first.json["state"], first.json["trigger"], first.json["mode"]) == ("pending", "command", "delete")
    assert first.err.splitlines()[-1].startswith("warning: Redis takes no messages; the run is open")
    assert (second.code, second.out) == (4, "")
    assert second.err == (
        f"production: run {first.json['id']} is active; wait for it, or `registry-gc abort {first.json['id']}`\n"
    )


@pytest.mark.parametrize(
    ("words", "environ"),
    [(["--dry-run"], {}), ([], {"REGISTRY_GC_MODE": "dry-run"})],
    ids=["by its option", "by the environment"],
)
def test_a_sweep_can_be_more_careful_than_the_file(night, gc, words, environ):
    night()
    assert gc("sweep", "production", *words, "--format", "json", **environ).json["mode"] == "dry-run"


def test_a_blocked_run_is_approved_or_aborted(filled, night, gc):
    made = night(limits={"max_images": 1})
    blocked = made.sweep().id
    assert "The plan is over its limits" not in gc("show", blocked).err
    assert "over limits max_images is 2, allowed 1" in gc("show", blocked).out.replace("  ", " ")
    approved = gc("approve", blocked, "--format", "json")
    assert (approved.code, approved.json["state"]) == (0, "deleting")
    # What the command rang was heard by nobody.
    made.ring(life.ring(made.store, blocked, datetime.now(UTC), again_after=timedelta()))
    assert made.run(blocked).outcome == "succeeded"
    again = gc("approve", blocked)
    assert (again.code, again.out, len(again.err.splitlines())) == (1, "", 1)

    filled.push("shop/api", tags=["pr-8"], age=52 * DAY)
    filled.push("shop/api", tags=["pr-9"], age=52 * DAY)
    other = made.sweep().id
    assert gc("abort", other, "--format", "json").json["outcome"] == "aborted"
    assert made.run(other).deleted == 0


def test_who_started_approved_and_aborted_a_run_is_shown(filled, night, gc):
    made = night(limits={"max_images": 1})
    opened = gc("sweep", "production", "--who", "anna", "--format", "json").json
    assert opened["opened_by"] == "anna"
    made.ring(made.reconcile())
    gc("approve", opened["id"], "--who", "ben, on call", "--format", "json")
    gc("abort", opened["id"], "--who", "cleo")
    shown = gc("show", opened["id"], "--format", "json").json
    people = {"opened_by": "anna", "approved_by": "ben, on call", "aborted_by": "cleo"}
    assert {name: shown.get(name) for name in people} == people
    text = gc("show", opened["id"]).out
    assert all(f"{name.replace('_', ' '):<12}{who}" in text for name, who in people.items())


def test_who_is_the_user_on_this_machine_unless_it_is_said(night, gc):
    night()
    environ = {"SUDO_USER": "", "LOGNAME": "dora"}
    opened = gc("sweep", "production", "--format", "json", **environ).json
    assert opened["opened_by"] == f"dora@{os.uname().nodename}"


def test_a_user_without_a_name_has_its_number(monkeypatch):
    """As in a container that runs as 12345."""

    def no_name(_uid):
        raise KeyError("uid not found")

    for name in ("SUDO_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_name)
    assert me() == f"uid {os.getuid()}@{os.uname().nodename}"


def test_a_run_that_nobody_started_by_hand_names_nobody(filled, night, gc):
    run = night().sweep().id
    assert "opened_by" not in gc("show", run, "--format", "json").json


def test_an_approval_warns_of_a_file_that_has_changed(filled, night, gc):
    made = night(limits={"max_images": 1})
    blocked = made.sweep().id
    made.rewrite(limits={"max_images": 1}, rules=[{"name": "everything", "keep": {"all": True}}])
    approved = gc("approve", blocked, "--format", "json")
    assert (approved.code, approved.json["state"]) == (0, "deleting")
    assert f"warning: the policy 'nightly' is another one than run {blocked} was planned by" in approved.err


def test_waiting_for_a_run(filled, night, tmp_path):
    made = night()
    process = subprocess.Popen(
        [*COMMAND, "sweep", "production", "--wait", "--format", "json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    bells = until(made.reconcile, what="the run to be opened")
    made.ring(bells)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out)["outcome"] == "succeeded"
    assert json.loads(out)["deleted"] == 2


def test_a_terminal_sees_the_run_go_by(filled, night, tmp_path):
    made = night()
    words = [*COMMAND, "sweep", "production", "--wait"]
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(on_a_terminal, words, tmp_path)
        made.ring(until(made.reconcile, what="the run to be opened"))
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
def test_the_exit_code_of_waiting(filled, night, gc, tmp_path, registry, code):
    made = night(**registry)
    words = [*COMMAND, "sweep", "production", "--wait"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    made.ring(until(made.reconcile, what="the run to be opened"))
    out, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert out.startswith(b"run ")
    over = b"The plan is over its limits: max_images is 2, allowed 1." in errors
    assert over is (code == 3 and registry.get("mode") == "dry-run")
    (run,) = gc("runs", "--format", "json").json["runs"]
    assert ("over limits max_images is 2, allowed 1" in gc("show", run["id"]).out) is (code == 3)


def test_waiting_says_when_no_worker_takes_the_run(night, tmp_path):
    made = night()
    process = subprocess.Popen(
        [*COMMAND, "sweep", "production", "--wait"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    lines = iter(process.stderr.readline, b"")
    assert next(line for line in lines if b"no worker has taken the run yet" in line)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read().decode()
    assert process.wait(30) == 130
    assert "goes on; `registry-gc abort" in rest
    with made.store.read() as connection:
        assert [run.state for run in runs.newest(connection)] == ["pending"]
