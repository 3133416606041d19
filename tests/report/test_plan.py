"""Reports are functions of records: columns, escapes, sizes, and the forms of a plan."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from policies.image import Blob, Image, Unreadable
from policies.limits import Exceeded, Totals
from policies.plan import Decision
from worker.report.inventory import image_json
from worker.report.plan import (
    LISTED,
    PlanHead,
    plan_report,
    plan_table,
    size_text,
)
from worker.text import counted, cut, escaped, short, table, took, width_of

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


def head(**more):
    facts = {"registry": "production", "policy": "nightly", "now": NOW, "complete": True, "unreadable": ()}
    return PlanHead(**facts | {"totals": Totals(images=3, keep=3), "exceeded": ()} | more)


def decision(number=1, **more):
    facts = {"id": f"crp{number}", "repository": "shop/api", "digest": f"sha256:{number:064x}", "tags": ("pr-1",)}
    facts |= {"created_at": NOW, "size": 300, "verdict": "delete", "cause": "selected", "rule": "pull requests"}
    return Decision(**facts | {"reason": "every tag matches pr-*"} | more)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pr-7", "pr-7"),
        ("släpp-日本", "släpp-日本"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("\u202eturned", "\\u202eturned"),
        ("\U000e0041", "\\U000e0041"),
    ],
    ids=["plain", "letters of any script", "a colour", "lines", "turned writing", "a tag character"],
)
def test_what_would_speak_to_the_terminal_is_shown_as_code(text, shown):
    assert escaped(text) == shown


@settings(deadline=None)
@given(st.text())
def test_escaped_text_prints(text):
    assert escaped(text).isprintable()


@settings(deadline=None)
@given(st.text("ab日本é\u0301 ", max_size=30), st.integers(1, 20))
def test_cut_text_fits(text, width):
    result = cut(text, width)
    assert width_of(result) <= width
    assert result == text or result.endswith("…")


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab日é\x1b", max_size=6), st.text("xyz", max_size=6), st.just("|")), max_size=5))
def test_columns_stand_below_each_other(rows):
    lines = list(table(("A", "B", "END"), rows))
    ends = {width_of(line[: line.rindex("|")]) for line in lines[1:]}
    assert len(lines) == len(rows) + 1
    assert ends <= {width_of(lines[0][: lines[0].rindex("END")])}


def test_numbers_stand_to_the_right_and_lines_end_where_the_terminal_does():
    assert list(table(("N", "WHAT"), [("7", "abcdef"), ("1,000", "b")], right=frozenset({0}), width=10)) == [
        "    N  WH…",
        "    7  ab…",
        "1,000  b",
    ]


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (2000, "2,000 images")])
def test_counts(number, text):
    assert counted(number, "image") == text


def test_short_digests_keep_twelve_digits():
    assert short("sha256:" + "0123456789abcdef" * 4) == "sha256:0123456789ab"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (184, "3m04s"), (3720, "1h02m"), (90000, "25h00m")]
)
def test_how_long_it_took(seconds, text):
    assert took(NOW, NOW + timedelta(seconds=seconds)) == text
    assert took(None, NOW) == took(NOW, None) == ""


@pytest.mark.parametrize(
    ("sizes", "text"),
    [((1024, 0, 2), "1 KiB"), ((1024, 1, 2), "1 KiB+"), ((0, 2, 2), "unknown")],
    ids=["all told", "some told", "none told"],
)
def test_sums_of_sizes_say_what_is_unknown(sizes, text):
    assert size_text(*sizes) == text


pieces = st.lists(st.integers(0, 400), max_size=6)


@settings(deadline=None)
@given(st.integers(0, 5), pieces)
def test_json_and_ndjson_are_the_same_plan_however_the_lines_come(count, cuts):
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


def test_what_stays_is_told_by_cause():
    kept = {"verdict": "keep", "cause": "kept_by_rule", "rule": "releases"}
    decisions = [decision(1, **kept), decision(2, **kept), decision(3, verdict="keep", cause="no_rule", rule=None)]
    assert list(plan_table(head(), decisions)) == [
        "production: policy nightly, as of 2026-11-23T03:00:00Z",
        "",
        "STAY  BECAUSE",
        "   2  kept by rule releases",
        "   1  no rule selects them",
        "",
        "Nothing goes: all of 3 images stay, 0 B.",
    ]


def test_what_is_wrong_with_a_plan_ends_its_table():
    wrong = head(
        complete=False,
        unreadable=(Unreadable(repository="a\x1b", reason="no\nanswer"),),
        exceeded=(Exceeded("max_images", 2, 0),),
    )
    assert list(plan_table(wrong, []))[-3:] == [
        "The plan is incomplete: 1 repository could not be read.",
        "  a\\x1b is kept whole: no\\x0aanswer",
        "The plan is over its limits: max_images is 2, allowed 0.",
    ]


names = st.text("abc/-0", min_size=1, max_size=8)
counts = st.integers(0, 2**63 - 1)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - made aware
blobs = st.builds(Blob, digest=names, size=counts)
images = st.builds(
    Image,
    digest=names,
    id=names,
    name=names,
    compressed_size=st.none() | counts,
    config=st.none() | blobs,
    layers=st.lists(blobs, max_size=3).map(tuple),
    tags=st.lists(names, max_size=3).map(tuple),
    created_at=st.none() | moments,
    children=st.just(UNSET) | st.none() | st.lists(names, max_size=2).map(tuple),
    subject=st.just(UNSET) | st.none() | names,
    media_type=st.just("") | names,
    pulled_at=st.just(UNSET) | st.none() | moments,
    labels=st.none() | st.dictionaries(names, names, min_size=1, max_size=2),
    locked=st.booleans(),
)


@settings(deadline=None)
@given(images)
def test_an_image_of_an_inventory_is_read_back_as_it_was(image):
    assert msgspec.json.decode(msgspec.json.encode(image_json(image)), type=Image, strict=False) == image


def test_an_image_of_an_inventory_is_the_api_s_json():
    image = Image(
        digest="sha256:1",
        id="crp1",
        name="crp/a",
        compressed_size=0,
        config=Blob("sha256:2", 7),
        layers=(Blob("sha256:3", 2**40),),
        tags=("v1",),
        created_at=NOW,
        children=None,
        subject=None,
    )
    assert json.loads(msgspec.json.encode(image_json(image))) == {
        "id": "crp1",
        "name": "crp/a",
        "digest": "sha256:1",
        "compressedSize": "0",
        "config": {"digest": "sha256:2", "size": "7"},
        "layers": [{"digest": "sha256:3", "size": "1099511627776"}],
        "tags": ["v1"],
        "createdAt": "2026-11-23T03:00:00Z",
        "children": None,
        "subject": None,
    }
    assert set(image_json(Image(digest="sha256:1"))) == {"id", "name", "digest"}


def test_widths_are_cells():
    assert [width_of(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert unicodedata.east_asian_width("日") == "W"
