"""The errors of the registries: one tree, as its page draws it; one line, with the place and without a secret."""

import re

import pytest

from worker.registries import errors
from worker.registries.errors import (
    FailureCause,
    NoConnectionError,
    NotFoundError,
    OperationBrokenError,
    OperationFailedError,
    PermanentlyReadOnlyError,
    PermissionDeniedError,
    RateLimitedError,
    ReadOnlyError,
    RegistryError,
    SignInError,
    TagsStillServedError,
    UnavailableError,
    UnsuitableError,
)

ALL = {
    name: error_type
    for name, error_type in vars(errors).items()
    if isinstance(error_type, type) and issubclass(error_type, RegistryError)
}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotFoundError("no such image"), "no such image"),
        (NotFoundError("no such image", "production"), "production: no such image"),
        (NotFoundError("no such image", "production", "GET a@sha256:9f"), "production: GET a@sha256:9f: no such image"),
        (NotFoundError("no such image", request="GET a"), "GET a: no such image"),
    ],
)
def test_an_error_says_where_it_comes_from(error: RegistryError, line: str) -> None:
    assert str(error) == line
    assert error.exit_code == 1


def test_the_docstring_draws_the_tree_of_errors() -> None:
    """The parent of each error, by its indentation."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if (match := re.match(r"([│├└─ ]*)(\w+Error)\b", line)) is None:
            continue
        depth = len(match[1]) // 4
        above[depth:] = [match[2]]
        if match[2] in ALL and depth:
            drawn[match[2]] = above[depth - 1]
    assert drawn == {
        name: error_type.__base__.__name__ for name, error_type in ALL.items() if error_type is not RegistryError
    }


def test_knows_the_errors_that_concern_every_image() -> None:
    systemic = {error_type for error_type in ALL.values() if error_type.systemic}
    assert systemic == {
        UnavailableError, NoConnectionError, SignInError, PermissionDeniedError, errors.MaybeProtectedError,
        ReadOnlyError, PermanentlyReadOnlyError, UnsuitableError, OperationBrokenError, TagsStillServedError,
    }  # fmt: skip


def test_knows_the_errors_that_end_a_run_at_once() -> None:
    assert {error_type for error_type in ALL.values() if error_type.final} == {
        PermanentlyReadOnlyError,
        UnsuitableError,
        TagsStillServedError,
    }
    assert all(error_type.systemic for error_type in ALL.values() if error_type.final)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (UnavailableError, "unavailable"),
        (NoConnectionError, "unavailable"),
        (RateLimitedError, "rate_limited"),
        (SignInError, "permission_denied"),
        (PermissionDeniedError, "permission_denied"),
        (PermanentlyReadOnlyError, "read_only"),
        (OperationFailedError, "operation_failed"),
        (TagsStillServedError, "operation_failed"),
        (NotFoundError, "other"),
    ],
)
def test_the_cause_that_a_failed_image_is_counted_under(kind: type[RegistryError], cause: FailureCause) -> None:
    assert kind.cause == cause
