"""Reads YAML as people expect it: a tree of mappings, lists and scalars; repeated keys are mistakes.

Built on the parser's events, not on a loader: the only values are text, numbers, booleans and null. Scalars follow the
core schema of YAML 1.2, so that `no`, `on`, `010` and `12:30` stay text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from policies.mistakes import Mistake, join, no_value

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32  # of nesting; the deepest valid document needs eight

# A longer number, or one with a leading zero, stays text and is refused where a number is expected.
INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")
NULLS = ("", "~", "null", "Null", "NULL")
CONSTANTS = {**dict.fromkeys(NULLS), "true": True, "false": False}

Tree = dict[str, "Tree"] | list["Tree"] | str | int | float | bool | None


class YamlError(Exception):
    """The rest of the file cannot be read."""

    def __init__(self, path: str, got: str, remedy: str) -> None:
        self.mistake = Mistake(path, got, remedy)
        super().__init__(str(self.mistake))


def parse(content: bytes) -> tuple[Tree, tuple[Mistake, ...]]:
    """The tree of a document, and the mistakes that did not stop the parser. Raises YamlError."""
    if len(content) > MAX_BYTES:
        raise YamlError("", "is larger than 1 MiB", "put the keys that registries share into `defaults`")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser, about ten times as fast
    builder = _Builder(iter(yaml.parse(_text(content), Loader=loader)))
    try:
        return builder.document(), tuple(builder.mistakes)
    except yaml.reader.ReaderError as error:
        raise YamlError("", f"contains the character {error.character!r}", "write text in UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = content.splitlines()[mark.line : mark.line + 1] if mark else []
        if mark and line and b"\t" in line[0][: len(line[0]) - len(line[0].lstrip())]:
            raise YamlError(f"line {mark.line + 1}", "a tab indents this line", "indent with spaces") from error
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise YamlError(where, f"invalid YAML: {problem}", "check this line and the line before") from error


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"is not text in UTF-8: byte {error.start} is 0x{content[error.start]:02x}"
        raise YamlError("", got, "save it as UTF-8") from None
    control = re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]", text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise YamlError(f"line {line}", f"contains the character {control.group()!r}", "write plain text")
    return text


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _refuse_anchor(event: Event, where: str) -> None:
    anchor = getattr(event, "anchor", None)
    if isinstance(event, AliasEvent) or anchor is not None:
        mark = "*" if isinstance(event, AliasEvent) else "&"
        what = f"YAML anchors and aliases are not supported, got {mark}{anchor}"
        raise YamlError(where, what, "put the keys that registries share into `defaults`")


@dataclass
class _Builder:
    events: Iterator[Event]
    mistakes: list[Mistake] = field(default_factory=list)

    def document(self) -> Tree:
        next(self.events)  # the stream's start
        if isinstance(next(self.events), StreamEndEvent):
            return None
        tree = self.value(next(self.events), "", 0)
        end = next(self.events)
        while not isinstance(end, DocumentEndEvent):
            end = next(self.events)
        following = next(self.events)
        if not isinstance(following, StreamEndEvent):
            line = _line(following)
            raise YamlError(f"line {line}", "a second document begins here", "keep one document in the file")
        return tree

    def given(self, event: Event, path: str, depth: int) -> Tree:
        """The value of a key or of a list item; an absent or null value is a mistake. None is returned after that
        mistake. Raises YamlError.
        """
        value = self.value(event, path, depth)
        if value is None:
            self.mistakes.append(no_value(path))
        return value

    def value(self, event: Event, path: str, depth: int) -> Tree:
        where = f"line {_line(event)}"
        _refuse_anchor(event, path or where)
        if depth > MAX_DEPTH:
            raise YamlError(
                where, f"is nested more than {MAX_DEPTH} levels deep", "docs/configuration.md shows the structure"
            )
        if isinstance(event, ScalarEvent):
            return self.scalar(event, path)
        if isinstance(event, CollectionStartEvent) and event.tag not in (None, "!") and not event.implicit:
            self.mistakes.append(
                Mistake(path or where, f"YAML tags are not supported, got {event.tag}", "remove the tag")
            )
        return self.mapping(path, depth) if isinstance(event, MappingStartEvent) else self.sequence(path, depth)

    def scalar(self, event: ScalarEvent, path: str) -> Tree:
        text: str = event.value
        if event.tag is not None and event.tag != "!":
            self.mistakes.append(Mistake(path, f"YAML tags are not supported, got {event.tag}", "remove the tag"))
            return text
        if not event.implicit[0] or event.style not in (None, ""):
            return text
        if text in CONSTANTS:
            return CONSTANTS[text]
        if INTEGER.fullmatch(text):
            return int(text)
        return float(text) if FLOAT.fullmatch(text) and any(c in text for c in ".eE") else text

    def sequence(self, path: str, depth: int) -> Tree:
        """The items of a list. Raises YamlError. Call it after the list's start event; it reads up to the end event."""
        items: list[Tree] = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self.given(event, join(path, len(items)), depth + 1))
        return items

    def mapping(self, path: str, depth: int) -> Tree:
        entries: dict[str, Tree] = {}
        lines: dict[str, int] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            key, line = self.key(event, path), _line(event)
            value = self.given(next(self.events), join(path, key), depth + 1)
            if key in entries:
                what = f"is written twice, on lines {lines[key]} and {line}"
                self.mistakes.append(Mistake(join(path, key), what, "keep one"))
            else:
                entries[key], lines[key] = value, line
        return entries

    def key(self, event: Event, path: str) -> str:
        _refuse_anchor(event, path or f"line {_line(event)}")
        if isinstance(event, ScalarEvent):
            key = self.scalar(event, path)
            if isinstance(key, str):
                return key
            self.mistakes.append(Mistake(path, f"expected text as a key, got {event.value!r}", "put it in quotes"))
            return str(event.value)
        where = path or f"line {_line(event)}"
        raise YamlError(where, "expected text as a key, got a list or a mapping", "write plain text before the colon")
