"""HTTP requests and responses as plain data, and the headers that every registry has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol

from worker.config.addresses import is_loopback
from worker.registries.errors import BadResponseError

LINK_LOCAL_METADATA = "169.254.169.254"  # plain http: the address exists only inside the machine


class BrokenBodyError(BadResponseError):
    """A body in the wrong format: truncated, HTML, not UTF-8. A retry may get a valid response."""

    systemic = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"]
    url: str
    about: str  # for messages: "shop/api@sha256:9f86…"
    query: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool  # idempotent: a GET, or a DELETE with an idempotency key
    paced: bool = True  # counts towards the registry's rate limit; sign-in does not
    timeout: float = 30.0  # seconds without a byte
    max_seconds: float = 0.0  # seconds that the call may take, even if the total of `Retries` is shorter
    attempts: int | None = None  # at most, if `Retries` has more
    first_bytes: int | None = None  # of the body that are enough; a shorter truncated body is accepted, too
    not_after: float | None = None  # time.monotonic() from which the request is not sent
    direct: bool = False  # never through a proxy

    @property
    def label(self) -> str:
        return f"{self.method} {self.about}"


@dataclass(frozen=True, slots=True)
class Retries:
    """When to give up. Waits for the rate limit do not count."""

    attempts: int = 5
    total: float = 40.0  # seconds for all attempts and the waits between them
    first_wait: float = 0.1  # seconds, doubled each time
    longest_wait: float = 5.0
    jitter: float = 1.0
    waits_for_restarts: bool = False  # retry a refused connection until `total`, regardless of `attempts`


@dataclass(frozen=True, slots=True)
class Response:
    """A response of any status."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes = field(repr=False)

    @property
    def date(self) -> datetime | None:
        """The server's time (aware, UTC), from the header Date; None: absent or invalid."""
        return http_date(self.headers.get("date", ""))


class Signer(Protocol):
    """Authorizes requests, and renews credentials that a server refused."""

    def sign(self) -> str | None:
        """The value of the header Authorization; None: send none. Raises SignInError."""

    def refused(self, authorization: str | None, response: Response, /) -> None:
        """Renew `authorization`, which the server refused with 401. Raises SignInError: it cannot be renewed."""


def is_local(host: str) -> bool:
    """Whether requests to this host stay inside the machine."""
    return host == LINK_LOCAL_METADATA or is_loopback(host)


def retry_after(response: Response) -> float | None:
    """The seconds of the header Retry-After, in either form; None: absent or invalid."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if (moment := http_date(text)) is None:
        return None
    return max(0.0, (moment - (response.date or datetime.now(UTC))).total_seconds())


def http_date(text: str) -> datetime | None:
    """An HTTP date as an instant (aware, UTC); None: invalid. A time without a known zone counts as UTC. Source: RFC
    9110, section 5.6.7.
    """
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
