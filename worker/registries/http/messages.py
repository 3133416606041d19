"""A request and its answer as plain data, and what can be read off them whatever the registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol

from worker.config.addresses import is_loopback
from worker.registries.errors import BadResponseError

LINK_LOCAL_METADATA = "169.254.169.254"  # plain http by its nature: the address exists only inside the machine


class BrokenBodyError(BadResponseError):
    """A body that is not even the right format: cut, HTML, no UTF-8. Another try may be answered properly."""

    systemic = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, as plain data."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"]
    url: str
    about: str  # for people: "shop/api@sha256:9f86…"
    query: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool  # asking twice does no more than asking once: a GET, or a DELETE with its idempotency key
    paced: bool = True  # takes a slot of the registry's rate; sign-in does not
    timeout: float = 30.0  # seconds of silence
    max_seconds: float = 0.0  # seconds that it may take, where the caller's own patience is shorter
    attempts: int | None = None  # that are made at most, where the patience has more
    first_bytes: int | None = None  # of the body that are enough; where it breaks off before, what came is the body
    not_after: float | None = None  # time.monotonic() from which it is not sent any more
    direct: bool = False  # never through a proxy

    @property
    def label(self) -> str:
        return f"{self.method} {self.about}"


@dataclass(frozen=True, slots=True)
class Retries:
    """How long to go on trying, the waits for the rate not counted."""

    attempts: int = 5
    total: float = 40.0  # seconds for all attempts and the waits between them
    first_wait: float = 0.1  # seconds, doubled each time
    longest_wait: float = 5.0
    jitter: float = 1.0
    waits_for_restarts: bool = False  # a server that takes no connections is tried until `total`, however often


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, whatever its status."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes = field(repr=False)

    @property
    def date(self) -> datetime | None:
        """The server's clock (aware, UTC), where it tells."""
        return http_date(self.headers.get("date", ""))


class Signer(Protocol):
    """Who signs requests in, and learns when a signature was refused."""

    def sign(self) -> str | None:
        """The value of the header Authorization; None: send without. Raises SignInError."""

    def refused(self, authorization: str | None, response: Response, /) -> None:
        """This signature was answered with 401: get a fresh one ready. Raises SignInError when there is none."""


def is_local(host: str) -> bool:
    """Whether plain http to this host stays inside the machine."""
    return host == LINK_LOCAL_METADATA or is_loopback(host)


def retry_after(response: Response) -> float | None:
    """The seconds a server asks to wait, from its header Retry-After in either form; None: it did not ask."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if (moment := http_date(text)) is None:
        return None
    return max(0.0, (moment - (response.date or datetime.now(UTC))).total_seconds())


def http_date(text: str) -> datetime | None:
    """An HTTP date as an instant (aware, UTC); None: it is none."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
