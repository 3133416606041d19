"""Bodies of requests: a small JSON object of known fields, or nothing."""

import asyncio
from collections.abc import Mapping

import msgspec
import pytest
from starlette.requests import Request
from starlette.types import Message

from worker.web.authentication import RefusedError
from worker.web.body import MOST_BYTES, body_of

JSON = {"content-type": "application/json"}


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    dry_run: bool = False
    who: str = ""


def request(*pieces: bytes, headers: Mapping[str, str] = JSON) -> Request:
    """A request whose body arrives in these pieces."""
    left = list(pieces) or [b""]

    async def receive() -> Message:
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


def refused(asked: Request) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        asyncio.run(body_of(asked, Asked))
    return error.value


@pytest.mark.parametrize(
    ("pieces", "headers", "record"),
    [
        pytest.param([], {}, Asked(), id="an empty body without a content type"),
        pytest.param([b"{}"], JSON, Asked(), id="an empty object"),
        pytest.param([b'{"dry_run": true, "who": "anna"}'], JSON, Asked(dry_run=True, who="anna"), id="all fields"),
        pytest.param([b'{"who"', b': "an', b'na"}'], JSON, Asked(who="anna"), id="in pieces"),
        pytest.param([b"{}"], {"content-type": " Application/JSON; charset=utf-8"}, Asked(), id="a type with more"),
        pytest.param([b"{}"], JSON | {"content-encoding": "Identity"}, Asked(), id="not packed, and said so"),
        pytest.param([b"{}" + b" " * (MOST_BYTES - 2)], JSON, Asked(), id="the largest"),
    ],
)
def test_a_body_is_a_record(pieces: list[bytes], headers: dict[str, str], record: Asked) -> None:
    assert asyncio.run(body_of(request(*pieces, headers=headers), Asked)) == record


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        pytest.param(b"{}", {}, 415, "send the header Content-Type: application/json", id="of no type"),
        pytest.param(b"{}", {"content-type": "text/plain"}, 415, "must be JSON", id="of another type"),
        pytest.param(b"{}", JSON | {"content-encoding": "gzip"}, 415, "must not be compressed", id="packed"),
        pytest.param(b"{", JSON, 400, "the body is not valid", id="no JSON"),
        pytest.param(b"[]", JSON, 400, "Expected `object`", id="no object"),
        pytest.param(b'{"force": true}', JSON, 400, "unknown field `force`", id="an unknown field"),
        pytest.param(b'{"dry_run": 1}', JSON, 400, "Expected `bool`", id="of another kind"),
        pytest.param(b'{"who": "a", "who": "b"}', JSON, 400, "a field occurs twice", id="a field twice"),
        pytest.param(b"[" * MOST_BYTES, JSON, 400, "the body is not valid", id="deep"),
    ],
)
def test_rejects_invalid_bodies(content: bytes, headers: dict[str, str], status: int, words: str) -> None:
    error = refused(request(content, headers=headers))
    assert error.status == status
    assert words in error.message


def test_a_body_that_is_too_large_closes_the_connection() -> None:
    error = refused(request(b" " * MOST_BYTES, b" "))
    assert (error.status, error.headers) == (413, {"Connection": "close"})
    assert f"at most {MOST_BYTES} bytes" in error.message
