"""Reads the body of a request: a small JSON object of known fields, or nothing."""

import asyncio
import json
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from worker.web.authentication import RefusedError

T = TypeVar("T", bound=msgspec.Struct)

MOST_BYTES = 4096
READ_SECONDS = 10.0  # for the whole body


async def body_of(request: Request, kind: type[T]) -> T:
    """The body as a record of this type; an empty body gives its defaults. Raises RefusedError."""
    content = await _read(request)
    if not content:
        return kind()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RefusedError(415, "the body must be JSON; send the header Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusedError(415, "the body must not be compressed; omit the header Content-Encoding")
    try:
        return msgspec.convert(json.loads(content, object_pairs_hook=_without_duplicates), kind)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not valid: {error}") from None


async def _read(request: Request) -> bytes:
    pieces, size = [], 0
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    raise RefusedError(413, f"the body must have at most {MOST_BYTES} bytes", {"Connection": "close"})
    except TimeoutError:
        raise RefusedError(408, f"the body did not arrive within {READ_SECONDS:g} s", {"Connection": "close"}) from None
    return b"".join(pieces)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field occurs twice")
    return fields
