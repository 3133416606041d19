"""Signs in to Yandex Cloud: by an IAM token, a service account key, a pod's token or the metadata service.

One thread at a time renews a token, before it expires and after a refusal. No message or repr shows a token.
"""

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from msgspec import Meta, Struct

from worker.config.secret import Secret
from worker.config.settings import RegistrySettings, WorkloadIdentity
from worker.registries.errors import BadResponseError, RateLimitedError, RegistryError, SignInError, UnavailableError
from worker.registries.http.client import Http
from worker.registries.http.messages import Request, Response
from worker.registries.http.responses import decode, status_error
from worker.registries.http.tokens import HOUR, Token, Tokens, expiring_token, read_credentials
from worker.registries.yandex.api import parse_body, parse_status, refusal
from worker.text import one_line

METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
PRINTABLE = re.compile(r"[\x21-\x7e]{1,8000}")  # other characters are invalid in a header


class IamTokenResponse(Struct, rename="camel"):
    iam_token: str | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class AccessTokenResponse(Struct):
    """The response of the metadata service and of a token exchange (RFC 8693, section 2.2.1)."""

    access_token: str | None = None
    token_type: str | None = None
    expires_in: float | None = None


class ExchangeError(Struct):
    """The error of a token exchange (RFC 6749, section 5.2)."""

    error: str | None = None
    error_description: str | None = None


def open_tokens(settings: RegistrySettings, http: Http) -> Tokens:
    """The tokens for a registry's credentials. Reads and sends nothing yet."""
    credentials = settings.all_credentials[0]
    if credentials.iam_token is not None:
        return iam_tokens(credentials.iam_token)
    if credentials.service_account_key is not None:
        return service_account_tokens(credentials.service_account_key, settings.endpoints.iam, http)
    if credentials.workload_identity is not None:
        return exchanged_tokens(credentials.workload_identity, settings.endpoints.sts, http)
    return metadata_tokens(settings.endpoints.metadata, http)


def iam_tokens(secret: Secret) -> Tokens:
    """A configured IAM token, reread at each use, so that a renewed file needs no restart. Reads nothing yet: `current`
    raises SignInError if the secret cannot be read, or is no token.
    """
    return Tokens(
        lambda: Token(check_token(read_credentials(secret), secret.where), refresh_at=0.0, expires_at=0.0),
        f"IAM tokens are valid for at most 12 hours: write a new token to {secret.where}, or use a service account key",
    )


def service_account_tokens(secret: Secret, iam: str, http: Http) -> Tokens:
    """IAM tokens for a JWT that the key signs. Each request rereads the key, so that it can be rotated."""
    from worker.registries.yandex.service_account_key import signed_jwt  # noqa: PLC0415 - cryptography loads slowly

    def fetch() -> Token:
        request = Request(
            method="POST",
            url=f"{iam}/iam/v1/tokens",
            about="IAM token",
            headers={"Content-Type": "application/json"},
            body=json.dumps({"jwt": signed_jwt(read_credentials(secret), secret.where, iam, time.time())}).encode(),
            repeatable=True,  # a second token costs nothing
            paced=False,
        )
        return http.call(request, lambda response: _iam_token(response, secret.where))

    return Tokens(
        fetch, f"check that the service account of the key in {secret.where} still exists and may use this registry"
    )


def exchanged_tokens(identity: WorkloadIdentity, sts: str, http: Http) -> Tokens:
    """IAM tokens in exchange for the pod's token. The cluster renews the file, so each exchange rereads it."""
    remedy = (
        f"check that a federated credential links the subject of the token in {identity.token.where} to the service"
        f" account {identity.service_account}, and that the token is valid and issued for the federation's audience"
    )

    def fetch() -> Token:
        subject = check_token(read_credentials(identity.token), identity.token.where)
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": identity.service_account,
            "subject_token": subject,
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        }
        request = Request(
            method="POST",
            url=f"{sts}/oauth/token",
            about="exchange of the pod's token",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
            repeatable=True,  # a second token costs nothing
            paced=False,
        )
        return http.call(request, lambda response: _exchanged(response, subject, remedy))

    return Tokens(fetch, remedy)


def _exchanged(response: Response, subject: str, remedy: str) -> Token:
    if response.status // 100 != 2:
        error = _exchange_refusal(response, subject)
        if isinstance(error, UnavailableError | RateLimitedError | BadResponseError):
            raise error
        raise SignInError(f"{error.message}; {remedy}", status=response.status, request_id=error.request_id)
    parsed = parse_body(response, AccessTokenResponse)
    if (parsed.token_type or "Bearer").lower() != "bearer":
        raise BadResponseError("an exchanged token of another type than Bearer")
    if not parsed.expires_in or parsed.expires_in < 0:
        raise BadResponseError("an exchanged token without expires_in")
    return expiring_token(check_token(parsed.access_token or "", "the exchange"), min(parsed.expires_in, 12 * HOUR))


def _exchange_refusal(response: Response, subject: str) -> RegistryError:
    """The service's error, in either of its two known formats, without the pod's token if the service repeats it."""
    response = replace(response, body=response.body.replace(subject.encode(), b"***"))
    if (status := parse_status(response.body)) is not None and status.code is not None:
        return refusal(response)
    try:
        error = decode(response.body, ExchangeError)
    except BadResponseError:
        return status_error(response)
    if error.error in ("temporarily_unavailable", "server_error"):
        return UnavailableError(f"HTTP {response.status}: {one_line(error.error)}", status=response.status)
    return status_error(response, ": ".join(part for part in (error.error, error.error_description) if part))


def metadata_tokens(root: str, http: Http) -> Tokens:
    """Tokens of the virtual machine's service account, renewed every hour, as the vendor advises."""
    remedy = (
        "metadata: true works on a virtual machine with a service account attached; elsewhere use service_account_key"
    )
    request = Request(
        method="GET",
        url=root + METADATA_PATH,
        about="metadata token",
        headers={"Metadata-Flavor": "Google"},
        repeatable=True,
        paced=False,
        timeout=2.0,
        direct=True,
    )

    def read(response: Response) -> Token:
        if response.status in (401, 403, 404):
            raise SignInError(
                f"the metadata service has no token (HTTP {response.status}): {remedy}", status=response.status
            )
        parsed = parse_body(response, AccessTokenResponse)
        life = max(0.0, min(parsed.expires_in or 0.0, 12 * HOUR))
        return expiring_token(check_token(parsed.access_token or "", "metadata service"), life, longest=HOUR)

    def fetch() -> Token:
        try:
            return http.call(request, read, total=10.0)
        except UnavailableError as error:
            raise SignInError(f"{error.message}; {remedy}", error.registry, error.request) from error

    return Tokens(fetch, remedy)


def _iam_token(response: Response, where: str) -> Token:
    if response.status in (400, 401, 403, 404):
        error = refusal(response)
        remedy = f"the key in {where} was refused: if it was deleted make a new one, and check this machine's clock"
        raise SignInError(f"{error.message}; {remedy}", status=response.status, request_id=error.request_id)
    parsed = parse_body(response, IamTokenResponse)
    if parsed.expires_at is None:
        raise BadResponseError("an IAM token without expiresAt")
    # By the server's clock, in whole seconds: the local clock may be wrong.
    life = (parsed.expires_at - (response.date or datetime.now(UTC))).total_seconds() - 1.0
    return expiring_token(check_token(parsed.iam_token or "", "IAM"), life)


def check_token(token: str, where: str) -> str:
    """The token, if it is valid in a header. Raises SignInError, which does not show it. Valid: 1 to 8,000 printable
    ASCII characters without spaces. `where`: its source, for the message.
    """
    if not PRINTABLE.fullmatch(token):
        raise SignInError(f"{where}: not a token (empty, too long, or with characters that no token has)")
    return token
