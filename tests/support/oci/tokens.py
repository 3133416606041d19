"""A token server of a registry: signs a user's permissions into a JWT, as in distribution's token specification."""

import base64
import binascii
import fnmatch
import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.oci.server import BearerAuth, DockerRegistry
from tests.support.servers import Loopback

LEEWAY = 60
"""Seconds after `exp` for which the registry, 2.8, still takes a token."""


@dataclass(frozen=True, slots=True)
class TokenUser:
    """`grants`: scopes as asked for, the name as a glob: `repository:shop/*:pull,delete`, `registry:catalog:*`."""

    password: str
    grants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request for a token. `user`: empty for anonymous; `granted`: the permissions of the token, as scopes."""

    user: str
    scopes: tuple[str, ...]
    granted: tuple[str, ...]
    status: int


class TokenSigner:
    """A key and its certificate."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "token server of the tests")])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, claims: Mapping[str, Any]) -> str:
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        headers = {"typ": "JWT", "x5c": [base64.b64encode(der).decode()]}
        return jwt.encode(dict(claims), self._key, algorithm="RS256", headers=headers)


class TokenServer(Loopback):
    """Listens on loopback while its block runs.

    `says_expires_in`: the seconds that its responses report. `lives`: seconds for which the registry accepts a
    token; a smaller value makes it refuse tokens early. `asked`: every request, in order. User "": anonymous.
    """

    service = "registry of the tests"
    issuer = "token server of the tests"

    def __init__(
        self, users: Mapping[str, TokenUser], *, says_expires_in: int = 300, lives: int = 300 + LEEWAY
    ) -> None:
        super().__init__(_handler(self))
        self.users = dict(users)
        self.says_expires_in = says_expires_in
        self.lives = lives
        self.asked: list[TokenRequest] = []
        self._signer = TokenSigner()
        self._folder = tempfile.TemporaryDirectory(prefix="registry-gc-tokens-")
        self.bundle.write_bytes(self._signer.pem())

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._folder.cleanup()

    @property
    def bundle(self) -> Path:
        return Path(self._folder.name) / "bundle.pem"

    @property
    def auth(self) -> BearerAuth:
        """The `auth` of a DockerRegistry that trusts this server."""
        return BearerAuth(f"{self.url}/token", self.service, self.issuer, self.bundle)

    def token(self, user: str, *scopes: str, lives: int | None = None) -> str:
        """A token for the requested scopes that this user has."""
        now = int(time.time())
        expires = now + (self.lives if lives is None else lives) - LEEWAY
        claims = {"iss": self.issuer, "sub": user, "aud": self.service, "iat": now, "nbf": now - 10, "exp": expires}
        return self._signer.sign({**claims, "jti": f"{time.monotonic_ns()}", "access": self._access(user, scopes)})

    def bearer(self, user: str, *scopes: str) -> str:
        """The header `Authorization` for a pusher."""
        return f"Bearer {self.token(user, *scopes)}"

    def expire_everything(self, registry: DockerRegistry) -> None:
        """Have every token handed out so far refused: another key, and the registry started again to trust that."""
        self._signer = TokenSigner()
        self.bundle.write_bytes(self._signer.pem())
        registry.restart()

    def answer(self, query: str, authorization: str) -> tuple[int, dict[str, Any]]:
        """A request's answer, logged."""
        scopes = tuple(scope for value in parse_qs(query).get("scope", []) for scope in value.split())
        user = self._who(authorization)
        if user is None:
            self.asked.append(TokenRequest("", scopes, (), 401))
            return 401, {"details": "incorrect username or password"}
        granted = (
            f"{grant['type']}:{grant['name']}:{','.join(grant['actions'])}" for grant in self._access(user, scopes)
        )
        self.asked.append(TokenRequest(user, scopes, tuple(granted), 200))
        issued = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, {"token": self.token(user, *scopes), "expires_in": self.says_expires_in, "issued_at": issued}

    def _who(self, authorization: str) -> str | None:
        """The user; empty for anonymous; None for a wrong password."""
        if not authorization:
            return ""
        try:
            user, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return user if user in self.users and self.users[user].password == password else None

    def _access(self, user: str, scopes: Iterable[str]) -> list[dict[str, Any]]:
        """The granted part of the scopes; fewer than requested is no error."""
        grants = self.users[user].grants if user in self.users else ()
        granted = []
        for scope in scopes:
            kind, name, wanted = _split(scope)
            allowed: set[str] = set()
            for own_kind, pattern, given in map(_split, grants):
                if own_kind == kind and fnmatch.fnmatchcase(name, pattern):
                    allowed.update(given)
            if actions := [action for action in wanted if action in allowed]:
                granted.append({"type": kind, "name": name, "actions": actions})
        return granted


def _split(scope: str) -> tuple[str, str, tuple[str, ...]]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, tuple(actions.split(","))


def _handler(tokens: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            status, document = tokens.answer(urlsplit(self.path).query, self.headers.get("Authorization", ""))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent: `asked` has it all."""

    return Handler
