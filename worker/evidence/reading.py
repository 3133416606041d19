"""The reading of a source of evidence: the images in use, by whom, as of when. No I/O.

References are accepted in every usual form and normalized to one form. Source: the reference grammar of the
distribution project, and the `imageID` values that container runtimes report.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct

from worker.text import blanked, shortened

LONGEST_BY = 200  # characters
# The runtime that reported it; a reference or a digest follows.
_RUNTIMES = re.compile(r"(?:docker-pullable|docker|containerd|cri-o|oci)://")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ALGORITHMS = ("sha256:", "sha384:", "sha512:")
# A digest of another algorithm, by the grammar of the OCI image specification.
_ANY_DIGEST = re.compile(r"(?!sha256:|sha512:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_NO_DIGEST = "has no digest of sha256: and 64 digits 0-9a-f"
_HEX = re.compile(r"[0-9a-f]{64}")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
LONGEST = 1024  # characters; a name has at most 255


class NamedImage(NamedTuple):
    """One image that a source names."""

    digest: str | None
    image: str | None  # "host/path:tag"
    by: str
    name: str | None  # "host/path"; None: the source names only a digest
    unknown_digest: str = ""  # a digest of an unknown algorithm; `digest` and `image` are None then


def parse_reference(text: str, by: str) -> NamedImage:
    """The image that a reference names. Raises ValueError with the reason: it is not a reference.

    Without tag and digest, the tag is `latest`; with a digest alone, `image` is None. With both, both are in use.
    """
    bare = _RUNTIMES.sub("", text, count=1) if "://" in text[:20] else text
    if len(bare) > LONGEST or not bare:
        raise ValueError("is empty" if not bare else f"has more than {LONGEST} characters")
    if _HEX.fullmatch(bare):
        return NamedImage(f"sha256:{bare}", None, by, None)
    if _DIGEST.fullmatch(bare):
        return NamedImage(bare, None, by, None)
    if bare.startswith(_ALGORITHMS):  # a runtime would read it as a tag of Docker Hub's image "sha256"
        raise ValueError(_NO_DIGEST)
    name, at, digest = bare.partition("@")
    is_known = _DIGEST.fullmatch(digest) is not None
    if at and not is_known and not _ANY_DIGEST.fullmatch(digest):
        raise ValueError(f"{_NO_DIGEST} after the @")
    path, tag = _split_tag(name)
    path = _full_name(path)
    if at and not is_known:
        return NamedImage(None, None, by, path, digest)
    return NamedImage(digest or None, f"{path}:{tag or 'latest'}" if tag or not digest else None, by, path)


def _split_tag(name: str) -> tuple[str, str]:
    """The name without its tag, and the tag or "". A colon before a slash belongs to a port."""
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, ""
    if not _TAG.fullmatch(tag):
        raise ValueError("has an invalid tag after the colon")
    return path, tag


def _full_name(name: str) -> str:
    """The name with its host in lower case. A name without a host belongs to Docker Hub, as for every runtime."""
    host, slash, path = name.partition("/")
    if not slash or not (set(".:") & set(host) or host == "localhost"):
        host, path = "docker.io", name if slash else f"library/{name}"
    if host == "index.docker.io":
        host = "docker.io"
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path):
        raise ValueError("is not host/path:tag, host/path@sha256:… or sha256:…")
    return f"{host.lower()}/{path}"


class Use(Struct, frozen=True):
    """One image in use, by its digest, its reference or both."""

    digest: str | None  # "sha256:…", of an index, of an image, or of its config
    image: str | None  # "host/path:tag"; None: no tag was named
    by: str  # who uses it: "prod/shop/Deployment api and 2 more"; printable, at most 200 characters


class Reading(Struct, frozen=True):
    """Everything that one source reports at one time."""

    as_of: datetime  # aware, UTC; reported by the source
    uses: tuple[Use, ...]  # distinct by digest and image, sorted
    names: dict[str, str] = {}  # digest -> the first "host/path" by which it was named
    unknown_digests: tuple[str, ...] = ()  # "host/path@…" with a digest of an unknown algorithm; sorted

    def name_of(self, use: Use) -> str | None:
        """ "host/path" of a use; None: the source names only a digest."""
        if use.image is not None:
            return use.image.rpartition(":")[0]
        return self.names.get(use.digest or "")


@dataclass(eq=False)
class EvidenceError(Exception):
    """A source that cannot be read or trusted. Its one line names the source, the problem and the remedy; no secret."""

    exit_code = 1

    source: str  # the configured name
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"evidence {self.source}: {shortened(blanked(self.what), 600)}; {self.remedy}"


def reading_of(as_of: datetime, everything: Iterable[NamedImage]) -> Reading:
    """A reading with each image once, by its first user and the number of the others.

    Further users do not count as more evidence: fewer replicas at night do not mean a broken source.
    """
    users: dict[tuple[str | None, str | None], dict[str, None]] = {}
    names: dict[str, str] = {}
    unknown_digests: set[str] = set()
    for digest, image, by, name, unknown in everything:
        if unknown:
            unknown_digests.add(f"{name}@{unknown}")
            continue
        users.setdefault((digest, image), {})[by] = None
        if digest is not None and name is not None:
            names.setdefault(digest, name)
    uses = []
    for (digest, image), all_users in users.items():
        more = f" and {len(all_users) - 1:,} more" if len(all_users) > 1 else ""
        uses.append(Use(digest, image, shortened(blanked(next(iter(all_users))), LONGEST_BY - len(more)) + more))
    in_order = tuple(sorted(uses, key=lambda use: (use.digest or "", use.image or "")))
    return Reading(as_of.astimezone(UTC), in_order, names, tuple(sorted(unknown_digests)))
