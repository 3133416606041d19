"""Who may ask a fake registry for what: basic sign-in, or tokens with scopes."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from tests.oci.fake_wire import Ask, Say

SERVICE = "fake-registry"


@dataclass(frozen=True, slots=True)
class Basic:
    """One user and a password."""

    user: str
    password: str

    def fits(self, authorization: str) -> bool:
        said = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return authorization == f"Basic {said}"

    def allow(self, ask: Ask, needed: Sequence[str], host: str) -> Say | None:
        """None: go on."""
        if self.fits(ask.headers.get("authorization", "")):
            return None
        return unauthorized('Basic realm="fake"')


@dataclass(slots=True)
class Tokens:
    """A token server under /token of the same host, or `elsewhere`: of another port.

    `granted`: scopes of one action each, "repository:shop/api:pull", "registry:catalog:*"; None: whatever is asked.
    `user`: who has to sign in there, or nobody. `lifetime`: seconds; `tells_lifetime`: else it is 60 by default.
    `named`: the answer's field with the token, "access_token" for some. `asked`: the scopes of every request for one.
    """

    granted: set[str] | None = None
    user: Basic | None = None
    lifetime: float = 300.0
    elsewhere: bool = False
    tells_lifetime: bool = True
    named: Literal["token", "access_token"] = "token"
    asked: list[tuple[str, ...]] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    _issued: dict[str, tuple[frozenset[str], float]] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def issue(self, ask: Ask) -> Say:
        """The answer of the realm: fewer scopes than asked for are no error."""
        authorization = ask.headers.get("authorization", "")
        if self.user and not self.user.fits(authorization):
            return unauthorized('Basic realm="token"')
        scopes = tuple(scope for name, value in ask.pairs if name == "scope" for scope in value.split())
        self.asked.append(scopes)
        actions = frozenset(one for scope in scopes for one in single(scope))
        token = f"token-{next(self._numbers)}"
        self._issued[token] = (
            actions if self.granted is None else actions & self.granted,
            self.clock() + self.lifetime,
        )
        told = {"expires_in": max(1, int(self.lifetime))} if self.tells_lifetime else {}
        return Say(200, json.dumps({self.named: token, **told}).encode())

    def expire(self) -> None:
        """All tokens so far, at once."""
        self._issued = {token: (actions, float("-inf")) for token, (actions, _) in self._issued.items()}

    def allow(self, ask: Ask, needed: Sequence[str], host: str) -> Say | None:
        """None: go on."""
        challenge = f'Bearer realm="http://{host}/token",service="{SERVICE}"'
        if needed:
            challenge += f',scope="{" ".join(needed)}"'
        kind, _, token = ask.headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            return unauthorized(challenge)
        actions, until = self._issued.get(token, (frozenset(), float("-inf")))
        if self.clock() >= until:
            return unauthorized(f'{challenge},error="invalid_token"')
        if all(one in actions for scope in needed for one in single(scope)):
            return None
        return unauthorized(f'{challenge},error="insufficient_scope"')

    def scopes_of(self, authorization: str) -> str:
        """What a token allows, as one line; empty for a strange one."""
        return " ".join(sorted(self._issued.get(authorization.partition(" ")[2], (frozenset(), 0.0))[0]))


def single(scope: str) -> list[str]:
    """A scope as one scope for each of its actions. The name may have colons."""
    about, _, actions = scope.rpartition(":")
    return [f"{about}:{action}" for action in actions.split(",")]


def unauthorized(challenge: str) -> Say:
    errors = [{"code": "UNAUTHORIZED", "message": "authentication required", "detail": None}]
    return Say(401, json.dumps({"errors": errors}).encode(), {"Www-Authenticate": challenge})
