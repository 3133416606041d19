"""Tag and repository patterns: a glob, or `re:` and an RE2 expression; always the whole name.

A glob has `*`, `?`, `[a-z]`, `[!a-z]` and `\\`, which makes the next character a literal. In a repository's path `*`
and `?` stay within a segment and `**` crosses segments. RE2 matches expressions in linear time. Globs of only literals
and `*`, nearly all globs, become one expression of Python's `re` that does not backtrack.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import re2

from policies.mistakes import BadValueError
from policies.units import shown

LONGEST = 512  # characters of one pattern
_MEMORY = 32 << 20  # bytes; the most that RE2's automaton may take
_TRIAL = "\x00 trial"  # no tag or path has this name
_RANGE = 16  # bytes; the precision of the range of possible matches
_TOKENS_ONLY = {"*", "**"}

Token = tuple[str, str]  # kind ("text", "*", "**", "?", "class"), the characters


Matcher = Callable[[str], str | None]  # name -> the pattern that it matches


@dataclass(frozen=True)
class Patterns:
    """Patterns as a user listed them. `match` returns the pattern that a whole name matches; of several, a plain name
    precedes a plain prefix, and that the others.

    Raises BadValueError for a pattern that cannot be read, with RE2's own message if RE2 rejects it.
    """

    texts: tuple[str, ...]
    paths: bool = False  # globs on repository paths: `*` stays within a segment
    match: Matcher = field(init=False, repr=False, compare=False)
    _plain: Callable[[str], object] = field(init=False, repr=False, compare=False)  # true if a plain pattern matches
    _others: Matcher | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in zip(("match", "_plain", "_others"), _matcher(self.texts, self.paths), strict=True):
            object.__setattr__(self, name, value)  # the one way to fill a frozen field

    def matching(self, names: Iterable[str]) -> set[str]:
        """The names that match a pattern."""
        names = set(names)
        plain = set(filter(self._plain, names))
        return plain if self._others is None else plain.union(filter(self._others, names - plain))

    def __reduce__(self) -> tuple[type["Patterns"], tuple[tuple[str, ...], bool]]:
        return Patterns, (self.texts, self.paths)

    def __str__(self) -> str:
        return ", ".join(self.texts)


def _matcher(texts: tuple[str, ...], paths: bool) -> tuple[Matcher, Callable[[str], object], Matcher | None]:
    """The matcher of all patterns, a test for the plain patterns, and the matcher of the others."""
    plain: list[tuple[int, str, str]] = []  # rank, pattern, Python's expression
    expressions: list[tuple[str, str]] = []
    for text in texts:
        match _read(text, paths):
            case str() as expression:
                expressions.append((text, expression))
            case [name]:
                plain.append((0, text, re.escape(name)))
            case [start, ""]:
                plain.append((1, text, f"{re.escape(start)}.*"))
            case [first, *between, last]:
                # An atomic group takes the first match and never backtracks: that leaves most room for the rest, and
                # the time is linear for every pattern.
                pieces = "".join(f"(?>.*?{re.escape(piece)})" for piece in between if piece)
                plain.append((2, text, f"{re.escape(first)}{pieces}.*{re.escape(last)}"))
    others = _expressions(expressions) if expressions else None
    if not plain:
        others = others or (lambda _: None)
        return others, lambda _: None, others
    plain.sort(key=itemgetter(0))
    known = [text for _, text, _ in plain]
    fullmatch = re.compile("|".join(f"({expression})" for _, _, expression in plain), re.DOTALL).fullmatch

    def match(name: str) -> str | None:
        matched = fullmatch(name)
        if matched is not None:
            return known[(matched.lastindex or 1) - 1]
        return None if others is None else others(name)

    return match, fullmatch, others


def _read(text: str, paths: bool) -> str | list[str]:
    """An RE2 expression, or the literal pieces between the stars of a plain glob."""
    if not text or text == "re:":
        raise BadValueError("expected a pattern, got an empty one", "write, for example, pr-*")
    if len(text) > LONGEST:
        raise BadValueError(
            f"expected a pattern of at most {LONGEST} characters, got {len(text)}", "write several patterns"
        )
    if text.startswith("re:"):
        return text[3:]
    parts = list(tokens(text))
    if not paths and all(kind == "text" or kind in _TOKENS_ONLY for kind, _ in parts):
        pieces = [""]
        for kind, characters in parts:
            if kind == "text":
                pieces[-1] += characters
            elif len(pieces) == 1 or pieces[-1]:  # adjacent stars are one
                pieces.append("")
        return pieces
    any_one = "[^/]" if paths else "."
    meaning = {"*": any_one + "*", "**": ".*", "?": any_one}
    return "(?s)" + "".join(
        meaning.get(kind, characters if kind == "class" else _quoted(characters)) for kind, characters in parts
    )


def tokens(text: str) -> Iterator[Token]:
    """The parts of a glob. Raises BadValueError if the text is not a glob."""
    at = 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            if at + 1 == len(text):
                got = f"expected a pattern, got {shown(text)} with a lone \\ at its end"
                raise BadValueError(got, "write \\\\ for that character")
            yield "text", text[at + 1]
            at += 2
        elif text.startswith("**", at):
            yield "**", "**"
            at += 2
        elif character in "*?":
            yield character, character
            at += 1
        elif character == "[":
            token, at = _class(text, at)
            yield "class", token
        else:
            yield "text", character
            at += 1


def _class(text: str, start: int) -> tuple[str, int]:
    """The RE2 class for a glob's `[…]` at `start`, and the index after it."""
    at = start + 1
    negated = text[at : at + 1] in ("!", "^")
    at += negated
    inside = ""
    while at < len(text) and (text[at] != "]" or not inside):
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
            inside += _quoted(text[at])
        else:
            inside += "-" if text[at] == "-" else _quoted(text[at])
        at += 1
    if at >= len(text):
        got = f"expected a pattern, got {shown(text)}, whose [ is never closed"
        raise BadValueError(got, "write \\[ for that character")
    return f"[{'^' if negated else ''}{inside}]", at + 1


def _quoted(characters: str) -> str:
    return "".join(c if c.isalnum() or c == "_" or ord(c) > 127 else f"\\{c}" for c in characters)


def _expressions(expressions: list[tuple[str, str]]) -> Matcher:
    """One matcher for several RE2 expressions. A comparison rules most names out."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    together = re2.Set.FullMatchSet(options)
    texts = [text for text, _ in expressions]
    ranges: list[tuple[bytes, bytes]] = []
    for text, expression in expressions:
        try:
            compiled = re2.compile(expression, options)
        except re2.error as error:
            raise BadValueError(f"{_refused(text)}: {_words(error)}", _remedy(text)) from None
        try:
            ranges.append(compiled.possiblematchrange(_RANGE))
        except re2.error:  # RE2 does not know the range of matching names
            ranges.append((b"", b"\xff"))
        together.Add(expression)
    if not _works(together):
        room = f"RE2's {_MEMORY >> 20} MiB"
        got = f"{_refused(texts[0])}: with the patterns beside it, it needs more than {room}"
        raise BadValueError(got, "write fewer or shorter patterns")
    least, greatest = min(low for low, _ in ranges), max(high for _, high in ranges)

    def matcher(name: str) -> str | None:
        encoded = name.encode()
        if not least <= encoded <= greatest:
            return None
        matched: list[int] | None = together.Match(encoded)
        return texts[min(matched)] if matched else None

    return matcher


def _refused(text: str) -> str:
    return f"expected {'an RE2 expression' if text.startswith('re:') else 'a pattern'}, got {shown(text)}"


def _remedy(text: str) -> str:
    if text.startswith("re:"):
        return "write it in RE2 syntax, without look-around and back-references"
    return "write a class from low to high, for example [a-z]"


def _works(together: Any) -> bool:
    """Whether RE2 has memory for the expressions. Without, it matches no name, and a keep rule would keep nothing: so
    this matches a name for which there is an expression.
    """
    together.Add(_TRIAL)
    try:
        together.Compile()
    except re2.error:
        return False
    return bool(together.Match(_TRIAL))


def _words(error: Any) -> str:
    words = error.args[0] if error.args else "RE2 cannot read it"
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
