"""Reads the document of the sources `file` and `http`: the images in use, and as of when, as JSON or as lines.

    {"as_of": "2026-11-23T03:00:00Z", "images": ["cr.yandex/crp…/shop/api:v7", {"image": "sha256:…", "by": "…"}]}

    # as_of: 2026-11-23T03:00:00Z
    cr.yandex/crp…/shop/api:v7    who uses it
    # end

Both formats contain their time and mark their end, because a file's modification time proves neither: a failed
`kubectl > file` leaves a new, empty file. One invalid line makes the whole document invalid.
"""

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from policies.units import shown
from worker.config.settings import EvidenceSettings
from worker.evidence.reading import EvidenceError, NamedImage, Reading, parse_reference, reading_of

MAX_BYTES = 64 * 1024 * 1024
REMEDY = "write the whole file again, as docs/evidence.md shows"
_FIRST, _LAST = "# as_of:", "# end"


class DocumentError(Exception):
    """What is wrong with a document, and where."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    image: str
    by: str = ""


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    # An unknown key may announce further images, so the document is refused.
    as_of: Annotated[datetime, msgspec.Meta(tz=True)]
    images: list[str | _Entry]


def read(settings: EvidenceSettings) -> Reading:
    """The reading of a file, as of the time that it contains. Raises EvidenceError."""
    path = settings.path or Path()  # required by the configuration
    try:
        return read_document(_content(path), settings.name)
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise EvidenceError(settings.name, what, "check that the file exists and is readable") from error
    except DocumentError as error:
        raise EvidenceError(settings.name, f"{path}: {error}", REMEDY) from error


def _content(path: Path) -> bytes:
    # Non-blocking: opening a named pipe without a writer would wait forever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise DocumentError("is not a regular file")
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DocumentError(f"is larger than {MAX_BYTES >> 20} MiB")
    return content


def read_document(content: bytes, source: str) -> Reading:
    """The reading of a document. `source` uses the images for which no user is named. Raises DocumentError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"line {line}: is not text in UTF-8: holds the byte 0x{content[error.start]:02x}") from None
    if not text.strip():
        raise DocumentError("is empty")
    if text.lstrip().startswith("{"):
        return _of_json(text, source)
    return _of_lines(text, source)


def _of_json(text: str, source: str) -> Reading:
    try:
        document = msgspec.json.decode(text, type=_Document)
    except msgspec.ValidationError as error:
        raise DocumentError(f"is not of the form {{as_of, images}}: {error}") from None
    except msgspec.DecodeError as error:
        raise DocumentError(f"line {_line(text, str(error))}: is not JSON, or is incomplete: {error}") from None
    json.loads(text, object_pairs_hook=_once)  # the decoder above accepts a repeated key
    entries = (image if isinstance(image, _Entry) else _Entry(image) for image in document.images)
    return reading_of(_utc(document.as_of), _uses(((f"images[{n}]", entry) for n, entry in enumerate(entries)), source))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise DocumentError(f"has the key {shown(repeated)} twice: write each once")
    return mapping


def _line(text: str, message: str) -> int:
    """The line of the byte that a decoder's message names; the last line if it names none."""
    position = re.search(r"\(byte ([0-9]+)\)", message)
    content = text.encode()
    return content.count(b"\n", 0, int(position[1]) if position else len(content)) + 1


def _of_lines(text: str, source: str) -> Reading:
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    first, last = lines[0], lines[-1]
    if not first[1].startswith(_FIRST):
        raise DocumentError(
            f'line {first[0]}: does not say when it was written: expected "{_FIRST} 2026-11-23T03:00:00Z"'
        )
    if last[1] != _LAST:
        raise DocumentError(f'line {last[0]}: the last line is not "{_LAST}": the list is incomplete')
    for number, line in lines[1:-1]:
        if line == _LAST or line.startswith(_FIRST):
            raise DocumentError(f"line {number}: a second list begins or ends here: write one list per file")
    entries = [(f"line {n}", _Entry(*line.split(None, 1))) for n, line in lines[1:-1] if not line.startswith("#")]
    return reading_of(_as_of(*first), _uses(entries, source))


def _as_of(number: int, line: str) -> datetime:
    written = line.removeprefix(_FIRST).strip()
    try:
        as_of = datetime.fromisoformat(written)
    except ValueError:
        as_of = None
    if as_of is None or as_of.tzinfo is None:
        raise DocumentError(f"line {number}: expected an instant with its time zone, got {shown(written)}")
    return _utc(as_of)


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise DocumentError(f"expected an instant that UTC can represent, got {moment}") from None


def _uses(entries: Iterable[tuple[str, _Entry]], source: str) -> Iterator[NamedImage]:
    for where, entry in entries:
        try:
            yield parse_reference(entry.image, entry.by or source)
        except ValueError as error:
            raise DocumentError(f"{where}: {shown(entry.image)} {error}") from None
