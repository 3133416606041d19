"""What a source of evidence says: what is in use, by whom, as of when; and why there is none."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import Struct

LONGEST_BY = 200  # characters

Found = tuple[str | None, str | None, str]  # digest, image, by


class Use(Struct, frozen=True):
    """One thing that is in use, by its digest, its reference or both."""

    digest: str | None  # "sha256:…", of an index, of an image, or of its config
    image: str | None  # "host/path:tag"; None: no tag was said
    by: str  # who uses it: "prod/shop/Deployment api and 2 more"; printable, at most 200 characters


class Reading(Struct, frozen=True):
    """All that one source told at once."""

    as_of: datetime  # aware, UTC; how old it is by the source's own word
    uses: tuple[Use, ...]  # distinct by digest and image, sorted


@dataclass(eq=False)
class EvidenceError(Exception):
    """A source that cannot be believed: one line that names it, what is wrong, and what to do. Holds no secret."""

    source: str  # the configured name
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"evidence {self.source}: {_one_line(self.what, 600)}; {self.remedy}"


def reading_of(as_of: datetime, found: Iterable[Found]) -> Reading:
    """A reading that names each thing once: by the first who uses it, and how many others do.

    Whoever names a thing again does not count as more evidence: fewer replicas at night are no sign of a broken source.
    """
    users: dict[tuple[str | None, str | None], dict[str, None]] = {}
    for digest, image, by in found:
        users.setdefault((digest, image), {})[by] = None
    uses = (Use(digest, image, _by(list(names))) for (digest, image), names in users.items())
    return Reading(as_of.astimezone(UTC), tuple(sorted(uses, key=lambda use: (use.digest or "", use.image or ""))))


def _by(names: list[str]) -> str:
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return _one_line(names[0], LONGEST_BY - len(more)) + more


def _one_line(text: str, longest: int) -> str:
    """Without line breaks and whatever else a terminal obeys."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
