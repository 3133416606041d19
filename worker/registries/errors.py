"""The errors of all registries: a driver raises no other.

RegistryError                    the registry, or the connection to it, failed
├── UnavailableError             no response, a time-out, 5xx, a truncated body: systemic; a later attempt may succeed
│   └── NoConnectionError        no connection, so nothing was sent
├── RateLimitedError             the registry still throttles after the client's retries
├── SignInError                  no valid credentials: systemic
├── PermissionDeniedError        the credentials lack a permission: systemic
│   └── MaybeProtectedError      … or a rule of the registry protects this image, as its message suggests
├── ReadOnlyError                the registry refuses every change: systemic
│   └── PermanentlyReadOnlyError … for ever: one refusal stops the run
├── UnsuitableError              registry-gc must not delete in this registry, so no deletion is tried
├── NotFoundError                no such image or repository
├── OperationUnknownError        the registry does not know the operation, or has forgotten it
├── TooLateError                 a request was not sent: it waited too long, or the image has changed since it was read
├── UsedByImageListsError        an index still needs this image: not a failure
├── ProtectedError               a rule of the registry protects this image (immutable, locked): not a failure
├── BlobsMissingError            a manifest cannot be restored: the registry lacks blobs or children that it names
├── BadResponseError             a response that breaks the protocol
│   └── UnservedNameError        the registry lists a repository by a name that it does not serve
└── OperationFailedError         the registry accepted a deletion and then reported an error
    ├── OperationBrokenError     … that means a broken service: systemic
    └── TagsStillServedError     the digest is gone, but its tags still serve the image: nothing can be deleted

LimiterUnavailableError          no request may be sent: Redis, which holds the rate limit, does not respond
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

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
    """A failure of a registry, in one line that says what to do. Never contains a secret."""

    exit_code = 1

    message: str
    registry: str = ""  # the configured name
    request: str = ""  # method and subject: "DELETE shop/api@sha256:9f86…"
    status: int | None = None  # HTTP status, if there was a response
    request_id: str = ""  # for the vendor's support
    maybe_done: bool = False  # of a deletion: an attempt without a response may have succeeded
    collateral_tags: tuple[str, ...] = ()  # of a deletion: as in Deletion

    cause: ClassVar[FailureCause] = "other"
    systemic: ClassVar[bool] = False  # the next image would fail in the same way
    final: ClassVar[bool] = False  # every further attempt would fail: the message says what to do

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.registry, self.request) if part)
        return f"{where}: {self.message}" if where else self.message


class UnavailableError(RegistryError):
    cause = "unavailable"
    systemic = True


class NoConnectionError(UnavailableError):
    pass


class RateLimitedError(RegistryError):
    cause = "rate_limited"


class SignInError(RegistryError):
    cause = "permission_denied"
    systemic = True
    partial = False  # whether the refused credentials are for some repositories only: others may have their own


class PermissionDeniedError(RegistryError):
    cause = "permission_denied"
    systemic = True


class MaybeProtectedError(PermissionDeniedError):
    pass


class ReadOnlyError(RegistryError):
    cause = "read_only"
    systemic = True


class PermanentlyReadOnlyError(ReadOnlyError):
    final = True


class UnsuitableError(RegistryError):
    systemic = True
    final = True


class NotFoundError(RegistryError):
    pass


class OperationUnknownError(RegistryError):
    pass


class TooLateError(RegistryError):
    pass


class UsedByImageListsError(RegistryError):
    pass


class ProtectedError(RegistryError):
    """The image, not the caller, is the reason why it may not be deleted."""


class BadResponseError(RegistryError):
    pass


class UnservedNameError(BadResponseError):
    """The name of the repository, not the connection, is the reason why it cannot be listed."""


class BlobsMissingError(RegistryError):
    """The registry does not have blobs or children that the manifest names."""


class OperationFailedError(RegistryError):
    cause = "operation_failed"


class OperationBrokenError(OperationFailedError):
    systemic = True


class TagsStillServedError(OperationFailedError):
    systemic = True
    final = True


class LimiterUnavailableError(Exception):
    """Redis does not grant the next request, so none is sent. The registry is not at fault: try again later."""

    exit_code = 1
