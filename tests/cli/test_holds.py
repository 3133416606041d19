"""`holds`, `release`, `pause` and `resume`; a pause stops deletions, also during a run."""

from datetime import UTC, datetime

import pytest

from worker.runs import lifecycle


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["release", "7"], 2, "there is no hold '7'; `registry-gc holds` lists the holds"),
        (["release", "a", "b", "c"], 2, "give a hold's number, or REGISTRY and REFERENCE"),
        (["release", "production", "a:b"], 2, "there is no hold 'production a:b'"),
        (["holds", "staging"], 2, "there is no registry 'staging' in"),
        (["pause", "staging"], 2, "there is no registry 'staging' in"),
        (["resume"], 1, "all registries together are not paused; `registry-gc holds` lists the pauses"),
        (["resume", "production"], 1, "production by itself is not paused"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_release_pause_and_resume_reject_unknown_targets(filled, make_harness, gc, words, code, line):
    make_harness()
    done = gc(*words)
    assert (done.code, done.out) == (code, "")
    assert line in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("all_of_them", [False, True], ids=["one", "all"])
def test_a_pause_stops_deletions_but_not_planning(filled, make_harness, gc, all_of_them):
    made = make_harness()
    words = [] if all_of_them else ["production"]
    assert gc("pause", *words, "--reason", "moving house", "--who", "anna").code == 0
    run = made.sweep()
    assert (run.outcome, run.planned, run.deleted, run.skipped) == ("succeeded", 2, 0, 2)
    assert set(made.outcomes(run.id).values()) == {("skipped", "paused")}
    assert filled.requests(method="DELETE") == []
    listing = gc("holds").out
    assert "paused by anna since" in listing
    assert ": moving house; nothing is deleted until `registry-gc resume" in listing
    assert gc("pause", *words, "--who", "bert").code == 0  # the first stays
    assert "paused by anna" in gc("holds").out

    resumed = gc("resume", *words, "--who", "carl")
    assert (resumed.code, "resumed by carl; " in resumed.out) == (0, True)
    assert made.sweep().deleted == 2
    assert gc("resume", *words).code == 1
    gc("pause", *words, "--who", "dora")
    again = gc("resume", *words, "--who", "emil", "--format", "json").json["resumed"]
    assert (again["who"], again["resumed_by"]) == ("dora", "emil")


def test_a_hold_and_a_pause_apply_to_a_run_that_is_deleting(filled, make_harness, gc):
    made = make_harness()
    run_id, task_calls = made.plan()
    left = made.carry_out(task_calls, until="gc.delete_batch")
    assert gc("hold", "production", "shop/api:pr-1").code == 0
    task_call = left[0]
    assert gc("pause", "production").code == 0
    made.do(task_call)
    assert gc("resume", "production").code == 0
    made.carry_out(left[1:])
    outcomes = set(made.outcomes(run_id).values())
    assert outcomes <= {("skipped", "paused"), ("skipped", "held"), ("deleted", None)}
    assert ("skipped", "paused") in outcomes
    assert any("pr-1" in row["tags"] for row in filled.images())


def test_holds_and_pauses_follow_a_registry_that_is_renamed(filled, make_harness, gc):
    made = make_harness()
    made.sweep(dry_run=True)
    assert gc("hold", "production", "shop/api:pr-1").code == 0
    assert gc("pause", "production").code == 0
    written = made.path.read_text()
    made.path.write_text(written.replace("production:", "prod:"))
    planned = gc("plan", "prod", "--format", "json").json
    assert [row["tags"] for row in planned["decisions"] if row["cause"] == "held"] == [["pr-1"]]
    opened = lifecycle.open_run(made.store, made.settings, "prod", trigger="command", now=datetime.now(UTC))
    made.carry_out(opened.task_calls)
    assert set(made.outcomes(opened.run_id).values()) == {("skipped", "paused")}
