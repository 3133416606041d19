"""Signs in to an OCI registry as its challenges say: as nobody, by name and password, or by a token for each scope.

Nothing is sent with credentials before the registry has asked for them. No message or repr shows a password.
"""

import base64
from dataclasses import dataclass

from worker.config import RegistrySettings
from worker.registries.docker_tokens import DockerSignIn, Scopes, ScopeSigner, challenge_of
from worker.registries.http import Http
from worker.registries.interface import RegistryError, SignInError
from worker.registries.messages import Answer
from worker.secret import Secret, SecretError

CATALOG: Scopes = ("registry:catalog:*",)
NO_SCOPE: Scopes = ()


def pull(name: str) -> Scopes:
    return (f"repository:{name}:pull",)


def delete(name: str) -> Scopes:
    return (f"repository:{name}:delete",)


def push(name: str, source: str = "") -> Scopes:
    """To put manifests, and to take blobs over from `source`."""
    return (f"repository:{name}:pull,push", *(pull(source) if source else ()))


@dataclass(frozen=True, slots=True)
class User:
    """A name and its password, read anew each time so that it may be rotated. Signs with both."""

    name: str
    password: Secret

    def sign(self) -> str:
        return "Basic " + self._pair()

    def refused(self, authorization: str | None, answer: Answer) -> None:  # noqa: ARG002 - the answer says no more than 401
        if authorization == self.sign():
            raise SignInError(
                f"the user name {self.name!r} or the password in {self.password.where} was refused", status=401
            )

    def hide(self, text: str) -> str:
        """The text without the password, should a server repeat it."""
        if not text:
            return text
        try:
            secrets = (self._pair(), self._password())
        except SignInError:
            return text
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    def _pair(self) -> str:
        return base64.b64encode(f"{self.name}:{self._password()}".encode()).decode()

    def _password(self) -> str:
        try:
            return self.password.read()
        except SecretError as error:
            raise SignInError(f"{error}; the configuration names it as this registry's credentials") from error


class OciSignIn:
    """Who we are to one registry, and how it wants to hear it. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, http: Http) -> None:
        given = settings.credentials
        self.root, self.hosts = settings.url, settings.token_hosts
        self.user = User(given.username, given.password) if given.username and given.password else None
        self.basic = False  # the registry wants the name and the password themselves
        self._tokens = DockerSignIn(http, self.root, self.user, account=given.username or "", hosts=self.hosts)

    def of(self, scopes: Scopes) -> "OciSigner":
        """The signer for what needs these scopes."""
        return OciSigner(self, ScopeSigner(self._tokens, scopes))

    def hidden(self, error: RegistryError) -> RegistryError:
        """The error without the password in its words."""
        if self.user is not None:
            error.message = self.user.hide(error.message)
        return error


@dataclass(frozen=True, slots=True)
class OciSigner:
    sign_in: OciSignIn
    token: ScopeSigner

    def sign(self) -> str | None:
        if self.sign_in.basic and self.sign_in.user is not None:
            return self.sign_in.user.sign()
        return self.token.sign()

    def refused(self, authorization: str | None, answer: Answer) -> None:
        sign_in = self.sign_in
        if challenge_of(answer, sign_in.root, sign_in.hosts) is not None:
            sign_in.basic = False
            self.token.refused(authorization, answer)
        elif "basic" not in answer.headers.get("www-authenticate", "").lower():
            raise SignInError("the registry answered 401 and did not say how to sign in", status=401)
        elif sign_in.user is None:
            remedy = "write credentials: {username: …, password: {file: …}}"
            raise SignInError(f"the registry wants a user name and a password; {remedy}", status=401)
        else:
            if sign_in.basic:
                sign_in.user.refused(authorization, answer)
            sign_in.basic = True
