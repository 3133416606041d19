"""The format of a line of an inventory, and the messages for invalid lines."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from policies.image import Image, Instant, Unreadable
from policies.units import shown

WRONG = (ValueError, RecursionError)  # msgspec's errors, also UnicodeDecodeError; endless nesting
NAME = attrgetter("name")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|(?!sha256:)[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-f]{32,}")

# int64 values are strings, so the decoder is not strict and would accept any number as a time: no number meets these.
_Time = (
    Annotated[datetime, Meta(tz=True)] | Annotated[int, Meta(ge=1, le=0)] | Annotated[float, Meta(ge=1, le=0)] | None
)
_Line = msgspec.defstruct(
    "_Line",
    [("created_at", _Time, None), ("pulled_at", _Time | UnsetType, UNSET)],
    bases=(Image,),
    frozen=True,
    gc=False,
    kw_only=True,
    rename="camel",
)
decoder: msgspec.json.Decoder[Image] = msgspec.json.Decoder(_Line, strict=False)


class _Row(Struct, forbid_unknown_fields=True):
    repository: str
    reason: str


class _Head(Struct, forbid_unknown_fields=True):
    registry: str | UnsetType = UNSET
    listed_at: Instant | UnsetType = UNSET
    unreadable: tuple[_Row, ...] = ()


class _First(Struct):
    digest: msgspec.Raw | UnsetType = UNSET  # an image has one, a head has none


_heads = msgspec.json.Decoder(_Head)
_firsts = msgspec.json.Decoder(_First)
_any = msgspec.json.Decoder()
_probe = msgspec.json.Decoder(msgspec.Raw)


def are_sound(images: Sequence[Image]) -> bool:
    """Whether the names, children and subjects of a block of images are valid.

    Their own digests, and those of their blobs, are checked for each repository.
    """
    named = [child for image in images if image.children for child in image.children]
    named += [image.subject for image in images if image.subject]
    return all(map(_is_name, set(map(NAME, images)))) and all(map(is_digest, named))


def is_digest(text: str) -> bool:
    """Whether a text is `sha256:` with 64 digits, or another algorithm with at least 32."""
    return _DIGEST.fullmatch(text) is not None


def _is_name(text: str) -> bool:
    """Whether a text is a registry's id, a slash and a repository's path."""
    return "/" in text and _is_path(text)


def _is_path(text: str) -> bool:
    return text.isprintable() and all(text.split("/"))


def mistake_in(line: bytes) -> str | None:
    """The first mistake in a line, as `createdAt: expected a time, got 5; write …`; None: the line is valid."""
    try:
        image = decoder.decode(line)
    except msgspec.ValidationError as error:
        return _mistyped(error, line)
    except WRONG as error:
        return _no_json(error)
    if not _is_name(image.name):
        return _mistake("name", image.name)
    return next((_mistake(where, text) for where, text in _digests(image) if not is_digest(text)), None)


def _digests(image: Image) -> Iterator[tuple[str, str]]:
    yield "digest", image.digest
    if image.config is not None:
        yield "config.digest", image.config.digest
    yield from ((f"layers[{number}].digest", layer.digest) for number, layer in enumerate(image.layers))
    yield from ((f"children[{number}]", child) for number, child in enumerate(image.children or ()))
    if isinstance(image.subject, str):
        yield "subject", image.subject


def head_of(line: bytes) -> tuple[Unreadable, ...] | None:
    """The repositories that a head names; None: the line is an image. Raises ValueError with the mistake."""
    try:
        _probe.decode(line)
        if _firsts.decode(line).digest is not UNSET:
            return None
        rows = _heads.decode(line).unreadable
    except msgspec.ValidationError as error:
        raise ValueError(_no_head(error, line)) from error
    except WRONG as error:
        raise ValueError(_no_json(error)) from error
    for number, row in enumerate(rows):
        if not _is_path(row.repository):
            raise ValueError(_mistake(f"unreadable[{number}].repository", row.repository))
    return tuple(Unreadable(repository=row.repository, reason=row.reason) for row in rows)


def _no_head(error: msgspec.ValidationError, line: bytes) -> str:
    head = _any.decode(line)
    if isinstance(head, dict) and not head.keys().isdisjoint(Image.__struct_encode_fields__):
        what, remedy = _EXPECTED["digest"]
        return f"digest: expected {what}, got nothing; {remedy}: only a head has none"
    return _mistyped(error, line)


def _no_json(error: Exception) -> str:
    match error:
        case msgspec.DecodeError():
            what = f"not JSON: {str(error).removeprefix('JSON is malformed: ')}"
        case UnicodeDecodeError():
            what = "not UTF-8"
        case RecursionError():
            what = "nested too deep"
        case _:
            what = str(error)
    return f"{what}; write one image a line, as `registry-gc inventory` does"


_BLOB = ("a blob", 'write, for example, {"digest": "sha256:…", "size": "1024"}')
_TIME = ("a time with its offset", 'write, for example, "2026-11-23T03:00:00Z"')
_BYTES = ("a number of bytes", 'write a whole number from 0 to 9223372036854775807, for example "1024"')
_DIGEST_TEXT = ("a digest", "write sha256: and 64 digits 0-9a-f")
_TEXT = ("text", "put it in quotes")
_ROW = ("a repository with its reason", 'write {"repository": "shop/api", "reason": "…"}')
_EXPECTED = {
    "": ("an image", "write one JSON object a line"),
    "children": ("a list of digests", 'write, for example, ["sha256:…"], or null where it could not be read'),
    "children[]": _DIGEST_TEXT,
    "compressedSize": _BYTES,
    "config": _BLOB,
    "createdAt": _TIME,
    "digest": _DIGEST_TEXT,
    "labels": ("a mapping of text", 'write, for example, {"team": "shop"}'),
    "labels[]": _TEXT,
    "layers": ("a list of blobs", "write […], or leave it out"),
    "layers[]": _BLOB,
    "listed_at": _TIME,
    "locked": ("true or false", "write one of them, without quotes"),
    "name": ("a name", "write the registry's id, a slash and the repository, for example crp1/shop/api"),
    "pulledAt": _TIME,
    "repository": ("a repository's path", "write it without the registry's id, for example shop/api"),
    "size": _BYTES,
    "subject": _DIGEST_TEXT,
    "tags": ("a list of tags", 'write, for example, ["v1.0.0"]'),
    "tags[]": ("a tag", "put it in quotes"),
    "unreadable": ("a list of repositories", "write […], or leave it out"),
    "unreadable[]": _ROW,
}


def _mistake(where: str, value: object) -> str:
    """The message for a wrong value. `where`: its place, as `layers[0].size`."""
    field = re.sub(r"\[[^]]*\]$", "[]", where.rpartition(".")[2])
    what, remedy = _EXPECTED.get(field, _TEXT)
    return f"{where}: expected {what}, got {shown(value)}; {remedy}".removeprefix(": ")


def _mistyped(error: msgspec.ValidationError, line: bytes) -> str:
    """msgspec's error in our words, with the wrong value."""
    what, _, at = str(error).partition(" - at ")
    where = re.sub(r"^.*\$\.?|`.*$", "", at)
    missing = re.search("(missing required|unknown) field `(.*)`", what)
    if missing is None:
        try:
            return _mistake(where, _value(_any.decode(line), where))
        except WRONG as deeper:  # a value that the decoder of images skips
            return _no_json(deeper)
    inner = f"{where}.{missing[2]}".removeprefix(".")
    if missing[1] == "missing required":
        return _mistake(inner, None)
    known = (_Row if where else _Head).__struct_encode_fields__
    return f"{inner}: unknown key; known here: {', '.join(known)}"


def _value(value: Any, where: str) -> Any:
    """The part of a value at `where`; for a mapping without a key there, its first value that is no text."""
    for name, step in re.findall(r"([^.\[\]]+)|\[([^]]*)\]", where):
        match value:
            case list():
                value = value[int(step)]
            case dict() if name:
                value = value.get(name)
            case dict():
                value = next((part for part in value.values() if not isinstance(part, str)), None)
    return value
