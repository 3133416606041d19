"""A token, or a name with its password, that somebody gives for a while: fetched early, by one thread at a time.

And who signs requests with one.
"""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.config.secret import Secret, SecretError
from worker.registries.errors import RegistryError, SignInError
from worker.registries.http.messages import Response

HOUR = 3600.0
RETRY_EARLY = 30.0  # seconds until an early refresh that failed is tried again; the old token serves meanwhile


@dataclass(frozen=True, slots=True)
class Token:
    """A token and how long it serves, in `time.monotonic()`."""

    value: str = field(repr=False)
    refresh_at: float
    expires_at: float


class Tokens:
    """The current token, fetched when needed. Safe to use from several threads."""

    def __init__(self, fetch: Callable[[], Token], remedy: str, what: str = "the token was") -> None:
        """`fetch` raises RegistryError; `remedy` tells people what to do when its tokens are refused."""
        self._fetch, self._remedy, self._what = fetch, remedy, what
        self._lock = threading.Lock()
        self._token: Token | None = None

    @property
    def last(self) -> str | None:
        """The token that was fetched last, good or not; nothing is fetched for it."""
        token = self._token
        return token.value if token else None

    def current(self) -> str:
        """A token that should be good now. Raises SignInError and what fetching raises."""
        token, now = self._token, time.monotonic()
        if token and now < token.refresh_at:
            return token.value
        if token and now < token.expires_at:
            return self._renewed_early(token)
        with self._lock:
            if self._token is None or time.monotonic() >= self._token.refresh_at:
                self._token = self._fetch()
            return self._token.value

    def _renewed_early(self, token: Token) -> str:
        """A fresher token if one is to be had; the old one where it is not, or where another thread is at it."""
        if not self._lock.acquire(blocking=False):
            return token.value
        try:
            self._token = self._fetch()
        except RegistryError:  # the old token is still good: worth no alarm yet
            self._token = Token(token.value, time.monotonic() + RETRY_EARLY, token.expires_at)
        finally:
            self._lock.release()
        return self._token.value

    def replace(self, stale: str) -> None:
        """Fetch another token than this one, which was refused. Raises SignInError when there is no other."""
        with self._lock:
            if self._token is not None and self._token.value != stale:
                return  # another thread was quicker
            self._token = None
            token = self._fetch()
            if token.value == stale:
                raise SignInError(f"{self._what} refused; {self._remedy}", status=401)
            self._token = token


def lasting(value: str, life: float, longest: float = 12 * HOUR) -> Token:
    """A token with `life` seconds left: good to the end, replaced at four fifths or five minutes before it."""
    now = time.monotonic()
    early = min(life * 0.8, life - 300.0 if life > 600.0 else life, longest)
    return Token(value, refresh_at=now + early, expires_at=now + life)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Signs with a token."""

    tokens: Tokens

    def sign(self) -> str:
        return f"Bearer {self.tokens.current()}"

    def refused(self, authorization: str | None, _answer: Response) -> None:
        self.tokens.replace((authorization or "").removeprefix("Bearer "))


@dataclass(frozen=True, slots=True)
class Basic:
    """Signs with a name and a password: the tokens are passwords, or, without `name`, "name:password"."""

    tokens: Tokens
    name: str = ""

    def sign(self) -> str:
        return f"Basic {base64_of(self.before + self.tokens.current())}"

    def refused(self, authorization: str | None, _answer: Response) -> None:
        pair = base64.b64decode((authorization or "").removeprefix("Basic ")).decode()
        self.tokens.replace(pair.removeprefix(self.before))

    @property
    def before(self) -> str:
        return f"{self.name}:" if self.name else ""


@dataclass(frozen=True, slots=True)
class SecretBearer:
    """Signs with a token from a secret, read anew each time: where it is refused there is nothing to renew."""

    token: Secret

    def sign(self) -> str:
        try:
            token = self.token.read()
        except SecretError as error:
            raise SignInError(str(error)) from None
        if not token.isascii() or not token.isprintable():
            raise SignInError("the token holds characters that no header may hold")
        return f"Bearer {token}"

    def refused(self, _authorization: str | None, _answer: Response) -> None:
        pass


def read_credentials(secret: Secret) -> str:
    """What the configuration names to sign in with. Raises SignInError."""
    try:
        return secret.read()
    except SecretError as error:
        raise SignInError(f"{error}; the configuration names it as this registry's credentials") from error


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
