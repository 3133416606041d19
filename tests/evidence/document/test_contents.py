"""The document of the sources `file` and `http`: it says itself of when it is and where it ends, or it is refused."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.evidence.document import DocumentError, read_document
from worker.evidence.reading import Use

DIGEST = f"sha256:{'a' * 64}"
AS_OF = "2026-11-23T03:00:00Z"
AT = datetime(2026, 11, 23, 3, tzinfo=UTC)
API, JOB = "cr.yandex/r/shop/api:v7", "cr.yandex/r/shop/job:v1"
LINES = f"# as_of: {AS_OF}\n{API}  prod/shop/Deployment api\n\n# a remark\n{DIGEST}\n# end\n"
JSON = json.dumps({"as_of": AS_OF, "images": [{"image": API, "by": "prod/shop/Deployment api"}, DIGEST]})
USES = (Use(None, API, "prod/shop/Deployment api"), Use(DIGEST, None, "list"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(LINES, id="lines"),
        pytest.param(JSON, id="JSON"),
        pytest.param(f"\ufeff\n {JSON}", id="JSON after a byte order mark and blanks"),
        pytest.param(LINES.replace("\n", "\r\n"), id="lines of Windows"),
        pytest.param(LINES.strip(), id="no line break after the last line"),
        pytest.param(LINES.replace(AS_OF, "2026-11-23 06:00:00+03:00"), id="another zone"),
        pytest.param(LINES.replace(API, f" {API}"), id="indented"),
    ],
)
def test_reads_a_document_in_either_format(content):
    read = read_document(content.encode(), "list")
    assert (read.as_of, read.uses) == (AT, USES)
    assert read.as_of.tzinfo == UTC


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n\n", "is empty", id="blank"),
        pytest.param(
            LINES + LINES, "line 6: a second list begins or ends here: write one list per file", id="two lists"
        ),
        pytest.param(
            JSON.replace('"images"', '"images": [], "images"', 1),
            "has the key 'images' twice: write each once",
            id="twice",
        ),
        pytest.param(b"\x1c\n", "is empty", id="blank by Unicode alone"),
        pytest.param(
            "# as_of: 0001-01-01T00:00:00+14:00\n# end",
            "expected an instant that UTC can represent, got 0001-01-01 00:00:00+14:00",
            id="an instant before all time",
        ),
        pytest.param(
            f"{API}\n# end\n",
            'line 1: does not say when it was written: expected "# as_of: 2026-11-23T03:00:00Z"',
            id="no instant",
        ),
        pytest.param(
            f"# as_of: yesterday\n{API}\n# end",
            "line 1: expected an instant with its time zone, got 'yesterday'",
            id="an instant in words",
        ),
        pytest.param(
            f"# as_of: 2026-11-23T03:00:00\n{API}\n# end",
            "line 1: expected an instant with its time zone, got '2026-11-23T03:00:00'",
            id="an instant without its zone",
        ),
        pytest.param(
            LINES[: LINES.index(DIGEST)],
            'line 4: the last line is not "# end": the list is incomplete',
            id="cut after a line",
        ),
        pytest.param(
            LINES[:60], 'line 2: the last line is not "# end": the list is incomplete', id="cut within a line"
        ),
        pytest.param(
            f"# as_of: {AS_OF}", 'line 1: the last line is not "# end": the list is incomplete', id="one line"
        ),
        pytest.param(
            f"# as_of: {AS_OF}\n{API}\nError from server (Forbidden): pods is forbidden\n# end",
            "line 3: 'Error' is not host/path:tag, host/path@sha256:… or sha256:…",
            id="an error of kubectl in it",
        ),
        pytest.param(LINES.encode() + b"\xff", "line 7: is not text in UTF-8: holds the byte 0xff", id="binary"),
        pytest.param(
            LINES.encode("utf-16"), "line 1: is not text in UTF-8: holds the byte 0xff", id="another encoding"
        ),
        pytest.param(JSON[:-1], "line 1: is not JSON, or is incomplete: Input data was truncated", id="cut JSON"),
        pytest.param(
            f'{{"as_of": "{AS_OF}",\n "images": [\n{API}]}}',
            "line 3: is not JSON, or is incomplete: JSON is malformed: invalid character (byte 47)",
            id="JSON without its quotes",
        ),
        pytest.param(
            json.dumps({"images": [API]}),
            "is not of the form {as_of, images}: Object missing required field `as_of`",
            id="JSON without an instant",
        ),
        pytest.param(
            json.dumps({"as_of": "2026-11-23T03:00:00", "images": [API]}),
            "is not of the form {as_of, images}: Expected `datetime` with a timezone component - at `$.as_of`",
            id="JSON without a zone",
        ),
        pytest.param(
            json.dumps({"as_of": AS_OF}),
            "is not of the form {as_of, images}: Object missing required field `images`",
            id="JSON without images",
        ),
        pytest.param(
            json.dumps({"as_of": AS_OF, "images": [API], "next": "page-2"}),
            "is not of the form {as_of, images}: Object contains unknown field `next`",
            id="JSON that says there is more",
        ),
        pytest.param(
            json.dumps({"as_of": AS_OF, "images": None}),
            "is not of the form {as_of, images}: Expected `array`, got `null` - at `$.images`",
            id="JSON with nothing",
        ),
        pytest.param(
            json.dumps({"as_of": AS_OF, "images": [API, "cr.yandex/Shop"]}),
            "images[1]: 'cr.yandex/Shop' is not host/path:tag, host/path@sha256:… or sha256:…",
            id="JSON with a wrong reference",
        ),
        pytest.param(
            b"<html>", 'line 1: does not say when it was written: expected "# as_of: 2026-11-23T03:00:00Z"', id="HTML"
        ),
    ],
)
def test_refuses_a_document_with_an_invalid_part(content, message):
    with pytest.raises(DocumentError) as raised:
        read_document(content.encode() if isinstance(content, str) else content, "list")
    assert str(raised.value) == message


def test_a_document_may_say_that_nothing_is_in_use():
    assert read_document(f"# as_of: {AS_OF}\n# end\n".encode(), "list").uses == ()
    assert read_document(json.dumps({"as_of": AS_OF, "images": []}).encode(), "list").uses == ()


def test_names_each_image_once_with_its_user():
    lines = [f"{API} b", f"{API} a", f"{API} b", JOB, f"{API} {'x' * 500}\t\x1b[31m"]
    read = read_document("\n".join([f"# as_of: {AS_OF}", *lines, "# end"]).encode(), "list")
    assert read.uses == (Use(None, API, "b and 2 more"), Use(None, JOB, "list"))


def test_a_user_is_short_and_printable():
    hostile = f"\x1b[2J\u202e{'x' * 500}"
    content = json.dumps({"as_of": AS_OF, "images": [{"image": API, "by": hostile}, {"image": API, "by": "y"}]})
    (use,) = read_document(content.encode(), "list").uses
    assert use.by.isprintable()
    assert len(use.by) == 200
    assert use.by.endswith("x… and 1 more")


@given(st.binary() | st.builds(lambda start, rest: start + rest, st.just(LINES[:40].encode()), st.binary()))
def test_any_content_is_read_or_refused(content):
    try:
        read = read_document(content, "list")
    except DocumentError:
        return
    assert read.as_of.utcoffset() == timedelta()


@given(st.integers(0, len(LINES) - 2))
def test_refuses_a_list_that_was_cut_anywhere(length):
    with pytest.raises(DocumentError):
        read_document(LINES[:length].encode(), "list")


@given(st.integers(0, len(JSON) - 1))
def test_refuses_json_that_was_cut_anywhere(length):
    with pytest.raises(DocumentError):
        read_document(JSON[:length].encode(), "list")
