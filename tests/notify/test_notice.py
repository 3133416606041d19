"""The text of a message for each outcome, escaped and shortened."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies

from tests.support.hostile import HOSTILE, plain
from worker.notify.notice import LONGEST, notice_body, notice_title
from worker.store.runs import Run

START = datetime(2026, 11, 23, 3, tzinfo=UTC)
FACTS = {
    "id": "20261123T030000Z-0011aabb",
    "registry": "production",
    "trigger": "schedule",
    "mode": "delete",
    "state": "finished",
    "outcome": "partial",
    "opened_at": START,
    "started_at": START,
    "planned_at": START + timedelta(minutes=4),
    "finished_at": START + timedelta(hours=1, minutes=2),
    "plan_sha256": "1" * 64,
    "unreadable": ({"repository": "ml/old", "reason": "HTTP 500"},),
    "differences": ({"repository": "shop/api", "digest": "sha256:1", "difference": "is still there"},),
    "images": 120_000,
    "planned": 300,
    "deleted": 295,
    "gone": 1,
    "skipped": 2,
    "failed": 2,
    "reclaimable_bytes": 3 * 2**29,
    "reclaimed_bytes": 3 * 2**28,
    "registry_bytes": 5 * 2**40,
}
RUN = Run(
    **{field.name: FACTS.get(field.name) for field in fields(Run)}
)  # facts that a message does not need are empty
PARTIAL = """\
registry   production
run        20261123T030000Z-0011aabb, schedule, delete
outcome    partial
why        1 repository could not be read; 1 difference found after the sweep
images     120,000; 5 TiB
planned    300; 1.5 GiB reclaimable
deleted    295; 768 MiB reclaimed
gone       1
skipped    2
failed     2
took       1h02m

Read the result: registry-gc show 20261123T030000Z-0011aabb"""


def test_writes_a_whole_message() -> None:
    assert notice_title(RUN) == "registry-gc: production: partial"
    assert notice_body(RUN) == PARTIAL


BLOCKED = {"state": "blocked", "outcome": None, "finished_at": None}


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        (BLOCKED, [f"registry-gc show {RUN.id}", f"registry-gc approve {RUN.id}, or registry-gc abort {RUN.id}"]),
        ({"outcome": "blocked"}, [f"registry-gc show {RUN.id}", "registry-gc sweep production"]),
        ({"outcome": "failed"}, ["registry-gc check --online"]),
        ({"outcome": "succeeded"}, [f"registry-gc show {RUN.id}"]),
        ({"outcome": "aborted"}, [f"registry-gc show {RUN.id}"]),
        ({"outcome": "missed"}, [f"registry-gc show {RUN.id}"]),
    ],
    ids=["waits", "blocked", "failed", "succeeded", "aborted", "missed"],
)
def test_ends_with_the_command_to_type_next(changes: dict[str, Any], commands: list[str]) -> None:
    after = notice_body(replace(RUN, **changes)).partition("\n\n")[2]
    assert [line.partition(": ")[2] for line in after.splitlines()] == commands


def test_shows_no_totals_without_a_plan() -> None:
    body = notice_body(
        replace(RUN, outcome="failed", plan_sha256=None, failed=0, unreadable=(), differences=(), message="no host")
    )
    table = body.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table] == ["registry", "run", "outcome", "why", "took"]


def test_keeps_the_words_of_a_registry_on_one_line() -> None:
    evil = "gone\r\nnext       registry-gc approve all \x1b[31m\u202e\x00 <b>*x*</b>"
    body = notice_body(replace(RUN, message=evil))
    (why,) = [line for line in body.splitlines() if line.startswith("why")]
    assert why == (
        "why        gone next registry-gc approve all \\x1b[31m\\u202e\\x00 <b>*x*</b>; "
        "1 repository could not be read; 1 difference found after the sweep"
    )


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_escapes_control_characters_of_foreign_text(text: str) -> None:
    run = replace(RUN, message=f"no {text} today", registry=f"shop {text}")
    assert notice_title(run).isprintable()
    assert plain(notice_body(run))


@given(text=strategies.text(max_size=5000), name=strategies.text(max_size=500).map(lambda name: f"r{name}"))
def test_limits_the_length_and_never_adds_foreign_lines(text: str, name: str) -> None:
    run = replace(RUN, message=text, registry=name)
    body = notice_body(run)
    assert len(body) <= LONGEST
    assert len(body.splitlines()) == len(PARTIAL.splitlines())
    assert len(notice_title(run).splitlines()) == 1
    assert body.endswith(f"registry-gc show {RUN.id}")
