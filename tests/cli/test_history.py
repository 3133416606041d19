"""`runs`, `show` and `audit` of real runs."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

ROOT = Path(__file__).resolve().parents[2]
DAY = timedelta(days=1)
SECRET = "every secret must exist and be readable at the start"
RUN_KEYS = [
    "id", "registry", "trigger", "task_id", "mode", "state", "outcome", "scheduled_for", "started_at", "finished_at",
    "policy_sha256", "plan_sha256", "message", "images", "planned", "deleted", "gone", "skipped", "failed",
    "selected_bytes", "reclaimable_bytes", "reclaimed_bytes", "registry_bytes",
]  # fmt: skip


def test_runs_and_show_of_a_finished_run(filled, make_harness, gc):
    made = make_harness()
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


def test_show_says_why_an_image_was_skipped(filled, make_harness, gc):
    made = make_harness()
    run_id, task_calls = made.plan()
    filled.tag("shop/api", "pr-1", "stable")
    made.carry_out(task_calls)
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


def test_runs_show_and_audit_as_tables(filled, make_harness, gc):
    done = make_harness().sweep()
    table, show, audit = gc("runs").out, gc("show", done.id).out, gc("audit").out
    assert [line.split()[0] for line in table.splitlines()] == ["RUN", done.id]
    assert "succeeded" in table
    assert "done        2 deleted; " in show
    assert "every tag matches pr-*; 52 days old, at least 14" in show
    assert [line.split()[2] for line in audit.splitlines()] == ["REPOSITORY", "shop/web", "shop/api"]


def test_audit_as_json_and_its_filters(filled, make_harness, gc):
    done = make_harness().sweep()
    newest, oldest = gc("audit", "production", "--format", "json").json["deletions"]
    assert list(newest) == [
        "at", "registry", "repository", "digest", "id", "tags", "run", "outcome", "operation_id", "reclaimed_bytes",
        "created_at", "size", "cause", "rule", "reason", "seq", "sha256", "facts",
    ]  # fmt: skip
    assert (newest["run"], newest["outcome"], newest["rule"]) == (done.id, "deleted", "pull requests")
    assert newest["reclaimed_bytes"] + oldest["reclaimed_bytes"] == filled.state()["lost_bytes"]

    def deleted(reference):
        return [row["id"] for row in gc("audit", "production", reference, "--format", "ndjson").lines]

    assert deleted("shop/web:pr-3") == [newest["id"]]
    assert deleted(f"shop/api@{oldest['digest']}") == [oldest["id"]]
    assert deleted(oldest["id"]) == [oldest["id"]]

    def between(*words):
        return [row["id"] for row in gc("audit", "--format", "ndjson", *words).lines]

    assert between("--since", newest["at"]) == [newest["id"]]
    assert between("--until", newest["at"]) == [oldest["id"]]
    assert between("--since", oldest["at"], "--until", "9999-01-01") == [newest["id"], oldest["id"]]
    assert deleted("shop/web:PR-3") == deleted("shop/api:pr-3") == deleted("shop/web:pr") == []
    assert (gc("audit", "production", "shop/web:never").code, gc("audit", "production", "crp1").code) == (0, 0)


RECIPE = re.search(r"```python\n(import hashlib.*?)```", (ROOT / "docs" / "audit.md").read_text(), re.DOTALL)


def test_the_audit_chain_can_be_verified_from_an_export(filled, make_harness, gc, tmp_path):
    made = make_harness()
    assert gc("audit", "--verify").out == "the audit chain is intact: 0 rows; head none yet\n"
    made.sweep()
    newest, oldest = gc("audit", "--format", "ndjson").lines
    verified = gc("audit", "--verify")
    span = f"from {oldest['at'][:19]}Z to {newest['at'][:19]}Z"
    document = gc("audit", "--verify", "--format", "json").json
    head = document.pop("head")
    assert (verified.code, verified.out) == (0, f"the audit chain is intact: 2 rows, {span}; head {head}\n")
    assert document == {"rows": 2, "from": oldest["at"], "to": newest["at"], "anchor": "", "broken": None}

    assert RECIPE is not None
    program = tmp_path / "verify.py"
    program.write_text(RECIPE[1])

    def recipe(lines, *words):
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        done = subprocess.run(
            [sys.executable, program, *words], input=text, capture_output=True, text=True, check=False
        )
        return done.stdout or done.stderr

    assert recipe([oldest, newest]) == f"2 rows verified\n{newest['run']} {newest['sha256']}\n"
    assert recipe([newest], oldest["sha256"]) == f"1 rows verified\n{newest['run']} {newest['sha256']}\n"
    doctored = oldest | {"facts": oldest["facts"].replace("pr-1", "pr-9")}
    for lines, seq in (([newest], 2), ([newest, oldest], 2), ([doctored, newest], 1)):
        assert recipe(lines) == f"seq {seq} does not verify\n"
    assert recipe([oldest, newest | {"digest": oldest["digest"]}]) == "seq 2 does not verify\n"


def test_verify_fails_for_a_changed_row_and_an_unknown_head(filled, make_harness, gc):
    made = make_harness()
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
    row = f"{row} does not follow the row before it: it was changed or inserted, or rows between them were removed"
    assert done.err == f"the audit chain is broken after 1 valid row: {row}\n"
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
def test_audit_rejects_invalid_options(make_harness, gc, words):
    make_harness()
    done = gc("audit", *words)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)


def test_verify_without_a_store_fails(make_harness, gc, tmp_path):
    made = make_harness()
    made.store.dispose()
    for file in tmp_path.glob("registry-gc.db*"):
        file.unlink()
    done = gc("audit", "--verify")
    assert (done.code, done.err) == (1, "the store does not exist yet, so there is no audit to verify\n")
    assert list(tmp_path.glob("registry-gc.db*")) == []


def test_runs_are_newest_first_and_limited(filled, make_harness, gc):
    made = make_harness(mode="dry-run")
    ids = [made.sweep().id for _ in range(3)]
    assert [run["id"] for run in gc("runs", "--format", "json").json["runs"]] == ids[::-1]
    assert [run["id"] for run in gc("runs", "--limit", "1", "--format", "json").json["runs"]] == ids[-1:]


def test_runs_and_audit_know_registries_of_the_file_and_of_the_store(filled, make_harness, gc, tmp_path):
    done = make_harness().sweep()
    for words in (["runs", "elsewhere"], ["audit", "elsewhere"]):
        refused = gc(*words)
        assert (refused.code, refused.out) == (2, "")
        where = f"{tmp_path}/registry-gc.yaml or its store"
        assert refused.err == f"there is no registry 'elsewhere' in {where}; known: production\n"
    file = tmp_path / "registry-gc.yaml"
    file.write_text(file.read_text().replace("production", "renamed"))
    assert gc("runs", "renamed").out == "No runs yet.\n"
    assert gc("audit", "renamed").out == "No deletions.\n"
    assert done.id in gc("runs", "production").out
    assert done.id in gc("audit", "production").out
    assert gc("runs", "elsewhere").err.endswith("known: production, renamed\n")


def test_history_needs_no_credentials_of_a_registry(filled, make_harness, gc, tmp_path):
    run = make_harness(limits={"max_images": 1}).sweep().id
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


def test_an_unknown_run_is_exit_code_2(make_harness, gc):
    make_harness()
    for words in (["show", "x"], ["approve", "x"], ["abort", "x"]):
        done = gc(*words)
        assert (done.code, done.out) == (2, "")
        assert done.err == "no run has the id 'x'; `registry-gc runs` lists them\n"


POLICY = "policies: {nightly: [{name: leftovers, delete: {untagged: true, older_than: 7d}}]}\n"


def test_runs_and_audit_of_an_empty_history(gc, tmp_path):
    (tmp_path / "registry-gc.yaml").write_text(f"store: sqlite:///gc.db\n{POLICY}")
    assert gc("runs").out == "No runs yet.\n"
    assert gc("runs", "--format", "json").json == {"runs": []}
    assert gc("runs", "--format", "ndjson").out == ""
    assert gc("audit").out == "No deletions.\n"
    assert gc("audit", "--format", "json").json == {"deletions": []}
    assert not (tmp_path / "gc.db").exists()
