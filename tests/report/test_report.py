"""A report in every form, from rows in pieces of any length."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from worker.report.report import Column, Report, table_of

NAME = Column("NAME", lambda row: str(row["name"]))
SIZE = Column("SIZE", lambda row: f"{row['size']:,}", right=True)
ROWS = [{"name": "a", "size": 1000}, {"name": "longer", "size": 7}]


def text(pieces: Iterator[bytes]) -> str:
    return b"".join(pieces).decode()


@pytest.mark.parametrize(
    ("report", "whole", "lines"),
    [
        pytest.param(Report(head={"a": 1}), '{"a":1}\n', '{"a":1}\n', id="a head alone"),
        pytest.param(Report(head={"a": 1}, rows=ROWS), '{"a":1}\n', None, id="rows without a key are in NDJSON alone"),
        pytest.param(Report(key="rows", rows=[1, 2]), '{"rows":[\n1,\n2]}\n', "1\n2\n", id="rows alone"),
        pytest.param(Report(key="rows"), '{"rows":[]}\n', "", id="no rows"),
        pytest.param(
            Report(head={"a": 1}, key="rows", rows=[{"b": 2}]),
            '{"a":1,"rows":[\n{"b":2}]}\n',
            '{"a":1}\n{"b":2}\n',
            id="head and rows",
        ),
        pytest.param(
            Report(head=b'{"a":1}', key="rows", rows=[b"1\n2\n", b"3", b"4\n", b""]),
            '{"a":1,"rows":[\n1,\n2,\n34]}\n',
            '{"a":1}\n1\n2\n34\n',
            id="JSON already, in pieces of any length",
        ),
        pytest.param(
            Report(whole={"all": []}, rows=[1], row=lambda row: {"row": row}),
            '{"all":[]}\n',
            '{"row":1}\n',
            id="JSON that is another",
        ),
    ],
)
def test_json_and_ndjson(report: Report, whole: str, lines: str | None) -> None:
    assert text(report.json()) == whole
    json.loads(whole)
    if lines is not None:
        assert text(report.ndjson()) == lines


def test_rows_are_read_once_and_only_for_the_requested_form() -> None:
    asked: list[Any] = []

    def rows() -> Iterator[int]:
        asked.append(1)
        yield 1

    report = Report(head={"a": 1}, key="rows", rows=rows(), columns=(Column("N", str),))
    pieces = report.json()
    assert asked == []
    assert next(pieces) == b'{"a":1,"rows":['
    assert asked == []
    assert (text(pieces), asked) == ("\n1]}\n", [1])


def test_a_table_has_lines_above_and_below() -> None:
    report = Report(rows=ROWS, columns=(NAME, SIZE), above=("above", ""), below=("below",), nothing="Nothing.")
    assert list(report.table()) == ["above", "", "NAME     SIZE", "a       1,000", "longer      7", "below"]


@pytest.mark.parametrize(
    ("nothing", "lines"), [("Nothing is held.", ["Nothing is held."]), ("", ["NAME  SIZE"])], ids=["said", "unsaid"]
)
def test_a_table_without_rows(nothing: str, lines: list[str]) -> None:
    assert list(Report(columns=(NAME, SIZE), nothing=nothing).table()) == lines


def test_lines_above_may_depend_on_the_width() -> None:
    report = Report(above=lambda width: [f"{width} columns"])
    assert list(report.table(80)) == ["80 columns"]
    assert list(report.table()) == ["None columns"]


def test_a_column_can_show_a_part_of_the_row() -> None:
    columns = (NAME.of(lambda pair: pair[0]), SIZE.of(lambda pair: pair[1]))
    assert list(table_of(columns, [(ROWS[0], ROWS[1])], width=10)) == ["NAME  SIZE", "a        7"]
