"""The names that tags and repositories can have, and why a pattern can match none of them.

A tag is `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}` (OCI distribution specification, "Pulling manifests"). A path has the same
characters and `/`, and letters of either case, because some registries have capitals. The checks are certain: they
never reject a pattern that might match a name.
"""

import re
from collections.abc import Iterator

from policies.mistakes import BadValueError
from policies.patterns import Patterns, tokens
from policies.units import shown

TAG_LENGTH = 128
PATH_LENGTH = 255
_TAG = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_NOT_FIRST = frozenset(".-")  # in a tag
_REGULAR = frozenset("^$+()|{}\\")  # characters that make a glob look like a regular expression
_REPEAT = re.compile(r"\{[0-9]+(,[0-9]*)?\}")  # in RE2; any other { is a literal
_BRACES = re.compile(r"([^{}]*)\{([^{}]*,[^{}]*)\}([^{}]*)")
_ESCAPED_WORD = re.compile(r"\\[A-Za-z0-9]")


def refuse_impossible(text: str, *, paths: bool = False) -> None:
    """Raises BadValueError if no tag, or no repository's path, can match this valid pattern."""
    name = "repository's path" if paths else "tag"
    if (reason := next(_reasons(text, paths=paths), None)) is not None:
        got = f"expected a pattern that a {name} can match, got {shown(text)}: {reason}"
        raise BadValueError(got, _remedy(text, paths))


def _reasons(text: str, *, paths: bool) -> Iterator[str]:
    """The reasons why the pattern can match nothing; none if it may match a name."""
    name, allowed, most = ("path", _TAG | {"/"}, PATH_LENGTH) if paths else ("tag", _TAG, TAG_LENGTH)
    if text.startswith("re:"):
        yield from (
            f"a {name} cannot contain {shown(character)}" for character in _needed(text[3:]) if character not in allowed
        )
        return
    if (word := _ESCAPED_WORD.search(text)) is not None:
        yield f"{word.group()} in a glob is the letter {word.group()[1:]}"
    parts = list(tokens(text))
    positions = [part for part in parts if part[0] not in ("*", "**")]
    yield from (f"a {name} cannot contain {shown(part[1])}" for part in positions if not _possible(*part, allowed))
    if len(positions) > most:
        yield f"no {name} is longer than {most} characters"
    if not paths and not _possible(*parts[0], _TAG - _NOT_FIRST):
        yield f"a tag cannot begin with {shown(parts[0][1])}"
    if paths and (text.startswith("/") or text.endswith("/") or "//" in text):
        yield "a path has no / at its beginning or end, and no //"


def _possible(kind: str, characters: str, allowed: frozenset[str]) -> bool:
    """Whether this part of a glob can match one of these characters."""
    if kind == "text":
        return characters in allowed
    if kind == "class":
        match = Patterns((f"re:{characters}",)).match
        return any(match(character) is not None for character in allowed)
    return True


def _needed(expression: str) -> Iterator[str]:
    """The literals, outside of groups and not optional, that every match of an RE2 expression has.

    Empty if the expression has alternatives, or escapes other than of punctuation and classes.
    """
    needed: list[str] = []
    depth = at = 0
    while at < len(expression):
        character = expression[at]
        width, literal = 1, ""
        if character == "\\":
            width, escaped = 2, expression[at + 1 : at + 2]
            if escaped.isalnum() and escaped not in "dDwWsSbBAz":
                return  # \x41, \pL, \Q…\E: more than these two characters
            literal = "" if escaped.isalnum() else escaped
        elif character == "[":
            width = _class_width(expression, at)
        elif character == "|":
            return
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif (repeat := _REPEAT.match(expression, at)) is not None:
            width = len(repeat.group())
        elif character not in "^$.*+?":
            literal = character
        at += width
        optional = expression[at : at + 1] in ("*", "?") or _REPEAT.match(expression, at) is not None
        if literal and not depth and not optional:
            needed.append(literal)
    yield from needed


def _class_width(expression: str, start: int) -> int:
    """The length of the `[…]` at `start`; named classes such as [:alpha:] may be inside."""
    at = start + 1
    at += expression[at : at + 1] == "^"
    at += expression[at : at + 1] == "]"
    while at < len(expression) and expression[at] != "]":
        if expression[at] == "\\":
            at += 1
        elif expression.startswith("[:", at) and (end := expression.find(":]", at)) > 0:
            at = end + 1
        at += 1
    return at + 1 - start


def _remedy(text: str, paths: bool) -> str:
    """A pattern to write instead."""
    if text.startswith("!") and _is_valid(text[1:].strip(), paths):
        return f"write {text[1:].strip()} under {'except_repositories' if paths else 'except_tags'}"
    if text.startswith("re:"):
        return "write an expression on the whole name"
    several = _several(text)
    if several and all(_is_valid(pattern, paths) for pattern in several):
        return "write several patterns: [" + ", ".join(f'"{pattern}"' for pattern in several) + "]"
    if _REGULAR.intersection(text):
        expression = f"re:{text.removeprefix('^').removesuffix('$')}"
        return f"write {expression}" if _is_valid(expression, paths) else "write a regular expression as re:…"
    plain = text.strip()
    return f"write {plain}" if plain != text and _is_valid(plain, paths) else _form(plain, paths)


def _form(text: str, paths: bool) -> str:
    """How to write a tag or a path, if there is no better remedy."""
    if paths:
        path = re.sub("/{2,}", "/", text.rpartition("://")[2]).strip("/")
        return (
            f"write {path}" if path and _is_valid(path, paths) else "write the path alone, without host, tag or digest"
        )
    if text.startswith("sha256:"):
        return f"write digests: [{text}]"
    if "/" in text or ":" in text:
        return "write the tag alone, and its path under repositories, beside delete or keep"
    return "a tag has at most 128 of A-Z, a-z, 0-9, '_', '.' and '-', the last two not at its beginning"


def _several(text: str) -> list[str]:
    """The patterns that a person may have written as one, with commas, spaces or braces; or none."""
    if (braces := _BRACES.fullmatch(text)) is not None:
        return [f"{braces[1]}{choice.strip()}{braces[3]}" for choice in braces[2].split(",")]
    parts = [part for part in re.split(r"[,\s]+", text) if part]
    plain = len(parts) > 1 and not _REGULAR.intersection(text)
    return parts if plain else []


def _is_valid(text: str, paths: bool) -> bool:
    try:
        Patterns((text,), paths)
    except BadValueError:
        return False
    return next(_reasons(text, paths=paths), None) is None
