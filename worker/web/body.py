"""What a request may carry: a small JSON object of known fields, or nothing."""

import asyncio
import json
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from worker.web.lock import RefusedError

T = TypeVar("T", bound=msgspec.Struct)

MOST_BYTES = 4096
PATIENCE_SECONDS = 10.0  # for the whole body


async def body_of(request: Request, kind: type[T]) -> T:
    """The body as a record; its defaults where there is none. Raises RefusedError."""
    content = await _read(request)
    if not content:
        return kind()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RefusedError(415, "a body must be JSON: send the header Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusedError(415, "a body must not be packed: leave the header Content-Encoding out")
    try:
        return msgspec.convert(json.loads(content, object_pairs_hook=_once), kind)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body cannot be used: {error}") from None


async def _read(request: Request) -> bytes:
    pieces, size = [], 0
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    raise RefusedError(413, f"a body has at most {MOST_BYTES} bytes", {"Connection": "close"})
    except TimeoutError:
        raise RefusedError(408, "the body did not come in time", {"Connection": "close"}) from None
    return b"".join(pieces)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a field that comes twice nobody can say which one is meant."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field comes twice")
    return found
