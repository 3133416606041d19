"""Sign-in: IAM tokens from signed keys, the metadata service or a pod's token, and the errors for other callers."""

import base64
import binascii
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import orjson

from tests.support.simulator.http import SimulatedRequest, SimulatedResponse
from tests.support.simulator.messages import timestamp
from tests.support.simulator.state import State
from tests.support.simulator.status import (
    HTTP_STATUS,
    INVALID_ARGUMENT,
    UNAUTHENTICATED,
    RefusedRequestError,
    StatusError,
    status_response,
)

AUDIENCE = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
EXCHANGE_FORM = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
}  # plus `audience`, the service account's id, and `subject_token`, the pod's


def check_bearer(state: State, request: SimulatedRequest) -> None:
    """Raises StatusError unless the request carries a valid IAM token."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or not valid(state, token):
        raise StatusError(UNAUTHENTICATED, "The token is invalid or has expired")


def valid(state: State, token: str) -> bool:
    expires = state.tokens.get(token)
    return expires is not None and state.now() < expires


def iam(state: State, request: SimulatedRequest) -> SimulatedResponse:
    """POST /iam/v1/tokens with a signed key."""
    if request.method != "POST" or request.path != "/iam/v1/tokens" or request.query:
        raise RefusedRequestError(f"{request.method} {request.path}: not a call of this client", 405)
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise RefusedRequestError("Content-Type is not application/json")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise RefusedRequestError("the body is not JSON") from error
    if (
        not isinstance(body, dict)
        or set(body) != {"jwt"}
        or not isinstance(body["jwt"], str)
        or len(body["jwt"]) > 8_000
    ):
        raise RefusedRequestError("the body is not {jwt: text of at most 8000 characters}")
    check_signed(state, body["jwt"], [AUDIENCE, f"http://{request.host}/iam/v1/tokens"])
    token = state.issue_token()
    expires = timestamp(state.tokens[token], 9)
    return SimulatedResponse(200, orjson.dumps({"iamToken": token, "expiresAt": expires}))


def check_signed(state: State, signed: str, audiences: list[str]) -> None:
    """Verifies the token as the service documents it: PS256, key id, issuer, audience, at most an hour."""
    import jwt  # takes a third of a second: only for those who sign in with a key  # noqa: PLC0415

    try:
        header = jwt.get_unverified_header(signed)
        account, public_key = state.keys.get(str(header.get("kid")), ("", ""))
        if not public_key or header.get("typ") != "JWT":
            raise StatusError(UNAUTHENTICATED, "Unknown key")
        options: Any = {"require": ["iss", "aud", "iat", "exp"], "verify_exp": False, "verify_iat": False}
        claims = jwt.decode(signed, public_key, algorithms=["PS256"], audience=audiences, options=options)
    except jwt.PyJWTError as error:
        raise StatusError(UNAUTHENTICATED, f"JWT is not valid: {type(error).__name__}") from error
    now = state.now().timestamp()
    if claims["iss"] != account:
        raise StatusError(UNAUTHENTICATED, "JWT is not valid: issuer")
    if not claims["iat"] - 60 <= now < claims["exp"]:
        raise StatusError(UNAUTHENTICATED, "JWT is not valid: expired or not yet valid")
    if claims["exp"] - claims["iat"] > 3_600:
        raise StatusError(INVALID_ARGUMENT, "JWT lives longer than an hour")


def metadata(state: State, request: SimulatedRequest) -> SimulatedResponse:
    """The token of a virtual machine's service account."""
    if request.path != METADATA_PATH or request.method != "GET" or request.query:
        raise RefusedRequestError(f"{request.method} {request.path}: not a call of this client", 404)
    if request.headers.get("metadata-flavor") != "Google":
        raise RefusedRequestError("Metadata-Flavor: Google is missing", 403)
    if "authorization" in request.headers:
        raise RefusedRequestError("the metadata service is asked without Authorization", 403)
    token = state.issue_token()
    seconds = int((state.tokens[token] - state.now()).total_seconds())
    return SimulatedResponse(200, orjson.dumps({"access_token": token, "expires_in": seconds, "token_type": "Bearer"}))


def exchange(state: State, request: SimulatedRequest) -> SimulatedResponse:
    """POST /oauth/token: a pod's token for one of the service account that is linked to it."""
    if request.method != "POST" or request.path != "/oauth/token" or request.query:
        raise RefusedRequestError(f"{request.method} {request.path}: not a call of this client", 405)
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise RefusedRequestError("Content-Type is not application/x-www-form-urlencoded")
    if "authorization" in request.headers:
        raise RefusedRequestError("the exchange is asked without Authorization", 403)
    try:
        pairs = parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise RefusedRequestError("the body is no form") from error
    form = dict(pairs)
    if len(form) != len(pairs) or set(form) != {*EXCHANGE_FORM, "audience", "subject_token"}:
        raise RefusedRequestError(f"not the fields of an exchange, each once: {sorted(name for name, _ in pairs)}")
    if any(form[name] != value for name, value in EXCHANGE_FORM.items()):
        raise RefusedRequestError("not an exchange of an id token for an access token")
    if state.subjects.get(form["subject_token"]) != form["audience"]:
        return _no_exchange(state, f"no credential links {form['subject_token']} to {form['audience']}")
    token = state.issue_token()
    seconds = int((state.tokens[token] - state.now()).total_seconds())
    return SimulatedResponse(200, orjson.dumps({"access_token": token, "token_type": "Bearer", "expires_in": seconds}))


def _no_exchange(state: State, message: str) -> SimulatedResponse:
    """In one of the two forms that were seen; both repeat the token, as no service should."""
    if state.switches.exchange_errors == "status":
        return status_response(UNAUTHENTICATED, message)
    document = {"error": "invalid_grant", "error_description": message}
    return SimulatedResponse(HTTP_STATUS[INVALID_ARGUMENT], orjson.dumps(document))


def basic(state: State, header: str) -> bool:
    """Whether an Authorization header is Basic with the user `iam` and a valid IAM token."""
    kind, _, encoded = header.partition(" ")
    if kind != "Basic":
        return False
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return user == "iam" and valid(state, password)


def issue_docker_token(state: State, names: set[str]) -> dict[str, Any]:
    token = secrets.token_urlsafe(60)
    now = state.now()
    state.docker_tokens[token] = (now + timedelta(seconds=min(300.0, state.switches.token_seconds)), names)
    return {"token": token, "access_token": token, "expires_in": 300, "issued_at": timestamp(now, 9)}
