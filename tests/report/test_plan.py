"""A plan as a table, JSON and NDJSON."""

import json
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.image import Unreadable
from policies.limits import Exceeded, Totals
from policies.plan import Decision
from worker.report.plan import (
    LISTED,
    PlanHead,
    plan_report,
    plan_table,
)

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


def head(**more):
    facts = {"registry": "production", "policy": "nightly", "now": NOW, "complete": True, "unreadable": ()}
    return PlanHead(**facts | {"totals": Totals(images=3, keep=3), "exceeded": ()} | more)


def decision(number=1, **more):
    facts = {"id": f"crp{number}", "repository": "shop/api", "digest": f"sha256:{number:064x}", "tags": ("pr-1",)}
    facts |= {"created_at": NOW, "size": 300, "verdict": "delete", "cause": "selected", "rule": "pull requests"}
    return Decision(**facts | {"needed_by": (), "reason": "every tag matches pr-*"} | more)


@pytest.mark.parametrize(
    ("sizes", "cell"),
    [((512, 512), "40 KiB"), ((1024, None), "40 KiB+"), ((None, None), "unknown")],
    ids=["all known", "some unknown", "all unknown"],
)
def test_the_size_of_a_group_shows_that_some_sizes_are_unknown(sizes, cell):
    decisions = [decision(number, size=size) for number in range(LISTED) for size in sizes]
    row = next(line for line in plan_table(head(), decisions) if line.startswith("shop/api"))
    assert f"  {cell}  " in row


pieces = st.lists(st.integers(0, 400), max_size=6)


@settings(deadline=None)
@given(st.integers(0, 5), pieces)
def test_json_and_ndjson_are_equal_for_pieces_of_any_length(count, cuts):
    decisions = [decision(number, reason="says \n and ,") for number in range(count)]
    lines = msgspec.json.Encoder().encode_lines(decisions)
    places = [0, *sorted(cuts), len(lines)]
    broken = [lines[start:end] for start, end in pairwise(places)]
    whole = json.loads(b"".join(plan_report(head(), decisions, broken).json()))
    first, *rest = b"".join(plan_report(head(), decisions, broken).ndjson()).splitlines()
    assert whole.pop("decisions") == [json.loads(line) for line in rest]
    assert whole == json.loads(first)
    assert len(rest) == count


def test_a_few_deletions_are_listed_and_many_are_grouped():
    few = [decision(number) for number in range(LISTED)]
    many = [*few, decision(99, repository="shop/web", size=None)]
    totals = Totals(images=50, delete=41, keep=9)
    listed = list(plan_table(head(totals=totals), few))
    grouped = list(plan_table(head(totals=totals), many))
    assert sum(line.startswith("shop/") for line in listed) == LISTED
    assert [line.split()[:5] for line in grouped if line.startswith("shop/")] == [
        ["shop/api", "pull", "requests", "40", "11.7"],
        ["shop/web", "pull", "requests", "1", "unknown"],
    ]


def test_kept_images_are_counted_by_cause():
    kept = {"verdict": "keep", "cause": "kept_by_rule", "rule": "releases"}
    decisions = [decision(1, **kept), decision(2, **kept), decision(3, verdict="keep", cause="no_rule", rule=None)]
    assert list(plan_table(head(), decisions)) == [
        "production: policy nightly, as of 2026-11-23T03:00:00Z",
        "",
        "KEPT  CAUSE",
        "   2  kept by rule releases",
        "   1  no rule selects them",
        "",
        "This plan deletes nothing and keeps 3 images, 0 B.",
    ]


def test_the_table_ends_with_warnings():
    wrong = head(
        complete=False,
        unreadable=(Unreadable(repository="a\x1b", reason="no\nanswer"),),
        exceeded=(Exceeded("max_images", 2, 0),),
    )
    assert list(plan_table(wrong, []))[-3:] == [
        "The plan is incomplete: 1 repository could not be read.",
        "  All images of a\\x1b are kept: no\\x0aanswer",
        "The plan is over its limits: max_images is 2, allowed 0.",
    ]
