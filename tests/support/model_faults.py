"""What can go wrong at a registry: an error at one of its calls, a fate of an operation."""

from dataclasses import dataclass
from typing import Literal

from worker.registries.errors import (
    BadAnswerError,
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

Call = Literal["clock", "repositories", "images", "manifests", "get", "delete", "follow"]
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
    "bad_answer": BadAnswerError,
    "failed": OperationFailedError,
    "broken": OperationBrokenError,
}
LIMITER = "limiter"  # no answer of the registry: the rate limit's keeper is away

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
OWN = ("not_found", "used_by", "permission", "read_only", "failed", "broken")  # how an operation may fail


@dataclass(slots=True)
class Fault:
    """The next calls of a kind fail, after some that do not."""

    call: Call
    error: str
    skip: int = 0
    times: int = 1
    path: str | None = None  # in one repository only
    lost: Lost = "clean"

    def strikes(self, call: Call, path: str | None) -> bool:
        if self.call != call or self.times <= 0 or (self.path is not None and self.path != path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True

    def told(self) -> str:
        return self.error if self.lost == "clean" else f"{self.error}, {self.lost}"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a deletion that arrived."""

    kind: str = "at_once"
    after: int = 0  # questions, or minutes, until it ends
    error: str = "failed"


def error_of(fault: Fault, call: Call) -> Exception:
    """What the driver raises. `maybe_done` is what the driver's contract says it is."""
    if fault.error == LIMITER:
        return LimiterUnavailableError("the model: the limiter is away")
    error = ERRORS[fault.error](f"{fault.error} at {call}", "production", call)
    error.maybe_done = (call == "delete" and fault.lost != "clean") or call == "follow"
    return error
