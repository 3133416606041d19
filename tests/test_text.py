"""Text for people: terminal controls are escaped, secrets are masked, columns are aligned."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hostile import HOSTILE, plain
from worker.text import counted, cut, escaped, masked, plain_json, short, table, took, width_of

CASES = [pytest.param(text, id=name) for name, text in HOSTILE.items()]


@pytest.mark.parametrize("text", CASES)
def test_a_text_is_escaped(text):
    assert escaped(text).isprintable()
    assert escaped("Ölpreis 日本 é") == "Ölpreis 日本 é"


@pytest.mark.parametrize("text", CASES)
def test_json_is_escaped_and_the_same(text):
    written = json.dumps({"tag": text, "more": ["日本", text]}, ensure_ascii=False)
    assert plain(plain_json(written))
    assert json.loads(plain_json(written)) == json.loads(written)


NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


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
def test_terminal_controls_are_shown_as_codes(text, shown):
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
def test_columns_are_aligned(rows):
    lines = list(table(("A", "B", "END"), rows))
    ends = {width_of(line[: line.rindex("|")]) for line in lines[1:]}
    assert len(lines) == len(rows) + 1
    assert ends <= {width_of(lines[0][: lines[0].rindex("END")])}


def test_numbers_are_right_aligned_and_lines_fit_the_terminal():
    assert list(table(("N", "WHAT"), [("7", "abcdef"), ("1,000", "b")], right=frozenset({0}), width=10)) == [
        "    N  WH…",
        "    7  ab…",
        "1,000  b",
    ]


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (2000, "2,000 images")])
def test_a_count_has_the_right_plural(number, text):
    assert counted(number, "image") == text


def test_short_digests_keep_twelve_digits():
    assert short("sha256:" + "0123456789abcdef" * 4) == "sha256:0123456789ab"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (184, "3m04s"), (3720, "1h02m"), (90000, "25h00m")]
)
def test_formats_durations(seconds, text):
    assert took(NOW, NOW + timedelta(seconds=seconds)) == text
    assert took(None, NOW) == took(NOW, None) == ""


def test_widths_are_cells():
    assert [width_of(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert unicodedata.east_asian_width("日") == "W"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("token t1.9euelZqOnJyWm5aNl5OXlM0 expired", "token *** expired", id="an IAM token"),
        pytest.param("Authorization: Bearer abc.def-ghi_jkl", "Authorization: ***", id="a header"),
        pytest.param("Basic aWFtOnNlY3JldA==", "***", id="a basic header"),
        pytest.param("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0", id="a password in a URL"),
        pytest.param("postgresql+psycopg://gc:hunter2@db/gc", "postgresql+psycopg://***@db/gc", id="with its user"),
        pytest.param("eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", "***", id="a JWT"),
        pytest.param(
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nnext", "***\nnext", id="a private key"
        ),
        pytest.param("-----BEGIN PRIVATE KEY-----\\nMIIE", "***", id="a cut private key"),
        pytest.param(
            "v1@sha256:9f86, basic authentication", "v1@sha256:9f86, basic authentication", id="nothing secret"
        ),
        pytest.param("https://cr.yandex/v2/a@sha256:1", "https://cr.yandex/v2/a@sha256:1", id="a digest in a URL"),
    ],
)
def test_masks_texts_that_look_like_secrets(text, shown):
    assert masked(text) == shown
