"""What the answers of every registry have in common: JSON that may be anything, statuses, strangers' words."""

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
# Words for an image that its registry protects: Harbor ("configured as immutable"), Azure ("disallowed on this
# registry, repository or image"), GitLab ("protected"). "A protected resource" is said of callers without permission.
PROTECTS = re.compile(
    r"\bimmutab|\bprotected\b(?! (?:resource|endpoint|area|api|url)\b)"
    r"|\b(?:tag|image|manifest|artifact)s? (?:is|are) locked\b|\blegal hold\b"
    r"|\bdisallowed on this registry, repository or image\b|\bretention (?:policy|lock)\b",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"""[^\s"']*[/@$][^\s"']*""")  # of a repository, an image or a robot account
BY_STATUS: dict[int, type[RegistryError]] = {
    401: SignInError, 403: PermissionDeniedError, 404: NotFoundError, 408: UnavailableError, 429: RateLimitedError,
    499: UnavailableError, 500: UnavailableError, 502: UnavailableError, 503: UnavailableError, 504: UnavailableError,
}  # fmt: skip


def succeeded(response: Response) -> bool:
    return 200 <= response.status < 300


def decode(body: bytes, kind: type[T]) -> T:
    """A body as a struct. Raises BrokenBodyError (not JSON) or BadResponseError (not the JSON described)."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadResponseError(f"an answer that the API does not describe: {error}") from error
    except (ValueError, RecursionError) as error:
        shown = one_line(body[:60].decode(errors="replace"))
        raise BrokenBodyError(f"an answer that is not JSON ({error}); it begins {shown!r}") from error


def decode_any_text(body: bytes, kind: type[T]) -> T | None:
    """A body whose texts need not be Unicode: what of them is none are lone surrogates. None: it is not that either."""
    try:
        return msgspec.convert(json.loads(body.decode(errors="surrogateescape")), kind)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None


def server_time(response: Response) -> datetime:
    """The server's own time (aware, UTC). Raises BadResponseError."""
    if response.date is None:
        raise BadResponseError("an answer without a readable Date: the clocks cannot be compared")
    return response.date


def status_error(response: Response, words: str = "") -> RegistryError:
    """What an answer that is no 2xx means by its HTTP status alone, with these words or the body's own."""
    kind = BY_STATUS.get(response.status, RegistryError)
    if 300 <= response.status < 400:
        kind = BadResponseError
    elif response.status > 501:  # 501 says plainly that nothing was done
        kind = UnavailableError  # whatever a proxy on the way calls it, what was asked for may have been done
    said = one_line(words or response.body[:1000].decode(errors="replace")) or "an empty answer"
    request_id = response.headers.get("x-request-id", "")
    return kind(f"HTTP {response.status}: {said}", status=response.status, request_id=request_id)


def protects(words: str) -> bool:
    """Whether a refusal says that the image, not the caller, is the reason. `words`: without names."""
    return PROTECTS.search(words.replace("_", " ")) is not None


def without_names(words: str, names: Iterable[str] = ()) -> str:
    """A refusal's words without these names and without addresses: a repository may be called `protected`."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        words = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", words, flags=re.IGNORECASE)
    return ADDRESS.sub(" ", words)


def bad(what: str) -> NoReturn:
    """Raises BadResponseError."""
    raise BadResponseError(one_line(what))
