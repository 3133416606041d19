"""Responses of any registry: JSON that may be invalid, HTTP statuses, error texts."""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import NoReturn, TypeVar

import msgspec

from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RegistryError,
    SignInError,
    UnavailableError,
)
from worker.registries.http.messages import BrokenBodyError, Response
from worker.text import one_line

T = TypeVar("T")

IMAGE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
BLOB_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9A-Za-z=_-]{1,200}")
# Words that protect an image: Harbor ("configured as immutable"), Azure ("disallowed on this
# registry, repository or image"), GitLab ("protected"). Of a "protected resource" a server
# tells callers that lack a permission.
PROTECTS = re.compile(
    r"\bimmutab|\bprotected\b(?! (?:resource|endpoint|area|api|url)\b)"
    r"|\b(?:tag|image|manifest|artifact)s? (?:is|are) locked\b|\blegal hold\b"
    r"|\bdisallowed on this registry, repository or image\b|\bretention (?:policy|lock)\b",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"""[^\s"']*[/@$][^\s"']*""")  # a repository, an image or a robot account
BY_STATUS: dict[int, type[RegistryError]] = {
    401: SignInError, 403: PermissionDeniedError, 404: NotFoundError, 408: UnavailableError, 429: RateLimitedError,
    499: UnavailableError, 500: UnavailableError, 502: UnavailableError, 503: UnavailableError, 504: UnavailableError,
}  # fmt: skip


def succeeded(response: Response) -> bool:
    return 200 <= response.status < 300


def decode(body: bytes, kind: type[T]) -> T:
    """A JSON body as a struct. Raises BrokenBodyError (not JSON), BadResponseError (other JSON than `kind`)."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadResponseError(f"the response does not match the API: {error}") from error
    except (ValueError, RecursionError) as error:
        shown = one_line(body[:60].decode(errors="replace"))
        raise BrokenBodyError(f"the response is not JSON ({error}); it begins with {shown!r}") from error


def decode_any_text(body: bytes, kind: type[T]) -> T | None:
    """Like `decode`, with a lone surrogate for each byte that is not UTF-8; None: still not such JSON. Raises no error.
    A text with a lone surrogate cannot be encoded as UTF-8, so the caller must escape it.
    """
    try:
        return msgspec.convert(json.loads(body.decode(errors="surrogateescape")), kind)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None


def server_time(response: Response) -> datetime:
    """The time of the server (aware, UTC). Raises BadResponseError: the header Date is absent or invalid. In whole
    seconds. Source: RFC 9110, section 6.6.1.
    """
    if response.date is None:
        raise BadResponseError("the response has no valid Date header, so the clocks cannot be compared")
    return response.date


def status_error(response: Response, words: str = "") -> RegistryError:
    """The error of a response that is not 2xx, by its HTTP status. Its message has `words`, or else the body."""
    kind = BY_STATUS.get(response.status, RegistryError)
    if 300 <= response.status < 400:
        kind = BadResponseError
    elif response.status > 501:  # 501: certainly not carried out
        kind = UnavailableError  # whatever status a proxy sends: the request may have been carried out
    text = one_line(words or response.body[:1000].decode(errors="replace")) or "the response is empty"
    request_id = response.headers.get("x-request-id", "")
    return kind(f"HTTP {response.status}: {text}", status=response.status, request_id=request_id)


def protects(words: str) -> bool:
    """Whether an error text gives the image, not the caller, as the reason. `words`: the text without names."""
    return PROTECTS.search(words.replace("_", " ")) is not None


def without_names(words: str, names: Iterable[str] = ()) -> str:
    """An error text without these names and without addresses: a repository may be called `protected`. A name is
    removed as a whole word, in capital or small letters; an address is a word that contains `/`, `@` or `$`.
    """
    for name in sorted(filter(None, names), key=len, reverse=True):
        words = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", words, flags=re.IGNORECASE)
    return ADDRESS.sub(" ", words)


def bad(message: str) -> NoReturn:
    """Raises BadResponseError."""
    raise BadResponseError(one_line(message))
