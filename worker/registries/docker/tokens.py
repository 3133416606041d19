"""Docker's token authentication: the challenge of a 401, and its tokens, one per realm, service and scope.

Source: distribution's token specification. The caller chooses the user name and the password.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from msgspec import Struct

from worker.registries.docker import manifests
from worker.registries.errors import (
    BadResponseError,
    PermissionDeniedError,
    RateLimitedError,
    SignInError,
    UnavailableError,
)
from worker.registries.http.challenges import find_challenge
from worker.registries.http.client import Http
from worker.registries.http.messages import Request, Response, Signer, is_local
from worker.registries.http.responses import decode, succeeded
from worker.text import one_line

SCOPES = re.compile("[!-~]+( [!-~]+)*")
TOKEN = re.compile(r"[\x21-\x7e]{1,16000}")
MASKED = 200  # recent tokens that errors must not show
DEFAULT_LIFE = 60.0  # seconds, if the response has no expires_in; from the specification

Scopes = tuple[str, ...]  # ("repository:shop/api:pull",); empty: only to sign in


class WireToken(Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class TokenChallenge:
    """The Bearer challenge of a 401."""

    realm: str
    service: str
    scopes: Scopes = ()  # empty: not given
    too_little: bool = False  # the refused token is valid, but lacks the scope


def challenge_of(response: Response, root: str, hosts: Collection[str] | None = None) -> TokenChallenge | None:
    """The Bearer challenge of a 401; None: no such challenge. Raises SignInError for a realm on another host.

    Credentials are sent only to `root` and to the configured `hosts` ("auth.example.com", "127.0.0.1:5001"); None: the
    kind of registry has no such setting.
    """
    challenge = find_challenge("bearer", response.headers.get("www-authenticate", ""))
    if challenge is None:
        return None
    parameters = challenge.parameters
    realm = urlsplit(urljoin(root + "/", parameters.get("realm", "")))
    _require_allowed_host(realm, urlsplit(root), hosts)
    scope = parameters.get("scope", "")
    return TokenChallenge(
        realm._replace(query="", fragment="").geturl(),
        parameters.get("service", ""),
        tuple(scope.split(" ")) if len(scope) <= 2000 and SCOPES.fullmatch(scope) else (),
        parameters.get("error") == "insufficient_scope",
    )


def pull(name: str) -> Scopes:
    """The scopes to read a repository. `name`: its full name."""
    return (f"repository:{name}:pull",)


def host_and_port(address: SplitResult) -> str:
    """Host and port in lower case, without the default port of the scheme. A user name in the address stays, so such an
    address does not equal a plain host.
    """
    default = {"https": ":443", "http": ":80"}.get(address.scheme, "")
    return address.netloc.lower().removesuffix(default)


def _require_allowed_host(realm: SplitResult, home: SplitResult, hosts: Collection[str] | None) -> None:
    # Plain http to another machine needs the configuration's consent, which the HTTP client checks.
    plain_allowed = is_local(realm.hostname or "") or (home.scheme == "http" and not is_local(home.hostname or ""))
    safe = realm.scheme == "https" or (realm.scheme == "http" and plain_allowed)
    ours = realm.scheme == home.scheme and host_and_port(realm) == host_and_port(home)
    if ours or (safe and host_and_port(realm) in (hosts or ())):
        return
    where = one_line(f"{realm.scheme}://{realm.netloc}", 120)
    remedy = ""
    if hosts is not None and safe and "@" not in realm.netloc:
        remedy = (
            f"; if that is the registry's token server, write token_hosts: [{one_line(host_and_port(realm), 120)!r}]"
        )
    allowed = ", ".join([home.netloc, *(hosts or ())])
    raise SignInError(f"the registry's token server is {where}, but credentials are sent to {allowed} only{remedy}")


def get_token(challenge: TokenChallenge, scopes: Scopes, account: str = "") -> Request:
    query: dict[str, Any] = {"scope": list(scopes)} if scopes else {}
    if account:
        query["account"] = account
    if challenge.service:
        query["service"] = challenge.service
    what = f"Docker token for {', '.join(scopes) or 'signing in'}"
    return Request(method="GET", url=challenge.realm, about=what, query=query, repeatable=True)


def trade_token(challenge: TokenChallenge, scopes: Scopes, identity: str) -> Request:
    """Exchanges an identity token for a token. Source: distribution's OAuth 2 token specification."""
    form = {"grant_type": "refresh_token", "client_id": "registry-gc", "refresh_token": identity}
    form |= {name: value for name, value in (("service", challenge.service), ("scope", " ".join(scopes))) if value}
    return Request(
        method="POST",
        url=challenge.realm,
        about=f"Docker token for {', '.join(scopes) or 'signing in'}",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
        repeatable=True,  # a second token does no harm
    )


def docker_token(response: Response) -> tuple[str, float]:
    """The header Authorization from the response of a token server, and its life in seconds. Raises RegistryError.

    A 404 of a token server does not concern an image: errors that mean "no token" are SignInErrors.
    """
    if not succeeded(response):
        error = manifests.refusal(response)
        if isinstance(error, UnavailableError | RateLimitedError | BadResponseError | PermissionDeniedError):
            raise error
        raise SignInError(error.message, status=response.status, request_id=error.request_id)
    wire = decode(response.body, WireToken)
    token = wire.token or wire.access_token or ""
    if not TOKEN.fullmatch(token):
        raise BadResponseError("the response has no valid Docker token")
    return f"Bearer {token}", max(1.0, min(wire.expires_in or DEFAULT_LIFE, 12 * 3600.0))


@dataclass(slots=True)
class _ScopeToken:
    """The token of one realm, service and scope."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    authorization: str | None = field(default=None, repr=False)
    valid_until: float = 0.0  # time.monotonic()


class DockerSignIn:
    """The Docker tokens of one registry, requested with `basic`; None: anonymously."""

    def __init__(
        self,
        http: Http,
        root: str,
        basic: Signer | None,
        *,
        account: str = "",
        hosts: Collection[str] | None = None,
    ) -> None:
        self.root, self.hosts = root, hosts
        self.challenge: TokenChallenge | None = None  # of the last 401; its realm serves all scopes
        self.required_scopes: dict[Scopes, Scopes] = {}  # our scopes -> the scopes that the registry requires instead
        self._http, self._basic, self._account = http, basic, account
        self._tokens: dict[tuple[str, str, Scopes], _ScopeToken] = {}
        self.issued: deque[str] = deque(maxlen=MASKED)  # the last tokens, valid or not
        self._lock = threading.Lock()

    def masked(self, response: Response) -> Response:
        """The response without secrets."""
        return response

    def identity(self, _refused: str | None) -> str | None:
        """An identity token other than the refused one; None: a user name and a password, or anonymous."""
        return None

    def held(self, challenge: TokenChallenge, scopes: Scopes) -> _ScopeToken:
        with self._lock:
            return self._tokens.setdefault((challenge.realm, challenge.service, scopes), _ScopeToken())

    def renew(self, held: _ScopeToken, challenge: TokenChallenge, scopes: Scopes) -> None:
        """Fetch a new token; the caller holds its lock. Raises RegistryError."""

        def read(response: Response) -> tuple[str, float]:
            return docker_token(self.masked(response))

        held.authorization = None
        identity = self.identity(None)
        if identity is None:
            authorization, life = self._http.call(get_token(challenge, scopes, self._account), read, self._basic)
        else:
            try:
                authorization, life = self._http.call(trade_token(challenge, scopes, identity), read)
            except SignInError:
                if (fresh := self.identity(identity)) is None:
                    raise
                authorization, life = self._http.call(trade_token(challenge, scopes, fresh), read)
        held.authorization, held.valid_until = authorization, time.monotonic() + 0.8 * life
        self.issued.append(authorization.removeprefix("Bearer "))


@dataclass(frozen=True, slots=True)
class ScopeSigner:
    """Sends a token for these scopes, or for those that the registry requires instead."""

    sign_in: DockerSignIn
    scopes: Scopes

    def sign(self) -> str | None:
        if (challenge := self.sign_in.challenge) is None:
            return None
        scopes = self.sign_in.required_scopes.get(self.scopes, self.scopes)
        held = self.sign_in.held(challenge, scopes)
        with held.lock:
            if time.monotonic() >= held.valid_until:
                self.sign_in.renew(held, challenge, scopes)
            return held.authorization

    def refused(self, authorization: str | None, response: Response) -> None:
        challenge = challenge_of(response, self.sign_in.root, self.sign_in.hosts)
        if challenge is None:
            raise SignInError("the registry answered 401 without a Bearer challenge", status=401)
        scopes = challenge.scopes or self.scopes
        self.sign_in.challenge, self.sign_in.required_scopes[self.scopes] = challenge, scopes
        held = self.sign_in.held(challenge, scopes)
        with held.lock:
            if held.authorization is not None and held.authorization != authorization:
                return  # another thread has renewed it
            if held.authorization is not None and challenge.too_little:
                held.valid_until = 0.0  # the next request fetches a new token: the permission may be granted meanwhile
                message = f"HTTP 401: the token for {', '.join(scopes) or 'signing in'} does not allow this"
                raise PermissionDeniedError(message, status=401, request_id=response.headers.get("x-request-id", ""))
            self.sign_in.renew(held, challenge, scopes)
