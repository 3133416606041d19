"""What the rest of the program asks of a registry, whatever its kind, and the errors it may answer with.

A driver translates one registry's protocol into these calls and these errors. Nothing else leaves it, but for
`limiter.LimiterUnavailableError`: no request may be sent now. Every driver is synchronous and safe to use from several
threads of one process.

    RegistryError                    anything a registry or the way to it did wrong
    ├── UnavailableError             no answer, a time-out, 5xx, a cut body: systemic, worth another try later
    ├── RateLimitedError             still throttled after the client's own patience
    ├── SignInError                  no valid credentials: systemic
    ├── PermissionDeniedError        the credentials may not do this: systemic
    ├── ReadOnlyError                the registry refuses every change: systemic
    ├── NotFoundError                there is no such image or repository
    ├── OperationUnknownError        the registry does not know the operation (any more)
    ├── TooLateError                 a deletion was not sent: what was read before it had grown too old
    ├── UsedByImageListsError        an index still needs this image: not a failure
    ├── BadAnswerError               an answer that breaks the protocol
    └── OperationFailedError         the registry accepted a deletion and then reported an error
        └── OperationBrokenError     … that says the service is ill: systemic
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, Protocol

from policies.image import Image

FailureCause = Literal[
    "permission_denied",
    "read_only",
    "rate_limited",
    "unavailable",
    "operation_failed",
    "unconfirmed",
    "poison",
    "other",
]


@dataclass(eq=False)
class RegistryError(Exception):
    """A registry's refusal or silence, in one line a person can act on. Never holds a secret."""

    message: str
    registry: str = ""  # the configured name
    request: str = ""  # "DELETE shop/api@sha256:9f86…": method and what it was about
    status: int | None = None  # HTTP status, where there was one
    request_id: str = ""  # what the vendor's support asks for
    maybe_done: bool = (
        False  # of a deletion: an earlier attempt of the same call was lost on the way and may have done it
    )

    cause: ClassVar[FailureCause] = "other"
    systemic: ClassVar[bool] = False  # the next image would fare no better

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.registry, self.request) if part)
        return f"{where}: {self.message}" if where else self.message


class UnavailableError(RegistryError):
    cause = "unavailable"
    systemic = True


class RateLimitedError(RegistryError):
    cause = "rate_limited"


class SignInError(RegistryError):
    cause = "permission_denied"
    systemic = True


class PermissionDeniedError(RegistryError):
    cause = "permission_denied"
    systemic = True


class ReadOnlyError(RegistryError):
    cause = "read_only"
    systemic = True


class NotFoundError(RegistryError):
    pass


class OperationUnknownError(RegistryError):
    pass


class TooLateError(RegistryError):
    pass


class UsedByImageListsError(RegistryError):
    pass


class BadAnswerError(RegistryError):
    pass


class OperationFailedError(RegistryError):
    cause = "operation_failed"


class OperationBrokenError(OperationFailedError):
    systemic = True


@dataclass(frozen=True, slots=True)
class Deletion:
    """Where a deletion stands. `done` is the registry's word that the image is gone."""

    operation_id: str  # empty where a registry deletes at once
    done: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an image's manifest says of others; a digest's manifest never changes, so this may be kept for ever."""

    digest: str
    media_type: str
    children: tuple[str, ...] | None  # digests; None: it is no index
    subject: str | None = None  # a digest; None: it has none


@dataclass(slots=True)
class Usage:
    """What talking to a registry has cost since it was last asked: for the metrics."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)  # (method, status code or "error") -> count
    rate_wait_seconds: float = 0.0


class Registry(Protocol):
    """One registry, signed in. A context manager: leaving it closes its connections."""

    def __enter__(self) -> "Registry": ...
    def __exit__(self, *exc: object) -> None: ...

    def clock(self) -> datetime:
        """The registry's own time (aware, UTC), from the `Date` of a cheap answer.

        Raises UnavailableError, SignInError, PermissionDeniedError, NotFoundError (no such registry).
        """

    def repositories(self) -> Iterator[str]:
        """The paths of all repositories, without the registry's id, each once, sorted.

        Raises any RegistryError: without this list there is no plan.
        """

    def images(self, repository: str) -> tuple[Image, ...]:
        """Every image of a repository, each digest once, `children` unset unless the listing itself tells them.

        Raises any RegistryError, or NotFoundError when the repository is not there: nothing partial is ever returned.
        """

    def needs_manifest(self, image: Image) -> bool:
        """Whether this image's references can be known only by reading its manifest."""

    def manifests(self, repository: str, digests: Iterable[str]) -> Mapping[str, Manifest | RegistryError]:
        """The manifests of these digests, read side by side; each answer stands alone, an error never spreads."""

    def get(self, repository: str, image: Image) -> Image:
        """This image as it is now, without resolving. Raises NotFoundError and any other RegistryError."""

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        """Ask for the deletion of an image and all its tags; the same key never deletes twice.

        Nothing is sent once `time.monotonic()` has reached `not_after`: a wait for the rate, a pause that the registry
        asked for or a repeat may have made what the caller read before too old. Raises TooLateError (this call did
        nothing), NotFoundError, UsedByImageListsError, ReadOnlyError and any other RegistryError, with `maybe_done`.
        """

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        """Ask about a deletion until it is done or `time.monotonic()` reaches `deadline`; it may be unfinished then.

        Asks at least once. Raises, as the operation's own error: NotFoundError (the image was not there),
        UsedByImageListsError, PermissionDeniedError, ReadOnlyError, OperationFailedError: it ended without a deletion.
        Raises, as an answer to the question: OperationUnknownError, and any other RegistryError, with `maybe_done`:
        how it ended is not known.
        """

    def usage(self) -> Usage:
        """What was spent since the last call; the count starts again."""
