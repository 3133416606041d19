"""Manifests of the Docker Registry API: which are asked for, and what one says. Nothing is sent here.

Sources: the OCI distribution and image specifications. What a digest names is hashed before it is believed.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from policies.image import Blob
from worker.registries.answers import BLOB_DIGEST, decode, one_line, status_error, succeeded
from worker.registries.interface import BadAnswerError, Manifest, RegistryError
from worker.registries.messages import Answer, BrokenBodyError, Request

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


class Descriptor(Struct, rename="camel"):
    digest: str | None = None
    media_type: str | None = None
    size: int | None = None
    urls: list[str] | None = None  # where else a layer is that may not be in the registry


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
    return parsed(answer.body, type_of(answer), digest)


def parsed(body: bytes, told_type: str, digest: str) -> Manifest:
    """The same of a body that was checked against its digest. `told_type`: the header's. Raises BadAnswerError."""
    wire = decode(body, WireManifest)
    media_type = wire.media_type or told_type
    subject = _digest(wire.subject) if wire.subject else None
    if media_type in INDEX_TYPES or (not wire.media_type and wire.manifests is not None):
        if wire.config or wire.layers:
            raise BadAnswerError("a manifest that is an index and an image at once")
        children = tuple(dict.fromkeys(_digest(child) for child in wire.manifests or ()))
        return Manifest(
            digest,
            media_type,
            children,
            subject,
            artifact_type=wire.artifact_type or "",
            created=_annotated(wire),
            strange=tuple(dict.fromkeys(_digest(one) for one in wire.manifests or () if is_strange(one.media_type))),
        )
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
        elsewhere=tuple(dict.fromkeys(_digest(layer) for layer in wire.layers or () if layer.urls)),
        created=_annotated(wire),
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


def is_strange(media_type: str | None) -> bool:
    """Whether it is a type of which nobody can say what such a manifest names."""
    return bool(media_type) and media_type not in (*IMAGE_TYPES, *INDEX_TYPES, ARTIFACT_TYPE)


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


def _annotated(wire: WireManifest) -> datetime | None:
    return instant((wire.annotations or {}).get(CREATED))


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
