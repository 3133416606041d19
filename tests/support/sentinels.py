"""Secrets that tests plant, and a search that finds them in every encoding."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import zstandard

PIECE = 40  # characters: a part of a long secret counts as well
FRAME = bytes.fromhex("28b52ffd")  # the first bytes of data packed by zstandard


def forms(secret: str) -> dict[str, bytes]:
    """How a secret may have been written down, by the name of the form."""
    raw = secret.encode()
    encoded = {
        "plain": raw,
        "URL-encoded": quote(secret, safe="").encode(),
        "form-encoded": quote_plus(secret).encode(),
        "repr": repr(secret)[1:-1].encode(),
        "repr of bytes": repr(raw)[2:-1].encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(secret)[1:-1])[1:-1].encode(),
        "hex": raw.hex().encode(),
    }
    for offset in range(3):  # whatever came before it in the same text
        encoded[f"base64, {offset}"] = _within(base64.b64encode(b"\0" * offset + raw), offset)
        encoded[f"base64 for URLs, {offset}"] = _within(base64.urlsafe_b64encode(b"\0" * offset + raw), offset)
    return encoded


def _within(encoded: bytes, offset: int) -> bytes:
    """The letters that depend on the secret alone."""
    return encoded.rstrip(b"=")[(0, 2, 3)[offset] : -1]


@dataclass(frozen=True)
class Sentinels:
    """Planted secrets by kind."""

    secrets: Mapping[str, str]

    def pieces(self) -> Iterator[tuple[str, str]]:
        """Each secret whole, and a piece from the middle of a long one: a cut line can show that."""
        for kind, secret in self.secrets.items():
            yield kind, secret
            if len(secret) > 2 * PIECE:
                middle = len(secret) // 2
                yield kind, secret[middle - PIECE // 2 : middle + PIECE // 2]

    def found_in(self, places: Mapping[str, bytes]) -> list[str]:
        """Which secrets the places show, in which form and where; empty: none."""
        wanted = [(kind, form, text) for kind, piece in self.pieces() for form, text in forms(piece).items()]
        return [
            f"{kind} ({form}) in {where}"
            for where, content in places.items()
            for readable in unpacked(content)
            for kind, form, text in wanted
            if text in readable
        ]


def unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes themselves, and their unpacked contents."""
    yield content
    for frame in re.finditer(re.escape(FRAME), content):
        try:
            yield zstandard.ZstdDecompressor().decompressobj().decompress(content[frame.start() :])
        except zstandard.ZstdError:
            continue


def files_below(folder: Path, without: Iterable[Path] = ()) -> dict[str, bytes]:
    """The content of every file of a folder, those of `without` aside."""
    left_out = tuple(without)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(path.is_relative_to(excluded) for excluded in left_out)
    }
