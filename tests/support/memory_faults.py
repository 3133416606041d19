"""Faults of the in-memory registry: an error of a call, or the fate of an operation."""

import sys
from dataclasses import dataclass
from typing import Literal

from worker.registries.errors import (
    BadResponseError,
    LimiterUnavailableError,
    NotFoundError,
    OperationBrokenError,
    OperationFailedError,
    OperationUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    ReadOnlyError,
    RegistryError,
    SignInError,
    TooLateError,
    UnavailableError,
    UsedByImageListsError,
)

Call = Literal[
    "clock", "repositories", "images", "manifests", "get", "delete", "follow", "keep", "put", "tagged", "blobs", "mount"
]
Lost = Literal["clean", "lost", "lost and done"]  # of a deletion: whether an earlier attempt of the call got through

ERRORS: dict[str, type[RegistryError]] = {
    "unavailable": UnavailableError,
    "rate_limited": RateLimitedError,
    "sign_in": SignInError,
    "permission": PermissionDeniedError,
    "read_only": ReadOnlyError,
    "not_found": NotFoundError,
    "operation_unknown": OperationUnknownError,
    "too_late": TooLateError,
    "used_by": UsedByImageListsError,
    "bad_answer": BadResponseError,
    "failed": OperationFailedError,
    "broken": OperationBrokenError,
}
# The errors with which an operation may end.
OWN_ERRORS: dict[str, type[RegistryError]] = {
    name: ERRORS[name] for name in ("not_found", "used_by", "permission", "read_only", "failed", "broken")
}
OWN = tuple(OWN_ERRORS)
FOREVER = sys.maxsize
LIMITER = "limiter"  # no response of the registry: the rate limiter is unavailable

_READING = ("unavailable", "rate_limited", "sign_in", "permission", "not_found", "bad_answer", LIMITER)
POSSIBLE: dict[Call, tuple[str, ...]] = {
    "clock": ("unavailable", "sign_in", "permission", "not_found", "bad_answer", LIMITER),
    "repositories": _READING,
    "images": _READING,
    "manifests": ("unavailable", "rate_limited", "sign_in", "permission", "not_found", "bad_answer"),
    "get": _READING,
    "delete": (*(name for name in ERRORS if name != "operation_unknown"), LIMITER),
    "follow": ("unavailable", "rate_limited", "sign_in", "permission", "operation_unknown", "bad_answer", LIMITER),
}
FATES = ("at_once", "late", "by_clock", "never", "gone_without_end", "fails", "forgotten")


@dataclass(slots=True)
class Fault:
    """The next `times` calls of a kind fail, after `skip` calls that do not."""

    call: Call
    error: str
    skip: int = 0
    times: int = 1
    path: str | None = None  # in one repository only
    what: str | None = None  # about one tag or digest only
    lost: Lost = "clean"
    answer: RegistryError | None = None  # instead of `error`

    def strikes(self, call: Call, path: str | None, what: str = "") -> bool:
        if self.call != call or self.times <= 0 or self.path not in (None, path) or self.what not in (None, what):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True

    def label(self) -> str:
        return self.error if self.lost == "clean" else f"{self.error}, {self.lost}"


@dataclass(frozen=True, slots=True)
class Fate:
    """The fate of a deletion that the registry received."""

    kind: str = "at_once"
    after: int = 0  # requests of its state, or minutes, until it ends
    error: str = "failed"


def error_of(fault: Fault, call: Call) -> Exception:
    """The error that the driver raises; `maybe_done` as the driver's contract demands."""
    if fault.answer is not None:
        return fault.answer
    if fault.error == LIMITER:
        return LimiterUnavailableError("the in-memory registry: the rate limiter is unavailable")
    error = ERRORS[fault.error](f"{fault.error} at {call}", "production", call)
    error.maybe_done = (call == "delete" and fault.lost != "clean") or call == "follow"
    return error
