"""Signs in to an OCI registry as its challenges say: as nobody, by name and password, or by a token for each scope.

Nothing is sent with credentials before the registry has asked for them. No message or repr shows a password.
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
HALF = "an answer that cannot be read, and that repeats what we sign in with: its words are left out"


class UnchallengedError(SignInError):
    """A 401 that does not say how to sign in."""


class SignIns:
    """Who we are to one registry, by repository: of several ways to sign in the first that is for it counts."""

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
        """The signer for actions in a repository, and for reading `source`. Raises RegistryError: no way is for it."""
        if (sign_in := self.sign_in_for(repository)) is None:
            remedy = "add an item for it, or one without repositories, such as {anonymous: true}"
            raise RegistryError(f"none of the credentials is for the repository {repository}: {remedy}")
        above = f"{self._namespace}/" if self._namespace else ""
        reading = pull(f"{above}{source}") if source else ()
        return OciSigner(sign_in, (f"repository:{above}{repository}:{actions}", *reading))

    def sign_in_for(self, repository: str) -> "OciSignIn | None":
        """How to sign in for a repository; None: no way is for it."""
        return next((sign_in for patterns, sign_in in self._sign_ins if patterns.match(repository) is not None), None)

    def masked(self, response: Response) -> Response:
        """As OciSignIn.masked, for all of them."""
        for sign_in in self.all:
            response = sign_in.masked(response)
        return response

    def hidden(self, error: RegistryError, response: Response | None = None) -> RegistryError:
        """As OciSignIn.hidden, for all of them."""
        for sign_in in self.all:
            error = sign_in.hidden(error, response)
        return error


class OciSignIn(DockerSignIn):
    """Who we are to one registry in one way, and how it wants to hear it. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, given: Credentials, http: Http, name: str = "") -> None:
        self.name = name  # of one among several, as the configuration has it; empty: the only one
        self.globs = () if given.anonymous else (given.repositories or ("**",))  # whose sign-in may be refused
        self.user = user_of(given, settings.url)
        self.basic = False  # the registry wants the name and the password themselves
        self.asked = False  # the registry has answered a request with a challenge
        super().__init__(http, settings.url, self.user, account=given.username or "", hosts=settings.token_hosts)

    def identity(self, refused: str | None) -> str | None:
        return None if self.user is None else self.user.identity_token(refused)

    def masked(self, response: Response) -> Response:
        """An answer without secrets in its body: whatever reads it may cut its words, and half a secret is one too.

        The body of a success stays as it is: it may have to be hashed, and may be the token that was asked for.
        """
        if succeeded(response) or not response.body:
            return response
        return replace(response, body=hide(response.body.decode(errors="replace"), self._secrets()).encode())

    def hidden(self, error: RegistryError, response: Response | None = None) -> RegistryError:
        """The error without secrets in its words. `answer`: where the words come from, perhaps with half a secret."""
        secrets = self._secrets()
        if response is not None and succeeded(response):
            text = response.body.decode(errors="replace")
            if hide(text, secrets) != text:
                error.message = f"HTTP {response.status}: {HALF}"
        error.message = hide(error.message, secrets)
        error.request_id = hide(error.request_id, secrets)
        return error

    def _secrets(self) -> tuple[str, ...]:
        return (*(() if self.user is None else self.user.secrets()), *self.issued)


def hide(text: str, secrets: Iterable[str]) -> str:
    """The text without these, also as JSON writes them; the longest first, as one may be a part of another."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for written in (secret, json.dumps(secret)[1:-1]):
            text = text.replace(written, "***")
    return text


@dataclass(frozen=True)
class OciSigner(ScopeSigner):
    """Signs what needs these scopes in the way that the registry asks for."""

    sign_in: OciSignIn

    def sign(self) -> str | None:
        if self.sign_in.basic and self.sign_in.user is not None:
            return self.sign_in.user.sign()
        return super().sign()

    def refused(self, authorization: str | None, response: Response) -> None:
        sign_in = self.sign_in
        sign_in.asked = True
        if challenge_of(response, sign_in.root, sign_in.hosts) is not None:
            sign_in.basic = False
            super().refused(authorization, response)
        elif find_challenge("basic", response.headers.get("www-authenticate", "")) is None:
            raise UnchallengedError("the registry answered 401 and did not say how to sign in", status=401)
        elif sign_in.user is None:
            remedy = "write credentials: {username: …, password: {file: …}}"
            raise SignInError(f"the registry wants a user name and a password; {remedy}", status=401)
        elif sign_in.user.identity_token() is not None:
            raise SignInError(
                "the registry wants a user name and a password, and was given an identity token", status=401
            )
        else:
            if sign_in.basic:
                sign_in.user.refused(authorization, response)
            sign_in.basic = True
