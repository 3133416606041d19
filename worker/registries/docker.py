"""Manifests of the Docker Registry API: which are asked for, and what one says. Nothing is sent here.

Sources: the OCI distribution and image specifications. What a digest names is hashed before it is believed.
"""

import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import msgspec
from msgspec import Struct

from policies.image import Blob
from worker.registries.answers import BLOB_DIGEST, decode, one_line, status_error, succeeded
from worker.registries.http import Http
from worker.registries.interface import BadAnswerError, Manifest, RegistryError, SignInError
from worker.registries.messages import Answer, BrokenBodyError, Request, Signer

INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
IMAGE_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
ARTIFACT_TYPE = "application/vnd.oci.artifact.manifest.v1+json"  # of a draft of the specification; some are left
# All four: without them a registry may refuse an index, or answer with one of its children instead.
ACCEPT = ", ".join((*IMAGE_TYPES, *INDEX_TYPES))
CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
LAYER_TYPES = re.compile(r"application/vnd\.(oci\.image\.layer|docker\.image\.rootfs)\..+")
CREATED = "org.opencontainers.image.created"  # annotation
DIGESTS = {"sha256": 64, "sha512": 128}  # algorithm -> hexadecimal digits; others cannot be checked
SIZE_MAX = 2**63 - 1
PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')
TOKEN = re.compile(r"[\x21-\x7e]{1,16000}")
SHORTEST_LIFE = 60.0  # seconds a token serves where the answer does not say; the protocol's own default


class Descriptor(Struct, rename="camel"):
    digest: str | None = None
    media_type: str | None = None
    size: int | None = None


class WireManifest(Struct, rename="camel"):
    media_type: str | None = None
    artifact_type: str | None = None
    manifests: list[Descriptor] | None = None
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    blobs: list[Descriptor] | None = None  # of ARTIFACT_TYPE
    subject: Descriptor | None = None
    annotations: dict[str, Any] | None = None


class Inner(Struct, rename="pascal"):
    labels: dict[str, Any] | None = None


class WireConfig(Struct):
    created: Any = None
    config: Inner | None = None


def get_manifest(root: str, name: str, digest: str, about: str) -> Request:
    return Request(
        method="GET",
        url=f"{root}/v2/{quote(name, safe='/')}/manifests/{quote(digest, safe=':')}",
        about=about,
        headers={"Accept": ACCEPT},
        repeatable=True,
    )


def manifest(answer: Answer, digest: str) -> Manifest:
    """What a manifest says of others. Raises RegistryError: also when the body is not the one that the digest names."""
    if not succeeded(answer):
        raise refusal(answer)
    if not names(digest, answer.body):
        raise BrokenBodyError(f"a manifest that is not the one asked for: its digest is not {digest}")
    wire = decode(answer.body, WireManifest)
    media_type = wire.media_type or type_of(answer)
    subject = _digest(wire.subject) if wire.subject else None
    if media_type in INDEX_TYPES or (not wire.media_type and wire.manifests is not None):
        if wire.config or wire.layers:
            raise BadAnswerError("a manifest that is an index and an image at once")
        children = tuple(dict.fromkeys(_digest(child) for child in wire.manifests or ()))
        created = instant((wire.annotations or {}).get(CREATED))
        return Manifest(digest, media_type, children, subject, artifact_type=wire.artifact_type or "", created=created)
    if wire.manifests:
        raise BadAnswerError(f"a manifest of type {one_line(media_type, 80)!r} that lists manifests")
    layers = wire.layers or wire.blobs or ()
    return Manifest(
        digest,
        media_type,
        None,
        subject,
        config=_blob(wire.config) if wire.config else None,
        layers=tuple(_blob(layer) for layer in layers),
        artifact_type=_artifact_type(wire, layers),
    )


def config_facts(body: bytes) -> tuple[datetime | None, dict[str, str]]:
    """When an image was made and its labels, from its config. Raises BadAnswerError."""
    wire = decode(body, WireConfig)
    labels = (wire.config.labels if wire.config else None) or {}
    return instant(wire.created), {key: value for key, value in labels.items() if isinstance(value, str)}


def instant(text: object) -> datetime | None:
    """An instant (aware, UTC) as RFC 3339 has it; None: it is none."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def type_of(answer: Answer) -> str:
    """A body's media type without its parameters."""
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def names(digest: str, body: bytes) -> bool:
    """Whether a digest is this body's."""
    algorithm, _, encoded = digest.partition(":")
    return algorithm in DIGESTS and hashlib.new(algorithm, body).hexdigest() == encoded


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def is_digest(text: str) -> bool:
    """Whether it is a digest that can be checked."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == DIGESTS.get(algorithm) and re.fullmatch("[0-9a-f]+", encoded) is not None


def refusal(answer: Answer) -> RegistryError:
    """What an answer that is no 2xx means: by the HTTP status, with the words of the body's first error."""
    told = errors_of(answer)
    return status_error(answer, f"{told[0][0]}: {told[0][1]}" if told else "")


def errors_of(answer: Answer) -> Sequence[tuple[str, str]]:
    """(code, message) of every error a body tells; none where it has another form, which is allowed."""
    try:
        return [(str(one["code"]), str(one.get("message") or "")) for one in msgspec.json.decode(answer.body)["errors"]]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return []


def _artifact_type(wire: WireManifest, layers: Sequence[Descriptor]) -> str:
    """What it is, where it is no image: as it says, by its config, or (attestations of builds) by its layers."""
    if wire.artifact_type:
        return wire.artifact_type
    config = wire.config.media_type or "" if wire.config else ""
    if config and config not in CONFIG_TYPES:
        return config
    types = {layer.media_type or "" for layer in layers}
    (only,) = types if len(types) == 1 else ("",)
    return "" if LAYER_TYPES.fullmatch(only) else only


def _digest(descriptor: Descriptor) -> str:
    if not BLOB_DIGEST.fullmatch(descriptor.digest or ""):
        raise BadAnswerError(f"a manifest that names the digest {one_line(str(descriptor.digest), 80)!r}")
    return descriptor.digest or ""


def _blob(descriptor: Descriptor) -> Blob:
    digest = _digest(descriptor)
    if descriptor.size is None or not 0 <= descriptor.size <= SIZE_MAX:
        raise BadAnswerError(f"a manifest that tells the size {descriptor.size} of {digest}")
    return Blob(digest=digest, size=descriptor.size)


class TokenAnswer(Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where a 401 sends for a token."""

    realm: str
    service: str


def get_token(challenge: Challenge, name: str) -> Request:
    query = {"account": "iam", "scope": f"repository:{name}:pull"}
    if challenge.service:
        query["service"] = challenge.service
    return Request(method="GET", url=challenge.realm, about=f"Docker token for {name}", query=query, repeatable=True)


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
