"""Bodies as they were packed: one Content-Encoding, the one that was asked for, in pieces of bounded size."""

import zlib
from collections.abc import Iterable, Iterator

from worker.registries.errors import BadAnswerError
from worker.registries.http.answers import one_line

PIECE = 1 << 20  # bytes
GZIP = zlib.MAX_WBITS | 16


def unpacked(encoding: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The body, no piece of it over PIECE where it was packed. Raises BadAnswerError, zlib.error.

    `encoding`: the header Content-Encoding. Who packs twice makes a thousand times more of each byte: only one is read.
    """
    named = encoding.strip().lower()
    if named in ("", "identity"):
        yield from pieces
        return
    if named not in ("gzip", "x-gzip"):
        raise BadAnswerError(f"an answer with the Content-Encoding {one_line(encoding)!r}; only gzip was asked for")
    decoder = zlib.decompressobj(GZIP)
    started = False
    for packed in pieces:
        started = started or bool(packed)
        rest = packed
        while rest and not decoder.eof:
            yield decoder.decompress(rest, PIECE)
            rest = decoder.unconsumed_tail
    if started and not (decoder.eof and not decoder.unused_data):
        raise zlib.error("incomplete, or more than one")
