"""What a source of evidence says: what is in use, by whom, as of when; and why there is none."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct

from worker.evidence.references import UnknownDigestError, name_of, parse

LONGEST_BY = 200  # characters


class Found(NamedTuple):
    """One thing that a source names."""

    digest: str | None
    image: str | None  # "host/path:tag"
    by: str
    name: str | None  # "host/path"; None: a digest alone was named
    odd: str = ""  # a digest that is not understood; the others are None then


def named(text: str, by: str) -> Found:
    """What a reference names. Raises ValueError: it is none."""
    try:
        digest, image = parse(text)
    except UnknownDigestError as error:
        return Found(None, None, by, error.name, error.digest)
    return Found(digest, image, by, name_of(text))


class Use(Struct, frozen=True):
    """One thing that is in use, by its digest, its reference or both."""

    digest: str | None  # "sha256:…", of an index, of an image, or of its config
    image: str | None  # "host/path:tag"; None: no tag was said
    by: str  # who uses it: "prod/shop/Deployment api and 2 more"; printable, at most 200 characters


class Reading(Struct, frozen=True):
    """All that one source told at once."""

    as_of: datetime  # aware, UTC; how old it is by the source's own word
    uses: tuple[Use, ...]  # distinct by digest and image, sorted
    names: dict[str, str] = {}  # digest -> "host/path" by which it was named first, if it was by any
    odd: tuple[str, ...] = ()  # "host/path@…" whose digest is not understood, sorted

    def name_of(self, use: Use) -> str | None:
        """ "host/path" of a use; None: a digest alone was named."""
        if use.image is not None:
            return use.image.rpartition(":")[0]
        return self.names.get(use.digest or "")


@dataclass(eq=False)
class EvidenceError(Exception):
    """A source that cannot be believed: one line that names it, what is wrong, and what to do. Holds no secret."""

    exit_code = 1

    source: str  # the configured name
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"evidence {self.source}: {_one_line(self.what, 600)}; {self.remedy}"


def reading_of(as_of: datetime, everything: Iterable[Found]) -> Reading:
    """A reading that names each thing once: by the first who uses it, and how many others do.

    Whoever names a thing again does not count as more evidence: fewer replicas at night are no sign of a broken source.
    """
    users: dict[tuple[str | None, str | None], dict[str, None]] = {}
    names: dict[str, str] = {}
    odd: set[str] = set()
    for digest, image, by, name, unknown in everything:
        if unknown:
            odd.add(f"{name}@{unknown}")
            continue
        users.setdefault((digest, image), {})[by] = None
        if digest is not None and name is not None:
            names.setdefault(digest, name)
    uses = (Use(digest, image, _by(list(names))) for (digest, image), names in users.items())
    in_order = tuple(sorted(uses, key=lambda use: (use.digest or "", use.image or "")))
    return Reading(as_of.astimezone(UTC), in_order, names, tuple(sorted(odd)))


def _by(names: list[str]) -> str:
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return _one_line(names[0], LONGEST_BY - len(more)) + more


def _one_line(text: str, longest: int) -> str:
    """Without line breaks and whatever else a terminal obeys."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
