"""The errors of the registries, whatever their kind. What a driver raises is one of these.

RegistryError                    anything a registry or the way to it did wrong
├── UnavailableError             no answer, a time-out, 5xx, a cut body: systemic, worth another try later
│   └── NoConnectionError        … and nothing was sent
├── RateLimitedError             still throttled after the client's own patience
├── SignInError                  no valid credentials: systemic
├── PermissionDeniedError        the credentials may not do this: systemic
│   └── MaybeProtectedError      … or a rule of the registry protects this image: its words hint at that
├── ReadOnlyError                the registry refuses every change: systemic
│   └── RefusesAllError          … and says so for good: one refusal is enough to stop
├── UnsuitableError              the registry is none whose images are ours to delete: nobody need try
├── NotFoundError                there is no such image or repository
├── OperationUnknownError        the registry does not know the operation (any more)
├── TooLateError                 a deletion was not sent: what was read before it had grown too old
├── UsedByImageListsError        an index still needs this image: not a failure
├── ProtectedError               a rule of the registry protects this image (immutable, locked): not a failure
├── BlobsMissingError            a manifest cannot be put back: what it names is not there
├── BadResponseError               an answer that breaks the protocol
│   └── UnservedNameError        … a repository that is listed by a name under which none is served
└── OperationFailedError         the registry accepted a deletion and then reported an error
    ├── OperationBrokenError     … that says the service is ill: systemic
    └── KeepsTagsError           the digest is gone, and its tags still serve the image: nothing can be deleted

LimiterUnavailableError          no request may be sent now: Redis, which holds the request limit, does not answer
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
    """A registry's refusal or silence, in one line a person can act on. Never holds a secret."""

    exit_code = 1

    message: str
    registry: str = ""  # the configured name
    request: str = ""  # "DELETE shop/api@sha256:9f86…": method and what it was about
    status: int | None = None  # HTTP status, where there was one
    request_id: str = ""  # what the vendor's support asks for
    maybe_done: bool = False  # of a deletion: an earlier attempt of this call was lost on the way and may have done it
    collateral_tags: tuple[str, ...] = ()  # of a deletion: as Deletion has them

    cause: ClassVar[FailureCause] = "other"
    systemic: ClassVar[bool] = False  # the next image would fare no better
    final: ClassVar[bool] = False  # and nobody need try: the message says what is to be done

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
    for_some = False  # of credentials that are for some repositories: others have their own


class PermissionDeniedError(RegistryError):
    cause = "permission_denied"
    systemic = True


class MaybeProtectedError(PermissionDeniedError):
    pass


class ReadOnlyError(RegistryError):
    cause = "read_only"
    systemic = True


class RefusesAllError(ReadOnlyError):
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
    """Says of the image, not of the caller, that it may not be deleted."""


class BadResponseError(RegistryError):
    pass


class UnservedNameError(BadResponseError):
    """Says of a repository's name, not of the way to the registry, that the repository cannot be listed."""


class BlobsMissingError(RegistryError):
    """A manifest names what the registry does not have (any more)."""


class OperationFailedError(RegistryError):
    cause = "operation_failed"


class OperationBrokenError(OperationFailedError):
    systemic = True


class KeepsTagsError(OperationFailedError):
    systemic = True
    final = True


class LimiterUnavailableError(Exception):
    """Redis cannot say when the next request may go, so none goes. No fault of the registry: try later."""

    exit_code = 1
