"""Text for people and terminals: escaped and shortened, without secrets; instants, durations, counts, aligned cells."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

GAP = "  "


def escaped(text: str) -> str:
    """Untrusted text, safe for a terminal: characters that do not print (colours, writing direction) become codes."""
    if text.isprintable():
        return text
    safe = []
    for char in text:
        number = ord(char)
        code = f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
        safe.append(char if char.isprintable() else code)
    return "".join(safe)


def plain_json(text: str) -> str:
    """JSON, safe for a terminal: characters that do not print become JSON's own codes, and a line stays a line."""
    if text.isprintable():
        return text
    safe = []
    for char in text:
        if char.isprintable() or char == "\n":
            safe.append(char)
            continue
        units = char.encode("utf-16-be", "surrogatepass")
        safe += [f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)]
    return "".join(safe)


# Patterns of secrets in any text: IAM tokens, headers, users and passwords in URLs, private keys.
SECRETS = re.compile(
    r"(?P<token>\bt1\.[A-Za-z0-9_\-=.]{16,})"
    r"|(?P<header>(?i:\bbearer\s+)[A-Za-z0-9_\-=.+/]{8,}|(?i:\bbasic\s+)[A-Za-z0-9+/=]{16,})"
    r"|(?P<jwt>\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*)"
    r"|(?P<user>(?<=://)[^/@\s\"']*:[^/@\s\"']*(?=@))"
    r"|(?P<key>-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$))"
)


# Secrets that a registry's error may repeat, however short: IAM tokens, JWTs, OAuth tokens.
REPEATED_SECRETS = re.compile(r"\b(?:t1\.|eyJ|y[0-3]_)[\w.=-]{6,}")


def masked(text: str) -> str:
    """`text` without what looks like a secret: the last safeguard, not the first."""
    return SECRETS.sub("***", text)


def blanked(text: str) -> str:
    """Text with a blank for each character that does not print: line breaks and terminal controls."""
    return "".join(char if char.isprintable() else " " for char in text)


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters, with an ellipsis if something was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def one_line(text: str, limit: int = 300) -> str:
    """Untrusted text as part of one line: without control characters and secrets, at most `limit` characters."""
    return shortened(" ".join(blanked(REPEATED_SECRETS.sub("***", text)).split()), limit)


PATH = re.compile(r"[^\s/:@]+(/[^\s/:@]+)*")
TAG = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile("sha256:[0-9a-f]{64}|(?!sha256:)[a-z0-9]+([.+_-][a-z0-9]+)*:[0-9a-f]{32,}")


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an image: `path:tag`, `path@digest`, or the registry's own id."""

    path: str = ""
    tag: str = ""
    digest: str = ""
    id: str = ""


def parse_reference(text: str) -> Reference:
    """The parts of a reference, unchecked. A tag before a digest is ignored. Text without : and @ is the registry's own
    id. `text` has no host: the colon of a port would begin a tag.
    """
    path, at, digest = text.partition("@")
    if at:
        return Reference(path.rpartition(":")[0] or path, digest=digest)
    path, colon, tag = text.rpartition(":")
    return Reference(path, tag) if colon else Reference(id=text)


def instant(moment: datetime | None) -> str:
    """RFC 3339, UTC, to the second; empty for None."""
    return "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def took(start: datetime | None, end: datetime | None) -> str:
    """`1h02m`, `3m04s`, `12s`; empty if it has not ended."""
    if start is None or end is None:
        return ""
    seconds = max(0, round((end - start).total_seconds()))
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds % 60:02}s" if minutes else f"{seconds}s"


def short(digest: str) -> str:
    """`sha256:0123456789ab`: long enough to find the image, short enough for a line."""
    return digest[:19]


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def width_of(text: str) -> int:
    """Cells of a terminal that `text` takes. Wide and full-width characters take two cells, combining ones none.
    Source: Unicode Standard Annex 11. Expects escaped text: a control character counts as one cell.
    """
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(bool(unicodedata.combining(char)) for char in text)


def cut(text: str, width: int) -> str:
    """At most `width` cells, with an ellipsis if something was cut. `width`: at least 1; the ellipsis takes one cell of
    it.
    """
    if width_of(text) <= width:
        return text
    while text and width_of(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def table(
    heading: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    width: int | None = None,
) -> Iterator[str]:
    """Aligned lines under a heading; the last column is cut at `width`."""
    body = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(width_of(row[at]) for row in [list(heading), *body]) for at in range(len(heading))]
    for row in [list(heading), *body]:
        blanks = [" " * (widths[at] - width_of(cell)) for at, cell in enumerate(row)]
        cells = [blanks[at] + cell if at in right else cell + blanks[at] for at, cell in enumerate(row)]
        line = GAP.join(cells).rstrip()
        yield cut(line, width) if width else line
