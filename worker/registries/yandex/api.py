"""Plain functions for all services of the vendor: requests, errors, operations, page tokens, numbers, times.

Sources: the vendor's API definitions (operation, google.rpc.status), as proto3 JSON: an int64 is a string, and absent,
null and default are the same.
"""

import re
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from policies.image import Blob
from worker.registries.errors import (
    MaybeProtectedError,
    NotFoundError,
    OperationBrokenError,
    OperationFailedError,
    PermissionDeniedError,
    ProtectedError,
    RateLimitedError,
    ReadOnlyError,
    RegistryError,
    SignInError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.http.messages import Request, Response
from worker.registries.http.responses import BLOB_DIGEST, bad, decode, protects, status_error, succeeded, without_names
from worker.text import one_line

T = TypeVar("T")

PAGE_SIZE = 1000  # the maximum of the API
INT64_MAX = 2**63 - 1
IDENTIFIER = re.compile(r"[0-9A-Za-z_-]{1,50}")
PATH = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*(?:/[0-9A-Za-z][0-9A-Za-z._-]*)*")
CODE_NAMES = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 10: "ABORTED", 11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE", 15: "DATA_LOSS", 16: "UNAUTHENTICATED",
}  # fmt: skip
ERRORS_BY_CODE: dict[int, type[RegistryError]] = {
    1: UnavailableError, 2: UnavailableError, 4: UnavailableError, 5: NotFoundError, 7: PermissionDeniedError,
    8: RateLimitedError, 10: UnavailableError, 13: UnavailableError, 14: UnavailableError, 16: SignInError,
}  # fmt: skip


# Wire formats. Every field may be absent or null.


class WireBlob(Struct, rename="camel"):
    digest: str | None = None
    size: int | str | None = None


class Status(Struct):
    """google.rpc.Status."""

    code: int | None = None
    message: str | None = None
    details: list[dict[str, Any]] | None = None


class WireMetadata(Struct, rename="camel"):
    image_id: str | None = None  # Container Registry
    artifact_id: str | None = None  # Cloud Registry


class Operation(Struct):
    """The state of an asynchronous call."""

    id: str | None = None
    done: bool | None = None
    error: Status | None = None  # may be set before `done`, while the service rolls back
    metadata: WireMetadata | None = None


class WireRegistry(Struct):
    id: str | None = None
    kind: str | None = None  # Cloud Registry
    type: str | None = None  # Cloud Registry


class ListingPage(Struct):
    """A page of a listing, and the token of the next page; the last page has an empty token."""

    rows: list[Any]
    token: str


# Requests.


def get_registry(registries: str, registry_id: str) -> Request:
    return get(f"{registries}/{quote(registry_id, safe='')}", f"registry {registry_id}")


def delete(url: str, about: str, idempotency_key: str, not_after: float | None = None) -> Request:
    """A deletion. The service executes two requests with the same key once."""
    return Request(
        method="DELETE",
        url=url,
        about=about,
        headers={"Idempotency-Key": idempotency_key},
        repeatable=True,
        not_after=not_after,
    )


def get(url: str, about: str, query: dict[str, str] | None = None) -> Request:
    return Request(method="GET", url=url, about=about, query=query or {}, repeatable=True)


def listing(url: str, about: str, query: dict[str, str], token: str, page_size: int = PAGE_SIZE) -> Request:
    """A page of a listing; without a token, the first page."""
    return get(url, about, query | {"pageSize": str(page_size)} | ({"pageToken": token} if token else {}))


# Responses.


def parse_body(response: Response, kind: type[T]) -> T:
    """The body of a successful response. Raises the error that any other response means. Raises BrokenBodyError (not
    JSON) and BadResponseError (other JSON than `kind`).
    """
    if succeeded(response):
        return decode(response.body, kind)
    raise refusal(response)


def registry(response: Response, registry_id: str) -> WireRegistry:
    """The registry with this id. Raises RegistryError. NotFoundError: no such registry. BadResponseError: the response
    is about another one.
    """
    parsed = parse_body(response, WireRegistry)
    if parsed.id != registry_id:
        bad(f"expected registry {registry_id}, got {parsed.id!r}")
    return parsed


def refusal(response: Response) -> RegistryError:
    """The error that a non-2xx response means: by the code in the body, or else by the HTTP status."""
    status = parse_status(response.body)
    if status is None:
        return status_error(response)
    if status.code not in CODE_NAMES:
        return status_error(response, status.message or "")
    error = status_to_error(status)
    error.status, error.request_id = response.status, error.request_id or response.headers.get("x-request-id", "")
    return error


def parse_status(body: bytes) -> Status | None:
    """The body as a google.rpc.Status; None: it is something else, such as a proxy's HTML page. Any other JSON object
    may pass: only a `code` in CODE_NAMES proves a Status.
    """
    try:
        return msgspec.json.decode(body, type=Status)
    except (ValueError, RecursionError):
        return None


def status_to_error(status: Status) -> RegistryError:
    """The error that the code of a status means, with the message of the service."""
    code, words = status.code or 0, one_line(status.message or "")
    request_ids = (detail.get("requestId") for detail in status.details or ())
    kind = ERRORS_BY_CODE.get(code, RegistryError)
    protected = protects(without_names(words))
    if code == 7 and protected:
        kind = MaybeProtectedError
    elif code == 9 and "used by image lists" in words:
        kind = UsedByImageListsError
    elif code == 9 and re.search(r"\bread[ -]?only\b", words, re.IGNORECASE):
        kind = ReadOnlyError
    elif code == 9:
        kind = ProtectedError if protected else OperationFailedError
    return kind(
        f"{CODE_NAMES.get(code, f'code {code}')}: {words}" if words else CODE_NAMES.get(code, f"code {code}"),
        request_id=next((text for text in request_ids if isinstance(text, str)), ""),
    )


def operation_to_error(status: Status) -> RegistryError:
    """The error of an accepted operation: OperationFailedError if it is about neither the image nor permissions."""
    error = status_to_error(status)
    about_the_image = NotFoundError | UsedByImageListsError | ProtectedError
    if isinstance(error, about_the_image | ReadOnlyError | PermissionDeniedError):
        return error
    kind = OperationBrokenError if isinstance(error, UnavailableError) else OperationFailedError
    return kind(error.message, request_id=error.request_id)


def operation(response: Response) -> Operation:
    """The state of an operation. Raises RegistryError. It has ended only if `done` is true: `error` may be set before.
    BadResponseError: it has no valid id.
    """
    parsed = parse_body(response, Operation)
    if not IDENTIFIER.fullmatch(parsed.id or ""):
        bad(f"an operation with the id {parsed.id!r}")
    return parsed


def page_token(token: str | None) -> str:
    """The checked token of the next page; empty on the last page. Raises BadResponseError."""
    if len(token or "") > 2048:
        bad("a page token of more than 2,048 characters")
    return token or ""


def parse_blob(wire: WireBlob) -> Blob:
    """The blob of a wire record; an absent size is 0 bytes. Raises BadResponseError: the digest is absent or invalid,
    or the size is no number of bytes.
    """
    if not BLOB_DIGEST.fullmatch(wire.digest or ""):
        bad(f"a blob with the digest {wire.digest!r}")
    return Blob(digest=wire.digest or "", size=int64(wire.size or 0, "size"))


def int64(value: int | str, field: str) -> int:
    """A number of bytes from a string or a number. Raises BadResponseError: negative, or more than 63 bits."""
    if isinstance(value, str):
        if not (value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20):
            bad(f"{field} is not a number: {value[:40]!r}")
        value = int(value)
    if not 0 <= value <= INT64_MAX:
        bad(f"{field} is out of range: {str(value)[:40]}")
    return value


def instant(moment: datetime | None) -> datetime | None:
    """The time as UTC; None if it is absent or zero: a server's zero default would make the image very old."""
    if moment is None or moment.year < 1971:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return bad(f"createdAt is out of range: {moment.isoformat()}")
