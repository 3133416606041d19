"""A report is one value that is written as a table, JSON or NDJSON."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from worker.text import table

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, and the cell of a row."""

    heading: str
    cell: Callable[[Any], str]
    right: bool = False  # numbers

    def of(self, part: Callable[[Any], Any]) -> "Column":
        """The same column for rows that contain such a part."""
        return replace(self, cell=lambda row: self.cell(part(row)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a command. Only the requested form is made, and `rows` are read once.

    JSON is `whole`, else `head` with the rows under `key`, one per line. NDJSON is `head`, then one row per line.
    The table is the lines `above`, the rows in `columns`, and the lines `below`. A head or row may be encoded JSON:
    an encoded row contains its line end, and may contain several rows.
    """

    head: Any = None  # None: NDJSON has only rows
    rows: Iterable[Any] = ()
    row: Callable[[Any], Any] | None = None  # a row for JSON
    key: str = ""  # empty: JSON has no rows
    whole: Any = None
    columns: tuple[Column, ...] = ()
    above: Iterable[str] | Callable[[int | None], Iterable[str]] = ()  # a function takes the width
    nothing: str = ""  # replaces a table without rows
    below: Iterable[str] = ()

    def json(self) -> Iterator[bytes]:
        """One object, in pieces."""
        if self.whole is not None or not self.key:
            yield _encoded(self.head if self.whole is None else self.whole) + b"\n"
            return
        head = b"{" if self.head is None else _encoded(self.head).removesuffix(b"}") + b","
        yield head + f'"{self.key}":['.encode()
        ended = b"\n"  # not written yet: a comma precedes it only if another line follows
        for piece in self._lines():
            if piece:
                text = piece.removesuffix(b"\n")
                yield ended + text.replace(b"\n", b",\n")
                ended = b",\n" if len(text) < len(piece) else b""
        yield b"]}\n"

    def ndjson(self) -> Iterator[bytes]:
        """The head, then one row per line."""
        if self.head is not None:
            yield _encoded(self.head) + b"\n"
        yield from self._lines()

    def _lines(self) -> Iterator[bytes]:
        for row in self.rows:
            yield row if isinstance(row, bytes) else _encoded(self.row(row) if self.row else row) + b"\n"

    def table(self, width: int | None = None) -> Iterator[str]:
        """Lines of text; `width`: columns of the terminal. `width` None: no line is cut. The cells are escaped; `above`
        and `below` are written as they are.
        """
        yield from self.above(width) if callable(self.above) else self.above
        if self.columns:
            rows = list(self.rows)
            yield from table_of(self.columns, rows, width) if rows or not self.nothing else (self.nothing,)
        yield from self.below


def table_of(columns: Sequence[Column], rows: Iterable[Any], width: int | None = None) -> Iterator[str]:
    """The rows under their headings. `width`: in cells of a terminal; None: no line is cut. The cells are escaped, so
    they may be foreign text.
    """
    cells = [[column.cell(row) for column in columns] for row in rows]
    right = frozenset(number for number, column in enumerate(columns) if column.right)
    return table([column.heading for column in columns], cells, right=right, width=width)


def _encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else _encoder.encode(value)
