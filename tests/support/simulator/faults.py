"""Faults on demand: the requests that they strike, and their effects on responses."""

import random
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.simulator.http import SimulatedResponse
from tests.support.simulator.status import HTTP_STATUS, UNAUTHENTICATED, status_response

KINDS = {
    "latency": "the answer comes `seconds` later, plus up to `jitter`",
    "status": "`status` with the plain text `body`, and `retry_after` if given; nothing is done",
    "error": "the service's error `code` with `message`; nothing is done",
    "unauthenticated": "401, whatever the token; nothing is done",
    "expire_tokens": "every token handed out so far expires with this request",
    "reset": "the connection is reset; nothing is done",
    "hang": "no answer ever; nothing is done",
    "reply_lost": "the work is done, the connection is reset before the answer",
    "drip": "the body comes byte by byte, `seconds` apart",
    "no_date": "the answer has no Date",
    "huge_body": "`bytes` spaces follow the JSON",
    "cut": "half of the body, then the connection closes",
    "html": "200 with an HTML page instead of JSON",
    "broken_utf8": "JSON that is not UTF-8",
    "wrong_types": "`set` replaces fields of every row, by default with values of another type",
    "huge_numbers": "the same with numbers beyond int64",
    "missing_fields": "`drop` takes fields of every row away",
    "repeated_row": "the first row of a list comes again as its last",
    "same_token": "nextPageToken is the same on every page",
    "endless_token": "there is always another page",
    "repeated_page": "a page with a token is the first page again",
    "hang_operation": "the operation of this DELETE never finishes",
    "fail_operation": "the operation of this DELETE ends with the error `code`, `message`",
    "do": "`commands` of the control plane run `before` or `after` this request (`when`)",
}
DEFAULT_SET: dict[str, dict[str, Any]] = {
    "wrong_types": {"tags": "latest", "layers": {"digest": 7}, "compressedSize": [1]},
    "huge_numbers": {"compressedSize": "99999999999999999999999"},
}


class UnknownFaultError(ValueError):
    """The kind of fault does not exist."""


@dataclass(slots=True)
class InjectedFault:
    """Strikes requests of the services, never those of the control plane."""

    kind: str
    method: str = ""  # "": any
    path: str = ""  # an expression searched in "path?query"
    times: int | None = None  # how often; None: always
    after: int = 0  # matching requests that pass first
    probability: float = 1.0
    args: dict[str, Any] = field(default_factory=dict)
    struck: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownFaultError(f"no fault {self.kind!r}; there are {', '.join(KINDS)}")
        re.compile(self.path)

    def strikes(self, method: str, target: str, chance: random.Random) -> bool:
        """Whether it strikes this request; counts it if so."""
        if self.times is not None and self.struck >= self.times:
            return False
        if (self.method and self.method != method) or not re.search(self.path, target):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.probability < 1.0 and chance.random() >= self.probability:
            return False
        self.struck += 1
        return True


def response_instead(fault: InjectedFault) -> SimulatedResponse | None:
    """The response of a fault that prevents the request; None: the request is carried out."""
    args = fault.args
    match fault.kind:
        case "status":
            headers = {"Retry-After": str(args["retry_after"])} if "retry_after" in args else {}
            body = args.get("body", "upstream connect error or disconnect/reset before headers")
            return SimulatedResponse(
                int(args.get("status", 503)), str(body).encode(), content_type="text/plain", headers=headers
            )
        case "error":
            code = int(args.get("code", 13))
            response = status_response(code, str(args.get("message", "Internal error")), HTTP_STATUS.get(code, 500))
            if "retry_after" in args:
                response.headers["Retry-After"] = str(args["retry_after"])
            return response
        case "unauthenticated":
            return status_response(UNAUTHENTICATED, "The token has expired")
        case "reset":
            return SimulatedResponse(0, fate="reset")
        case "hang":
            return SimulatedResponse(0, fate="hang")
    return None


def spoil(fault: InjectedFault, response: SimulatedResponse, chance: random.Random) -> SimulatedResponse:
    """The response after the faults have changed it."""
    args = fault.args
    match fault.kind:
        case "latency":
            response.delay += float(args.get("seconds", 0.05)) + chance.uniform(0, float(args.get("jitter", 0)))
        case "reply_lost":
            response.fate = "reset"
        case "cut":
            response.fate = "cut"
        case "drip":
            response.fate, response.pause = "drip", float(args.get("seconds", 0.05))
        case "no_date":
            response.dated = False
        case "huge_body":
            response.body += b" " * int(args.get("bytes", 256 * 2**20))
        case "repeated_row":
            response.body = altered(response.body, {}, [], again=True)
        case "html":
            page = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
            return SimulatedResponse(
                int(args.get("status", 200)), page, content_type="text/html; charset=utf-8", delay=response.delay
            )
        case "broken_utf8":
            response.body = (
                response.body.replace(b'":"', b'":"\xff\xfe', 1) if b'":"' in response.body else b'{"\xff":1}'
            )
        case "wrong_types" | "huge_numbers" | "missing_fields":
            changes = args.get("set", DEFAULT_SET.get(fault.kind, {}))
            response.body = altered(
                response.body, changes, args.get("drop", ["digest"] if fault.kind == "missing_fields" else [])
            )
    return response


def altered(body: bytes, changes: dict[str, Any], drop: list[str], *, again: bool = False) -> bytes:
    """The same answer with fields of each row of its list (or of itself, if it is none) replaced or taken away.

    `again`: its first row once more, at the end.
    """
    document = orjson.loads(body) if body else None
    if not isinstance(document, dict):
        return body
    lists = [value for value in document.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    rows = lists[0] if lists and "id" not in document else [document]
    for row in rows:
        row.update(changes)
        for name in drop:
            row.pop(name, None)
    if again and lists:
        rows.append(rows[0])
    return orjson.dumps(document)
