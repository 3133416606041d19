"""Who may change anything here (who knows the token that `web.token` names; without one, nobody), and by what body.

The token is read anew for each request, so that it can be rotated, and compared in constant time. It is taken from the
header Authorization alone: an address ends up in logs and histories, and a cookie would be sent for whoever asks. A
body is a small JSON object of known fields, or nothing.
"""

import asyncio
import hmac
import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from worker.config.settings import SecretError, Web
from worker.logs import Log

log = Log(__name__)

T = TypeVar("T", bound=msgspec.Struct)

MOST_BYTES = 4096
PATIENCE_SECONDS = 10.0  # for the whole body
OFF = "nothing can be started or changed here: set `web: {token: {file: PATH}}` in the configuration file"
UNREADABLE = "nothing can be started or changed here: the token that `web.token` names cannot be read; the log says why"
ASKED_FOR = "this needs the token of `web.token`: send the header Authorization: Bearer …"
WRONG = "this is not the token of `web.token`"


class RefusedError(Exception):
    """A request that changes nothing: its answer's status, one line, and headers."""

    def __init__(
        self, status: int, message: str, headers: dict[str, str] | None = None, run: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers, self.run = status, message, headers or {}, run


def let_in(web: Web, authorizations: Sequence[str]) -> None:
    """Raises RefusedError unless the one header Authorization carries the token."""
    if web.token is None:
        raise RefusedError(403, OFF)
    try:
        expected = web.token.read().encode()
    except SecretError as error:
        log.warning("web_token_unreadable", reason=str(error))
        raise RefusedError(403, UNREADABLE) from None
    kind, _, given = authorizations[0].partition(" ") if len(authorizations) == 1 else ("", "", "")
    if kind.lower() != "bearer" or not given:
        raise RefusedError(401, ASKED_FOR, {"WWW-Authenticate": 'Bearer realm="registry-gc"'})
    # Headers are bytes that come decoded as Latin-1: back to bytes, whatever was sent.
    if not hmac.compare_digest(given.strip(" ").encode("latin-1"), expected):
        raise RefusedError(401, WRONG, {"WWW-Authenticate": 'Bearer realm="registry-gc", error="invalid_token"'})


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
