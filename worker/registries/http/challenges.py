"""Challenges of a 401: the header WWW-Authenticate of RFC 9110, sections 11.2, 11.3 and 11.6.1.

Some registries send a realm without quotation marks although it is a URL: it ends at a space or comma.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
SCHEME = re.compile(rf"({WORD})(?=[ \t,]|$)")
TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
PARAMETER = re.compile(rf"""({WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""", re.DOTALL)
MAX_LENGTH = 16_000  # characters


@dataclass(frozen=True, slots=True)
class Challenge:
    """An authentication scheme that a server accepts. Scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """All challenges of a header in order. Parsing ends at the first malformed part; nothing after it is guessed."""
    parsed: list[tuple[str, dict[str, str]]] = []
    at, text = 0, header[:MAX_LENGTH]
    while at < len(text):
        if text[at] in " \t,":
            at += 1
        elif parsed and (parameter := PARAMETER.match(text, at)):
            name, quoted, bare = parameter.groups()
            value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            parsed[-1][1].setdefault(name.lower(), value)
            at = parameter.end()
        elif scheme := SCHEME.match(text, at):
            parsed.append((scheme[1].lower(), {}))
            at = (TOKEN68.match(text, scheme.end()) or scheme).end()
        else:
            break
    return tuple(Challenge(scheme, parameters) for scheme, parameters in parsed)


def find_challenge(scheme: str, header: str) -> Challenge | None:
    """The first challenge of a scheme, "bearer" or "basic"; None: the header has none."""
    return next((challenge for challenge in parse_challenges(header) if challenge.scheme == scheme), None)
