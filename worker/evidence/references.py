"""Reads what names an image in any of its usual forms, and writes it in one. No I/O.

Source: the grammar of references of the distribution project, and what container runtimes report as `imageID`.
"""

import re

# Which runtime said it; what follows is a reference or a digest.
_RUNTIMES = re.compile(r"(?:docker-pullable|docker|containerd|cri-o|oci)://")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_ALGORITHMS = ("sha256:", "sha384:", "sha512:")
# A digest by the grammar of the OCI image specification, whatever its algorithm; these two are never another's.
_ANY_DIGEST = re.compile(r"(?!sha256:|sha512:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_NO_DIGEST = "has no digest of sha256: and 64 digits 0-9a-f"
_HEX = re.compile(r"[0-9a-f]{64}")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
LONGEST = 1024  # characters; a name has at most 255


class UnknownDigestError(ValueError):
    """A reference whose digest is of an algorithm that is not known: what it names cannot be told."""

    def __init__(self, name: str, digest: str) -> None:
        super().__init__(f"{_NO_DIGEST}, or of sha512: and 128, after the @")
        self.name = name  # "host/path"
        self.digest = digest


def parse(text: str) -> tuple[str | None, str | None]:
    """(digest, image) of a reference, one of which may be None. Raises ValueError, which says what is wrong.

    Raises UnknownDigestError, which is one, where everything but the digest is understood.

    `image` is "host/path:tag": where the text has neither tag nor digest, the tag is `latest`; where it has only a
    digest, `image` is None. A tag beside a digest counts as well: whoever wrote it expects it to be there.
    """
    bare = _bare(text)
    if len(bare) > LONGEST or not bare:
        raise ValueError("is empty" if not bare else f"has more than {LONGEST} characters")
    if _HEX.fullmatch(bare):
        return f"sha256:{bare}", None
    if _DIGEST.fullmatch(bare):
        return bare, None
    if bare.startswith(_ALGORITHMS):  # to a runtime a tag of Docker Hub's image "sha256"; to whoever wrote it, a digest
        raise ValueError(_NO_DIGEST)
    name, at, digest = bare.partition("@")
    if at and not (_DIGEST.fullmatch(digest) or _ANY_DIGEST.fullmatch(digest)):
        raise ValueError(f"{_NO_DIGEST} after the @")
    path, tag = _split_tag(name)
    if at and not _DIGEST.fullmatch(digest):
        raise UnknownDigestError(_full_name(path), digest)
    image = f"{_full_name(path)}:{tag or 'latest'}"
    return digest or None, image if tag or not digest else None


def name_of(text: str) -> str | None:
    """ "host/path" of a reference that `parse` understands; None: it is a digest alone."""
    bare = _bare(text)
    if _HEX.fullmatch(bare) or _DIGEST.fullmatch(bare):
        return None
    return _full_name(_split_tag(bare.partition("@")[0])[0])


def _bare(text: str) -> str:
    return _RUNTIMES.sub("", text, count=1) if "://" in text[:20] else text


def _split_tag(name: str) -> tuple[str, str]:
    """The name without its tag, and the tag, empty where there is none: a colon before a slash is a port's."""
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, ""
    if not _TAG.fullmatch(tag):
        raise ValueError("has no proper tag after the colon")
    return path, tag


def _full_name(name: str) -> str:
    """With its host, in lower case. Without one it is Docker Hub's, as every runtime reads it."""
    host, slash, path = name.partition("/")
    if not slash or not (set(".:") & set(host) or host == "localhost"):
        host, path = "docker.io", name if slash else f"library/{name}"
    if host == "index.docker.io":
        host = "docker.io"
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path):
        raise ValueError("is not host/path:tag, host/path@sha256:… or sha256:…")
    return f"{host.lower()}/{path}"
