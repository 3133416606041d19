"""Runs and their deletions as tables and JSON."""

from typing import Any

import pytest

from tests.support.records import NOW, decision, finished_run, run_record
from worker.report.run import ended_report, item_json, outcome_text, run_report, runs_report, show_report, shown_json
from worker.store.plans import PlannedItem

CLOUD = "yandex-cloud-registry|https://registry.api.cloud.yandex.net|crp1"


def item(**more: Any) -> PlannedItem:
    facts = {"decision": decision(), "state": "deleted", "outcome_cause": None, "message": None, "operation_id": "op1"}
    return PlannedItem(**facts | {"attempts": 1, "at": NOW} | more)


def test_one_run_per_row() -> None:
    waiting = run_record(mode="dry-run", message="a\x1b")
    heading, first, second = runs_report([finished_run(planned=1200, deleted=1100), waiting]).table()
    assert heading.split() == [
        "RUN", "REGISTRY", "TRIGGER", "MODE", "OUTCOME", "STARTED", "TOOK", "PLANNED", "DELETED", "RECLAIMED",
        "MESSAGE",
    ]  # fmt: skip
    assert first.split()[1:] == [
        "production", "schedule", "delete", "succeeded", "2026-11-23T03:00:00Z", "1h02m", "1,200", "1,100", "2", "KiB",
    ]  # fmt: skip
    assert second.split()[1:] == ["production", "schedule", "dry-run", "pending", "0", "0", "0", "B", "a\\x1b"]
    assert list(runs_report([]).table()) == ["No runs yet."]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"deleted": 0}, ""),
        ({}, "2 deleted; at most 2 KiB reclaimed"),
        ({"registry_key": CLOUD}, "2 deleted; 2 KiB reclaimed"),
        (
            {"registry_key": CLOUD, "deleted": 1200, "gone": 1, "skipped": 3, "failed": 2},
            "1,200 deleted, 1 gone, 3 skipped, 2 failed; 2 KiB reclaimed",
        ),
    ],
    ids=["nothing was done", "what is not listed may need some", "bytes are exact", "of everything"],
)
def test_the_outcome_in_words(facts: dict[str, Any], text: str) -> None:
    assert outcome_text(finished_run(**facts)) == text


def test_json_omits_empty_keys() -> None:
    plain = shown_json(finished_run(registry_key=CLOUD))
    assert not {"exceeded", "opened_by", "reclaimable_is_upper_bound", "raced"} & set(plain)
    more = shown_json(finished_run(exceeded=({"limit": "max_images", "value": 2, "allowed": 1},), opened_by="anna"))
    assert more["reclaimable_is_upper_bound"] is True
    assert (more["opened_by"], more["exceeded"][0]["limit"]) == ("anna", "max_images")


FACTS: list[Any] = [
    pytest.param({"scheduled_for": NOW}, "trigger     schedule, due 2026-11-23T03:00:00Z", id="due"),
    pytest.param({"opened_by": "anna"}, "opened by   anna", id="opened by"),
    pytest.param({"message": "no\nanswer"}, "message     no\\x0aanswer", id="a message"),
    pytest.param(
        {"exceeded": ({"limit": "max_images", "value": 2, "allowed": 1},)},
        "over limits max_images is 2, allowed 1",
        id="over limits",
    ),
    pytest.param({"suspicion": "all at once"}, "push times  not trusted: all at once", id="suspicion"),
    pytest.param({"undecidable": 2}, "undecidable 2 images kept: their order is unknown", id="undecidable"),
    pytest.param(
        {"unreadable": ({"repository": "a", "reason": "HTTP 500"}, {"repository": "b", "reason": "HTTP 403"})},
        "unreadable  a: HTTP 500; b: HTTP 403",
        id="repositories",
    ),
    pytest.param(
        {"unreadable_images": ({"repository": "a", "digest": "sha256:1", "reason": "no manifest"},)},
        "unreadable  a@sha256:1: no manifest",
        id="images",
    ),
    pytest.param({"emptied_repositories": ("a", "b")}, "emptied     a\n            b", id="emptied"),
    pytest.param(
        {"raced_pushes": ({"repository": "a", "digest": "sha256:1", "tags": ["v1", "v2"]},)},
        "raced       v1, v2 pushed again while a@sha256:1 was deleted",
        id="raced",
    ),
    pytest.param(
        {
            "differences": (
                {"repository": "a", "digest": "sha256:1", "difference": "is still there"},
                {"repository": "", "digest": "", "difference": "and 7 more"},
            )
        },
        "differences a@sha256:1: is still there\n            and 7 more",
        id="differences",
    ),
]


@pytest.mark.parametrize(("facts", "lines"), FACTS)
def test_show_lists_only_facts_that_the_run_has(facts: dict[str, Any], lines: str) -> None:
    shown = "\n".join(show_report(finished_run(**facts), []).table())
    assert f"\n{lines}\n" in f"\n{shown}\n"
    without = "\n".join(show_report(finished_run(), []).table())
    assert lines.rsplit("\n", maxsplit=1)[-1] not in without.split("\n")


@pytest.mark.parametrize(
    ("what", "end"),
    [
        (item(), "pull requests  deleted           every tag matches pr-*"),
        (item(state="skipped", outcome_cause="locked"), "skipped: locked   every tag matches pr-*"),
        (
            item(state="failed", outcome_cause="other", message="HTTP 500"),
            "failed: other     HTTP 500; planned: every tag matches pr-*",
        ),
    ],
    ids=["deleted", "skipped", "failed"],
)
def test_a_deletion_has_its_state_and_reason(what: PlannedItem, end: str) -> None:
    row = list(show_report(finished_run(), [what]).table())[-1]
    assert " ".join(row.split()).endswith(" ".join(end.split()))
    document = item_json(what)
    assert list(document)[-6:] == ["state", "outcome_cause", "message", "operation_id", "attempts", "at"]
    assert (document["digest"], document["state"]) == (what.decision.digest, what.state)


def test_an_empty_plan_differs_from_a_missing_plan() -> None:
    assert list(show_report(finished_run(), []).table())[-1] == "The plan deletes nothing."
    assert list(show_report(run_record(), []).table())[-1] == "There is no plan (yet)."


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        (
            {"registry_key": CLOUD},
            ["{id} of production: succeeded", "2 images planned, 2 KiB reclaimable; 2 deleted; 2 KiB reclaimed"],
        ),
        (
            {"planned": 1, "deleted": 0, "outcome": "partial", "message": "1 of 1 image skipped"},
            [
                "{id} of production: partial: 1 of 1 image skipped",
                "1 image planned, at most 2 KiB reclaimable; nothing was deleted",
            ],
        ),
        ({"plan_sha256": None, "outcome": "failed", "message": "no host"}, ["{id} of production: failed: no host"]),
        ({"state": "blocked", "outcome": None, "deleted": 0, "plan_sha256": None}, ["{id} of production: blocked"]),
    ],
    ids=["well", "in part", "without a plan", "waiting"],
)
def test_the_outcome_of_a_run_in_one_or_two_lines(facts: dict[str, Any], lines: list[str]) -> None:
    run = finished_run(**facts)
    report = ended_report(run)
    assert list(report.table()) == [line.format(id=f"run {run.id}") for line in lines]
    assert report.head["id"] == run.id


def test_lines_of_one_run_are_escaped() -> None:
    assert list(run_report(finished_run(), "a\x1b", "b").table()) == ["a\\x1b", "b"]
