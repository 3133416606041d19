"""Manifests by the Docker Registry API: what an index lists, and what a manifest is about. Reads, and nothing else.

Sources: the OCI distribution and image specifications, and Docker's token authentication. Plain functions, but for
`DockerSignIn`, which holds the tokens of the repositories.
"""

import hashlib
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import msgspec
from msgspec import Struct

from worker.registries.answers import BLOB_DIGEST, decode, one_line, status_error, succeeded
from worker.registries.http import Http
from worker.registries.interface import BadAnswerError, Manifest, RegistryError, SignInError
from worker.registries.messages import Answer, BrokenBodyError, Request, Signer

INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
IMAGE_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
# All four: without them a registry may refuse an index, or answer with one of its children instead.
ACCEPT = ", ".join((*IMAGE_TYPES, *INDEX_TYPES))
PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')
TOKEN = re.compile(r"[\x21-\x7e]{1,16000}")
SHORTEST_LIFE = 60.0  # seconds a token serves where the answer does not say; the protocol's own default


class Descriptor(Struct):
    digest: str | None = None


class WireManifest(Struct, rename="camel"):
    media_type: str | None = None
    manifests: list[Descriptor] | None = None
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    subject: Descriptor | None = None


class TokenAnswer(Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where a 401 sends for a token."""

    realm: str
    service: str


def get_manifest(root: str, name: str, digest: str, about: str) -> Request:
    return Request(
        method="GET",
        url=f"{root}/v2/{quote(name, safe='/')}/manifests/{quote(digest, safe=':')}",
        about=about,
        headers={"Accept": ACCEPT},
        repeatable=True,
    )


def get_token(challenge: Challenge, name: str) -> Request:
    query = {"account": "iam", "scope": f"repository:{name}:pull"}
    if challenge.service:
        query["service"] = challenge.service
    return Request(method="GET", url=challenge.realm, about=f"Docker token for {name}", query=query, repeatable=True)


def manifest(answer: Answer, digest: str) -> Manifest:
    """What a manifest says of others. Raises RegistryError: also when the body is not the one that the digest names."""
    if not succeeded(answer):
        raise refusal(answer)
    if f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != digest:
        raise BrokenBodyError(f"a manifest that is not the one asked for: its digest is not {digest}")
    wire = decode(answer.body, WireManifest)
    media_type = wire.media_type or answer.headers.get("content-type", "").partition(";")[0].strip()
    if media_type in INDEX_TYPES or (not wire.media_type and wire.manifests is not None):
        if wire.config or wire.layers:
            raise BadAnswerError("a manifest that is an index and an image at once")
        children = tuple(dict.fromkeys(_digest(child) for child in wire.manifests or ()))
    elif wire.manifests:
        raise BadAnswerError(f"a manifest of type {one_line(media_type, 80)!r} that lists manifests")
    else:
        children = None
    return Manifest(digest, media_type, children, _digest(wire.subject) if wire.subject else None)


def _digest(descriptor: Descriptor) -> str:
    if not BLOB_DIGEST.fullmatch(descriptor.digest or ""):
        raise BadAnswerError(f"a manifest that names the digest {one_line(str(descriptor.digest), 80)!r}")
    return descriptor.digest or ""


def refusal(answer: Answer) -> RegistryError:
    """What an answer that is no 2xx means: by the HTTP status, with the words of the body's first error."""
    try:
        first: Any = msgspec.json.decode(answer.body)["errors"][0]
        return status_error(answer, f"{first['code']}: {first['message']}")
    except (ValueError, TypeError, LookupError, RecursionError):
        return status_error(answer)


def challenge_of(answer: Answer, root: str) -> Challenge | None:
    """The Bearer challenge of a 401; None: there is none. Raises SignInError for a realm on another host.

    Credentials follow only to where the configuration already sends them.
    """
    kind, _, rest = answer.headers.get("www-authenticate", "").partition(" ")
    if kind.lower() != "bearer":
        return None
    parameters: Mapping[str, str] = dict(PARAMETER.findall(rest))
    realm, home = urlsplit(urljoin(root + "/", parameters.get("realm", ""))), urlsplit(root)
    if (realm.scheme, realm.netloc) != (home.scheme, home.netloc):
        where = one_line(f"{realm.scheme}://{realm.netloc}", 120)
        raise SignInError(f"the registry sends to {where} for a token; credentials are given to {home.netloc} only")
    return Challenge(realm._replace(query="", fragment="").geturl(), parameters.get("service", ""))


@dataclass(slots=True)
class _Pass:
    """A repository's Docker token."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    authorization: str | None = field(default=None, repr=False)
    good_until: float = 0.0  # time.monotonic()


class DockerSignIn:
    """The Docker tokens of a registry's repositories, got with `basic` where the registry's challenge says."""

    def __init__(self, http: Http, root: str, basic: Signer) -> None:
        self.http, self.root, self.basic = http, root, basic
        self.challenge: Challenge | None = None  # known after the first 401, the same for every repository
        self._passes: dict[str, _Pass] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> "RepositorySigner":
        """The signer for a repository by its full name."""
        with self._lock:
            return RepositorySigner(self, name, self._passes.setdefault(name, _Pass()))


@dataclass(frozen=True, slots=True)
class RepositorySigner:
    """Signs the requests for one repository's manifests."""

    sign_in: DockerSignIn
    name: str
    held: _Pass

    def sign(self) -> str | None:
        with self.held.lock:
            if time.monotonic() >= self.held.good_until:
                self.held.authorization = None
                if self.sign_in.challenge:
                    self._renew(self.sign_in.challenge)
            return self.held.authorization

    def refused(self, authorization: str | None, answer: Answer) -> None:
        with self.held.lock:
            if self.held.authorization is not None and self.held.authorization != authorization:
                return  # another thread was quicker
            challenge = challenge_of(answer, self.sign_in.root)
            if challenge is None:
                raise SignInError("the Docker API answered 401 and did not say where to get a token", status=401)
            self.sign_in.challenge = challenge
            self._renew(challenge)

    def _renew(self, challenge: Challenge) -> None:
        self.held.authorization, life = self.sign_in.http.call(
            get_token(challenge, self.name), docker_token, self.sign_in.basic
        )
        self.held.good_until = time.monotonic() + 0.8 * life


def docker_token(answer: Answer) -> tuple[str, float]:
    """The header value a token answer is good for, and for how many seconds. Raises RegistryError."""
    if not succeeded(answer):
        raise refusal(answer)
    found = decode(answer.body, TokenAnswer)
    token = found.token or found.access_token or ""
    if not TOKEN.fullmatch(token):
        raise BadAnswerError("an answer without a usable Docker token")
    return f"Bearer {token}", max(1.0, min(found.expires_in or SHORTEST_LIFE, 12 * 3600.0))
