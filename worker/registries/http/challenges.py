"""What a 401 asks for: the header WWW-Authenticate, by RFC 9110, sections 11.2, 11.3 and 11.6.1.

Some registries write a realm without quotation marks, though it is a URL: it ends at a space or comma.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
SCHEME = re.compile(rf"({WORD})(?=[ \t,]|$)")
TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
PARAMETER = re.compile(rf"""({WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""", re.DOTALL)
LONGEST = 16_000  # characters


@dataclass(frozen=True, slots=True)
class Challenge:
    """One of the ways to sign in that a server names. Scheme and names in small letters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def challenges(header: str) -> tuple[Challenge, ...]:
    """All challenges of a header in order. What cannot be read ends it: nothing behind that is guessed at."""
    found: list[tuple[str, dict[str, str]]] = []
    at, text = 0, header[:LONGEST]
    while at < len(text):
        if text[at] in " \t,":
            at += 1
        elif found and (parameter := PARAMETER.match(text, at)):
            name, quoted, bare = parameter.groups()
            value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            found[-1][1].setdefault(name.lower(), value)
            at = parameter.end()
        elif scheme := SCHEME.match(text, at):
            found.append((scheme[1].lower(), {}))
            at = (TOKEN68.match(text, scheme.end()) or scheme).end()
        else:
            break
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def asks_for(scheme: str, header: str) -> Challenge | None:
    """The first challenge of a scheme, "bearer" or "basic"; None: the server does not name it."""
    return next((one for one in challenges(header) if one.scheme == scheme), None)
