"""Signs in to an OCI registry by its challenges: anonymously, with a password, or with a token for each scope.

No credentials are sent before the registry has sent a challenge. No message or repr contains a password.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from policies.patterns import Patterns
from worker.config.settings import Credentials, RegistrySettings, namespace_of
from worker.registries.docker.tokens import DockerSignIn, Scopes, ScopeSigner, challenge_of, pull
from worker.registries.errors import RegistryError, SignInError
from worker.registries.http.challenges import find_challenge
from worker.registries.http.client import Http
from worker.registries.http.messages import Response
from worker.registries.http.responses import succeeded
from worker.registries.oci.passwords import user_of

CATALOG: Scopes = ("registry:catalog:*",)
NO_SCOPE: Scopes = ()
UNREADABLE = "the response is invalid and contains our credentials, so its text is not shown"


class UnchallengedError(SignInError):
    """A 401 without a challenge."""


class SignIns:
    """The credentials of one registry: for each repository, the first whose patterns match."""

    def __init__(self, settings: RegistrySettings, http: Http) -> None:
        several = len(settings.all_credentials) > 1
        self._sign_ins = [
            (
                Patterns(given.repositories or ("**",), paths=True),
                OciSignIn(settings, given, http, f"credentials[{number}]" if several else ""),
            )
            for number, given in enumerate(settings.all_credentials)
        ]
        self.all = tuple(sign_in for _, sign_in in self._sign_ins)
        self._namespace = namespace_of(settings.url)

    def of(self, repository: str, actions: str, source: str = "") -> "OciSigner":
        """The signer for actions in a repository, and for reading `source`. Raises RegistryError: no credentials."""
        if (sign_in := self.sign_in_for(repository)) is None:
            remedy = "add an item for it, or an item without repositories, such as {anonymous: true}"
            raise RegistryError(f"no credentials match the repository {repository}; {remedy}")
        prefix = f"{self._namespace}/" if self._namespace else ""
        reading = pull(f"{prefix}{source}") if source else ()
        return OciSigner(sign_in, (f"repository:{prefix}{repository}:{actions}", *reading))

    def sign_in_for(self, repository: str) -> "OciSignIn | None":
        """The sign-in for a repository; None: no credentials match."""
        return next((sign_in for patterns, sign_in in self._sign_ins if patterns.match(repository) is not None), None)

    def masked(self, response: Response) -> Response:
        """OciSignIn.masked for all credentials."""
        for sign_in in self.all:
            response = sign_in.masked(response)
        return response

    def hidden(self, error: RegistryError, response: Response | None = None) -> RegistryError:
        """OciSignIn.hidden for all credentials."""
        for sign_in in self.all:
            error = sign_in.hidden(error, response)
        return error


class OciSignIn(DockerSignIn):
    """One sign-in to one registry. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, given: Credentials, http: Http, name: str = "") -> None:
        self.name = name  # "credentials[1]" among several; empty: the only credentials
        self.globs = (
            () if given.anonymous else (given.repositories or ("**",))
        )  # repositories that are unreadable if the sign-in is refused
        self.user = user_of(given, settings.url)
        self.basic = False  # whether the registry requires Basic instead of tokens
        self.challenged = False  # whether the registry has sent a challenge
        super().__init__(http, settings.url, self.user, account=given.username or "", hosts=settings.token_hosts)

    def identity(self, refused: str | None) -> str | None:
        return None if self.user is None else self.user.identity_token(refused)

    def masked(self, response: Response) -> Response:
        """The response without secrets in its body, before its text is cut: half a secret must not be shown, either.

        A 2xx response stays unchanged: its body may be hashed, or contain the requested token.
        """
        if succeeded(response) or not response.body:
            return response
        return replace(response, body=hide(response.body.decode(errors="replace"), self._secrets()).encode())

    def hidden(self, error: RegistryError, response: Response | None = None) -> RegistryError:
        """The error without secrets in its message. `response`: the source of the message, perhaps cut in a secret."""
        secrets = self._secrets()
        if response is not None and succeeded(response):
            text = response.body.decode(errors="replace")
            if hide(text, secrets) != text:
                error.message = f"HTTP {response.status}: {UNREADABLE}"
        error.message = hide(error.message, secrets)
        error.request_id = hide(error.request_id, secrets)
        return error

    def _secrets(self) -> tuple[str, ...]:
        return (*(() if self.user is None else self.user.secrets()), *self.issued)


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, also in their JSON form. The longest first, as it may contain a shorter one."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for form in (secret, json.dumps(secret)[1:-1]):
            text = text.replace(form, "***")
    return text


@dataclass(frozen=True)
class OciSigner(ScopeSigner):
    """Authorizes requests with these scopes, by Basic or by a token as the registry requires."""

    sign_in: OciSignIn

    def sign(self) -> str | None:
        if self.sign_in.basic and self.sign_in.user is not None:
            return self.sign_in.user.sign()
        return super().sign()

    def refused(self, authorization: str | None, response: Response) -> None:
        sign_in = self.sign_in
        sign_in.challenged = True
        if challenge_of(response, sign_in.root, sign_in.hosts) is not None:
            sign_in.basic = False
            super().refused(authorization, response)
        elif find_challenge("basic", response.headers.get("www-authenticate", "")) is None:
            raise UnchallengedError(
                "the registry answered 401 without a challenge, so the way to sign in is unknown", status=401
            )
        elif sign_in.user is None:
            remedy = "write credentials: {username: …, password: {file: …}}"
            raise SignInError(f"the registry requires a user name and a password; {remedy}", status=401)
        elif sign_in.user.identity_token() is not None:
            raise SignInError(
                "the registry requires a user name and a password, but the credentials are an identity token",
                status=401,
            )
        else:
            if sign_in.basic:
                sign_in.user.refused(authorization, response)
            sign_in.basic = True
