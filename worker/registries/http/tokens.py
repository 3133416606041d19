"""Tokens and passwords that expire: renewed early, by one thread at a time. And the signers that send them."""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.config.secret import Secret, SecretError
from worker.registries.errors import RegistryError, SignInError
from worker.registries.http.messages import Response

HOUR = 3600.0
RETRY_EARLY = 30.0  # seconds until a failed early renewal is retried; the old token is used meanwhile


@dataclass(frozen=True, slots=True)
class Token:
    """A token, or a password, with its times in `time.monotonic()`."""

    value: str = field(repr=False)
    refresh_at: float
    expires_at: float


class Tokens:
    """The current token, fetched on demand. Safe to use from several threads."""

    def __init__(self, fetch: Callable[[], Token], remedy: str, what: str = "the token was") -> None:
        """`fetch` raises RegistryError. `remedy`: what to do if the registry refuses a token."""
        self._fetch, self._remedy, self._what = fetch, remedy, what
        self._lock = threading.Lock()
        self._token: Token | None = None

    @property
    def last(self) -> str | None:
        """The last token, valid or not; never fetches one. None: no token was fetched yet, or the last replacement
        failed.
        """
        token = self._token
        return token.value if token else None

    def current(self) -> str:
        """A token that has not expired. Raises SignInError and the errors of `fetch`."""
        token, now = self._token, time.monotonic()
        if token and now < token.refresh_at:
            return token.value
        if token and now < token.expires_at:
            return self._renew_early(token)
        with self._lock:
            if self._token is None or time.monotonic() >= self._token.refresh_at:
                self._token = self._fetch()
            return self._token.value

    def _renew_early(self, token: Token) -> str:
        """A new token; the old token if that fails or if another thread is fetching one."""
        if not self._lock.acquire(blocking=False):
            return token.value
        try:
            self._token = self._fetch()
        except RegistryError:  # the old token is still valid, so this is no failure yet
            self._token = Token(token.value, time.monotonic() + RETRY_EARLY, token.expires_at)
        finally:
            self._lock.release()
        return self._token.value

    def replace(self, stale: str) -> None:
        """Replace a token that the registry refused. Raises SignInError: `fetch` returns the same token again."""
        with self._lock:
            if self._token is not None and self._token.value != stale:
                return  # another thread has replaced it
            self._token = None
            token = self._fetch()
            if token.value == stale:
                raise SignInError(f"{self._what} refused; {self._remedy}", status=401)
            self._token = token


def expiring_token(value: str, life: float, longest: float = 12 * HOUR) -> Token:
    """A token that expires in `life` seconds; renewed after four fifths of them, or five minutes before the end. The
    earlier of the two counts, and at the latest `longest` seconds from now. `life` 0 or less: it has expired.
    """
    now = time.monotonic()
    early = min(life * 0.8, life - 300.0 if life > 600.0 else life, longest)
    return Token(value, refresh_at=now + early, expires_at=now + life)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Sends a token as Bearer."""

    tokens: Tokens

    def sign(self) -> str:
        return f"Bearer {self.tokens.current()}"

    def refused(self, authorization: str | None, _answer: Response) -> None:
        self.tokens.replace((authorization or "").removeprefix("Bearer "))


@dataclass(frozen=True, slots=True)
class Basic:
    """Sends a user name and a password. The tokens are passwords, or, without `name`, "name:password"."""

    tokens: Tokens
    name: str = ""

    def sign(self) -> str:
        return f"Basic {base64_of(self.prefix + self.tokens.current())}"

    def refused(self, authorization: str | None, _answer: Response) -> None:
        pair = base64.b64decode((authorization or "").removeprefix("Basic ")).decode()
        self.tokens.replace(pair.removeprefix(self.prefix))

    @property
    def prefix(self) -> str:
        return f"{self.name}:" if self.name else ""


@dataclass(frozen=True, slots=True)
class SecretBearer:
    """Sends a token from a secret, which is read for each request and cannot be renewed."""

    token: Secret

    def sign(self) -> str:
        try:
            token = self.token.read()
        except SecretError as error:
            raise SignInError(str(error)) from None
        if not token.isascii() or not token.isprintable():
            raise SignInError(f"{self.token.where} has characters that an HTTP header must not have; replace it")
        return f"Bearer {token}"

    def refused(self, _authorization: str | None, _answer: Response) -> None:
        pass


def read_credentials(secret: Secret) -> str:
    """A secret with credentials. Raises SignInError. Each call reads the file or the environment variable again, so a
    renewed secret needs no restart.
    """
    try:
        return secret.read()
    except SecretError as error:
        raise SignInError(f"{error}; the configuration names it as this registry's credentials") from error


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
