"""Authentication of a fake registry: basic sign-in, or tokens with scopes."""

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal
from urllib.parse import parse_qsl

from tests.support.oci.fake_wire import FakeRequest, FakeResponse

SERVICE = "fake-registry"


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """One user and a password."""

    user: str
    password: str

    def fits(self, authorization: str) -> bool:
        said = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return authorization == f"Basic {said}"

    def allow(self, request: FakeRequest, needed: Sequence[str], host: str) -> FakeResponse | None:
        """None: go on."""
        if self.fits(request.headers.get("authorization", "")):
            return None
        return unauthorized('Basic realm="fake"')


@dataclass(frozen=True, slots=True)
class UserListAuth:
    """Several users, each with the repositories that it may see, and `catalog` who may list them."""

    users: Mapping[BasicAuth, tuple[str, ...]]
    catalog: tuple[str, ...] = ()  # their names

    def allow(self, request: FakeRequest, needed: Sequence[str], host: str) -> FakeResponse | None:
        """None: go on."""
        known = next((user for user in self.users if user.fits(request.headers.get("authorization", ""))), None)
        if known is None:
            return unauthorized('Basic realm="fake"')
        names = [scope.split(":")[1] for scope in needed if scope.startswith("repository:")]
        listing = any(scope.startswith("registry:catalog:") for scope in needed)
        if set(names) <= set(self.users[known]) and (not listing or known.user in self.catalog):
            return None
        return FakeResponse(403, b'{"errors": [{"code": "DENIED", "message": "not for this user"}]}')


@dataclass(slots=True)
class TokenAuth:
    """A token server under /token of the same host, or `elsewhere`: of another port.

    `granted`: scopes of one action each, "repository:shop/api:pull", "registry:catalog:*"; None: whatever is asked.
    `user`: who has to sign in there; None: anonymous. `lifetime`: seconds; `tells_lifetime`: else it is 60 by default.
    `named`: the answer's field with the token, "access_token" for some. `asked`: the scopes of every request for one.
    """

    granted: set[str] | None = None
    user: BasicAuth | None = None
    lifetime: float = 300.0
    elsewhere: bool = False
    tells_lifetime: bool = True
    identity: str | None = None  # an identity token: then a token is given in exchange for it alone, by POST
    named: Literal["token", "access_token"] = "token"
    asked: list[tuple[str, ...]] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    _issued: dict[str, tuple[frozenset[str], float]] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def issue(self, request: FakeRequest) -> FakeResponse:
        """The answer of the realm: fewer scopes than asked for are no error."""
        authorization = request.headers.get("authorization", "")
        if self.user and not self.user.fits(authorization):
            return unauthorized('Basic realm="token"')
        pairs = parse_qsl(request.body.decode()) if request.method == "POST" else list(request.pairs)
        traded = ("grant_type", "refresh_token") in pairs and ("refresh_token", self.identity) in pairs
        if self.identity is not None and not traded:
            return unauthorized('Bearer realm="token"')
        scopes = tuple(scope for name, value in pairs if name == "scope" for scope in value.split())
        self.asked.append(scopes)
        actions = frozenset(action for scope in scopes for action in single(scope))
        token = f"token-{next(self._numbers)}"
        self._issued[token] = (
            actions if self.granted is None else actions & self.granted,
            self.clock() + self.lifetime,
        )
        expiry = {"expires_in": max(1, int(self.lifetime))} if self.tells_lifetime else {}
        return FakeResponse(200, json.dumps({self.named: token, **expiry}).encode())

    def expire(self) -> None:
        """All tokens so far, at once."""
        self._issued = {token: (actions, float("-inf")) for token, (actions, _) in self._issued.items()}

    def allow(self, request: FakeRequest, needed: Sequence[str], host: str) -> FakeResponse | None:
        """None: go on."""
        challenge = f'Bearer realm="http://{host}/token",service="{SERVICE}"'
        if needed:
            challenge += f',scope="{" ".join(needed)}"'
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            return unauthorized(challenge)
        actions, until = self._issued.get(token, (frozenset(), float("-inf")))
        if self.clock() >= until:
            return unauthorized(f'{challenge},error="invalid_token"')
        if all(action in actions for scope in needed for action in single(scope)):
            return None
        return unauthorized(f'{challenge},error="insufficient_scope"')

    def scopes_of(self, authorization: str) -> str:
        """The permissions of a token, as one line; empty for an unknown token."""
        return " ".join(sorted(self._issued.get(authorization.partition(" ")[2], (frozenset(), 0.0))[0]))


def single(scope: str) -> list[str]:
    """A scope as one scope for each of its actions. The name may have colons."""
    about, _, actions = scope.rpartition(":")
    return [f"{about}:{action}" for action in actions.split(",")]


def unauthorized(challenge: str) -> FakeResponse:
    errors = [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": None}]
    return FakeResponse(401, json.dumps({"errors": errors}).encode(), {"Www-Authenticate": challenge})
