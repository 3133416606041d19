"""Docker's token authentication: what a 401 asks for, and the tokens it leads to, one per realm, service and scope.

Source: distribution's token specification. Whose name and password a token is asked for with is the caller's business.
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
REMEMBERED = 200  # tokens, so that no error shows one
SHORTEST_LIFE = 60.0  # seconds a token serves where the answer does not say; the protocol's own default

Scopes = tuple[str, ...]  # ("repository:shop/api:pull",); none: to sign in, and no more


class WireToken(Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class TokenChallenge:
    """Where a 401 sends for a token, and for which."""

    realm: str
    service: str
    scopes: Scopes = ()  # none: it does not say
    too_little: bool = False  # the token that was refused is good, and does not allow this


def challenge_of(response: Response, root: str, hosts: Collection[str] | None = None) -> TokenChallenge | None:
    """The Bearer challenge of a 401; None: there is none. Raises SignInError for a realm on another host.

    Credentials follow only to where the configuration sends them: to `root`, and to `hosts` ("auth.example.com",
    "127.0.0.1:5001"), which None says cannot be configured.
    """
    found = find_challenge("bearer", response.headers.get("www-authenticate", ""))
    if found is None:
        return None
    parameters = found.parameters
    realm = urlsplit(urljoin(root + "/", parameters.get("realm", "")))
    _insist_on_host(realm, urlsplit(root), hosts)
    scope = parameters.get("scope", "")
    return TokenChallenge(
        realm._replace(query="", fragment="").geturl(),
        parameters.get("service", ""),
        tuple(scope.split(" ")) if len(scope) <= 2000 and SCOPES.fullmatch(scope) else (),
        parameters.get("error") == "insufficient_scope",
    )


def pull(name: str) -> Scopes:
    """To read a repository by its full name."""
    return (f"repository:{name}:pull",)


def place(address: SplitResult) -> str:
    """Host and port as they tell servers apart; a port that is the usual one is left out."""
    usual = {"https": ":443", "http": ":80"}.get(address.scheme, "")
    return address.netloc.lower().removesuffix(usual)


def _insist_on_host(realm: SplitResult, home: SplitResult, hosts: Collection[str] | None) -> None:
    # Plain http to another machine is only used where the configuration says so, and checked by whoever sends.
    plain_is_fine = is_local(realm.hostname or "") or (home.scheme == "http" and not is_local(home.hostname or ""))
    safe = realm.scheme == "https" or (realm.scheme == "http" and plain_is_fine)
    ours = realm.scheme == home.scheme and place(realm) == place(home)
    if ours or (safe and place(realm) in (hosts or ())):
        return
    where = one_line(f"{realm.scheme}://{realm.netloc}", 120)
    remedy = ""
    if hosts is not None and safe and "@" not in realm.netloc:
        remedy = f"; if that is the registry's token server, write token_hosts: [{one_line(place(realm), 120)!r}]"
    told = ", ".join([home.netloc, *(hosts or ())])
    raise SignInError(f"the registry sends to {where} for a token; credentials are given to {told} only{remedy}")


def get_token(challenge: TokenChallenge, scopes: Scopes, account: str = "") -> Request:
    query: dict[str, Any] = {"scope": list(scopes)} if scopes else {}
    if account:
        query["account"] = account
    if challenge.service:
        query["service"] = challenge.service
    what = f"Docker token for {', '.join(scopes) or 'signing in'}"
    return Request(method="GET", url=challenge.realm, about=what, query=query, repeatable=True)


def trade_token(challenge: TokenChallenge, scopes: Scopes, identity: str) -> Request:
    """Asks for a token in exchange for an identity token. Source: distribution's OAuth 2 token specification."""
    form = {"grant_type": "refresh_token", "client_id": "registry-gc", "refresh_token": identity}
    form |= {name: value for name, value in (("service", challenge.service), ("scope", " ".join(scopes))) if value}
    return Request(
        method="POST",
        url=challenge.realm,
        about=f"Docker token for {', '.join(scopes) or 'signing in'}",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
        repeatable=True,  # a second token costs nothing
    )


def docker_token(response: Response) -> tuple[str, float]:
    """The header value a token answer is good for, and for how many seconds. Raises RegistryError.

    A 404 of a token server says nothing of images: whatever only means "no token" is a SignInError.
    """
    if not succeeded(response):
        error = manifests.refusal(response)
        if isinstance(error, UnavailableError | RateLimitedError | BadResponseError | PermissionDeniedError):
            raise error
        raise SignInError(error.message, status=response.status, request_id=error.request_id)
    found = decode(response.body, WireToken)
    token = found.token or found.access_token or ""
    if not TOKEN.fullmatch(token):
        raise BadResponseError("an answer without a usable Docker token")
    return f"Bearer {token}", max(1.0, min(found.expires_in or SHORTEST_LIFE, 12 * 3600.0))


@dataclass(slots=True)
class _Pass:
    """The token of one realm, service and scope."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    authorization: str | None = field(default=None, repr=False)
    good_until: float = 0.0  # time.monotonic()


class DockerSignIn:
    """The Docker tokens of one registry, got with `basic` (None: as nobody) where the registry's challenge says."""

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
        self.challenge: TokenChallenge | None = None  # known after the first 401; its realm serves for every scope
        self.asked_for: dict[Scopes, Scopes] = {}  # ours -> what the registry has asked for instead
        self._http, self._basic, self._account = http, basic, account
        self._passes: dict[tuple[str, str, Scopes], _Pass] = {}
        self.given: deque[str] = deque(maxlen=REMEMBERED)  # the last of the tokens, good or not
        self._lock = threading.Lock()

    def masked(self, response: Response) -> Response:
        """An answer without what must not be told of it."""
        return response

    def identity(self, _refused: str | None) -> str | None:
        """An identity token, another than the refused one; None: there is a name and a password, or nobody."""
        return None

    def held(self, challenge: TokenChallenge, scopes: Scopes) -> _Pass:
        with self._lock:
            return self._passes.setdefault((challenge.realm, challenge.service, scopes), _Pass())

    def renew(self, held: _Pass, challenge: TokenChallenge, scopes: Scopes) -> None:
        """A fresh token, by name and password or for an identity token. Raises RegistryError. Its lock is held."""

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
        held.authorization, held.good_until = authorization, time.monotonic() + 0.8 * life
        self.given.append(authorization.removeprefix("Bearer "))


@dataclass(frozen=True, slots=True)
class ScopeSigner:
    """Signs what needs these scopes, or those that the registry asks for in their place."""

    sign_in: DockerSignIn
    scopes: Scopes

    def sign(self) -> str | None:
        if (challenge := self.sign_in.challenge) is None:
            return None
        scopes = self.sign_in.asked_for.get(self.scopes, self.scopes)
        held = self.sign_in.held(challenge, scopes)
        with held.lock:
            if time.monotonic() >= held.good_until:
                self.sign_in.renew(held, challenge, scopes)
            return held.authorization

    def refused(self, authorization: str | None, response: Response) -> None:
        challenge = challenge_of(response, self.sign_in.root, self.sign_in.hosts)
        if challenge is None:
            raise SignInError("the Docker API answered 401 and did not say where to get a token", status=401)
        scopes = challenge.scopes or self.scopes
        self.sign_in.challenge, self.sign_in.asked_for[self.scopes] = challenge, scopes
        held = self.sign_in.held(challenge, scopes)
        with held.lock:
            if held.authorization is not None and held.authorization != authorization:
                return  # another thread was quicker
            if held.authorization is not None and challenge.too_little:
                held.good_until = 0.0  # should the rights be given meanwhile
                what = f"HTTP 401: the token for {', '.join(scopes) or 'signing in'} does not allow this"
                raise PermissionDeniedError(what, status=401, request_id=response.headers.get("x-request-id", ""))
            self.sign_in.renew(held, challenge, scopes)
