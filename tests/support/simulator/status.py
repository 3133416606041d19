"""Errors as the services put them: google.rpc.Status in the body, the HTTP status by its code."""

import json
import uuid

from tests.support.simulator.http import SimulatedResponse

HTTP_STATUS = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}

INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNAUTHENTICATED = (
    3,
    5,
    7,
    8,
    9,
    16,
)


class StatusError(Exception):
    """An answer that is an error the real service would give too."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class RefusedRequestError(Exception):
    """A request that no client of the real service should send: recorded, and answered with a 4xx."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


def status_body(code: int, message: str) -> dict[str, object]:
    info = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": str(uuid.uuid4())}
    return {"code": code, "message": message, "details": [info]}


def status_response(code: int, message: str, http_status: int | None = None) -> SimulatedResponse:
    return SimulatedResponse(http_status or HTTP_STATUS.get(code, 500), json.dumps(status_body(code, message)).encode())
