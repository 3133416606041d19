"""Functions for all services of the vendor: errors, operations, page tokens, numbers, times."""

import json
from typing import Any

import pytest

from worker.registries.errors import (
    BadResponseError,
    MaybeProtectedError,
    NotFoundError,
    OperationFailedError,
    PermissionDeniedError,
    ProtectedError,
    RateLimitedError,
    ReadOnlyError,
    RegistryError,
    SignInError,
    UnavailableError,
    UsedByImageListsError,
)
from worker.registries.http.messages import Response
from worker.registries.yandex import api


def response(document: Any, status: int = 200) -> Response:
    return Response(status, {}, document if isinstance(document, bytes) else json.dumps(document).encode())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"code": 5, "message": "Image not found"}, NotFoundError),
        (404, b"404 page not found", NotFoundError),
        (404, {"code": 14}, UnavailableError),
        (400, {"code": 9, "message": "Images a are used by image lists b,c"}, UsedByImageListsError),
        (400, {"code": 9, "message": "Registry is Read-Only since November"}, ReadOnlyError),
        (400, {"code": 9, "message": "already read onlyish"}, OperationFailedError),
        (400, {"code": 9, "message": "Tag v1 is immutable"}, ProtectedError),
        (403, {"code": 7, "message": "Image is protected from deletion"}, MaybeProtectedError),
        (403, {"code": 7, "message": "Permission denied on crp1/protected/api"}, PermissionDeniedError),
        (400, {"code": 9}, OperationFailedError),
        (400, {"code": 3, "message": "read-only"}, RegistryError),
        (403, {"code": 7}, PermissionDeniedError),
        (403, b"<html>forbidden</html>", PermissionDeniedError),
        (401, {"code": 16}, SignInError),
        (429, {"code": 8}, RateLimitedError),
        (429, b"", RateLimitedError),
        (503, {"code": "oops"}, UnavailableError),
        (503, {"code": 99, "message": "strange"}, UnavailableError),
        (503, {"code": 0}, UnavailableError),
        (500, {"code": 15, "message": "lost"}, RegistryError),
        (409, {"code": 6}, RegistryError),
        (301, b"moved", BadResponseError),
        (418, b"teapot", RegistryError),
    ],
)
def test_maps_an_error_response_to_its_error(status: int, body: Any, kind: type[RegistryError]) -> None:
    error = api.refusal(response(body, status))
    assert type(error) is kind
    assert error.status == status


def test_an_error_keeps_the_message_and_code_of_the_service() -> None:
    body = {
        "code": 9,
        "message": "Registry\n is \x1b[31mlocked",
        "details": [{"@type": "x"}, {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "0f0c4c1e"}],
    }
    error = api.refusal(response(body, 400))
    assert error.message == "FAILED_PRECONDITION: Registry is [31mlocked"
    assert error.request_id == "0f0c4c1e"
