"""Manifests of the Docker Registry API: which are asked for, and what one says. Nothing is sent here.

Sources: the OCI distribution and image specifications. What a digest names is hashed before it is believed.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard
from urllib.parse import quote

import msgspec
from msgspec import Struct

from policies.image import Blob
from worker.registries.errors import BadResponseError, RegistryError
from worker.registries.http.messages import BrokenBodyError, Request, Response
from worker.registries.http.responses import BLOB_DIGEST, decode, status_error, succeeded
from worker.registries.interface import Manifest
from worker.text import one_line

INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
IMAGE_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
ARTIFACT_TYPES = (  # the first of a draft of the OCI specification, the second of ORAS before that
    "application/vnd.oci.artifact.manifest.v1+json",
    "application/vnd.cncf.oras.artifact.manifest.v1+json",
)
SCHEMA1_TYPES = (  # Docker's before 2016; the second is signed within its own body
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
MANIFEST_TYPES = (*IMAGE_TYPES, *INDEX_TYPES, *ARTIFACT_TYPES, *SCHEMA1_TYPES)
# Without an index's type a registry may refuse an index, or answer with one of its children instead; with that of
# schema 1 it may make such a manifest of another.
ACCEPT = ", ".join((*IMAGE_TYPES, *INDEX_TYPES, *ARTIFACT_TYPES))
GENERIC_TYPES = ("", "application/json", "application/octet-stream", "text/plain")  # of a body that nobody looked into
CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
LAYER_TYPES = re.compile(r"application/vnd\.(oci\.image\.layer|docker\.image\.rootfs)\..+")
BLOB_TYPES = re.compile(rf"{LAYER_TYPES.pattern}|application/vnd\.buildkit\.cacheconfig\..+", re.IGNORECASE)
CREATED = "org.opencontainers.image.created"  # annotation
DIGESTS = {"sha256": 64, "sha512": 128}  # algorithm -> hexadecimal digits; others cannot be checked
MOST_BYTES = 2**50  # of one blob or one image: beyond 1 PiB a size is not believed, but unknown


class Descriptor(Struct, rename="camel"):
    digest: str | None = None
    media_type: str | None = None
    size: Any = None  # whatever the pusher wrote: no registry checks it
    urls: list[str] | None = None  # where else a layer is that may not be in the registry


class WireLayer(Struct, rename="camel"):
    blob_sum: str | None = None


class WireManifest(Struct, rename="camel"):
    schema_version: Any = None
    media_type: str | None = None
    artifact_type: str | None = None
    manifests: list[Descriptor] | None = None
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    blobs: list[Descriptor] | None = None  # of ARTIFACT_TYPES
    fs_layers: list[WireLayer] | None = None  # of SCHEMA1_TYPES
    subject: Descriptor | None = None
    annotations: dict[str, Any] | None = None


class Inner(Struct, rename="pascal"):
    labels: dict[str, Any] | None = None


class WireConfig(Struct):
    created: Any = None
    config: Inner | None = None


def about(name: str, reference: str) -> str:
    """For people: shop/api@sha256:9f86…, or shop/api:tag."""
    return f"{name}@{reference[:19]}…" if ":" in reference else f"{name}:{reference}"


def manifest_request(method: Any, api: str, name: str, reference: str, **more: Any) -> Request:
    """About a manifest. `api`: where the registry's API begins, "https://registry.example.com/v2"."""
    url = f"{api}/{quote(name)}/manifests/{quote(reference, safe=':')}"
    facts: dict[str, Any] = {"about": about(name, reference), "repeatable": True}
    return Request(method=method, url=url, **facts | more)


def read_manifest(method: Any, api: str, name: str, reference: str, accept: str = ACCEPT, **more: Any) -> Request:
    """For a manifest's content, or by HEAD for its digest and type."""
    return manifest_request(method, api, name, reference, headers={"Accept": accept}, **more)


def manifest(response: Response, digest: str) -> Manifest:
    """What a manifest says of others. Raises RegistryError: also when the body is not the one that the digest names."""
    if not succeeded(response):
        raise refusal(response)
    return parsed(response.body, type_of(response), digest)


def parsed(body: bytes, told_type: str, digest: str) -> Manifest:
    """The same of a body. `told_type`: the header's. Raises BadResponseError."""
    content = content_of(digest, body)
    if content is None:
        raise BrokenBodyError(f"a manifest that is not the one asked for: its digest is not {digest}")
    wire = decode(content, WireManifest)
    media_type = _media_type(wire, told_type)
    if media_type in SCHEMA1_TYPES:
        return _schema1(wire, media_type, digest)
    if media_type in INDEX_TYPES:
        return _index(wire, media_type, digest)
    if wire.manifests:
        raise BadResponseError(f"a manifest of type {one_line(media_type, 80)!r} that lists manifests")
    layers = wire.layers or wire.blobs or ()
    described = (*((wire.config,) if wire.config else ()), *layers)
    return Manifest(
        digest,
        media_type,
        None,
        _digest(wire.subject) if wire.subject else None,
        config=_blob(wire.config) if wire.config else None,
        layers=tuple(_blob(layer) for layer in layers),
        artifact_type=_artifact_type(wire, layers),
        foreign_layers=tuple(dict.fromkeys(_digest(layer) for layer in wire.layers or () if layer.urls)),
        created=_annotated(wire),
        unsized=not all(_is_size(one.size) for one in described),
    )


def _media_type(wire: WireManifest, told_type: str) -> str:
    """What a manifest is: as it says itself, else as its content shows (image-spec 1.1: mediaType SHOULD be set)."""
    if wire.media_type:
        return wire.media_type
    if wire.schema_version == 1 and wire.fs_layers is not None:
        return told_type if told_type in SCHEMA1_TYPES else SCHEMA1_TYPES[0]
    if told_type not in (*GENERIC_TYPES, *IMAGE_TYPES, *INDEX_TYPES):
        return told_type
    if wire.manifests is not None:
        return told_type if told_type in INDEX_TYPES else INDEX_TYPES[0]
    if wire.config is not None or wire.layers is not None:
        return told_type if told_type in IMAGE_TYPES else IMAGE_TYPES[0]
    return told_type


def _index(wire: WireManifest, media_type: str, digest: str) -> Manifest:
    """An index. Build caches list their layers in one: what is a blob by its type is none of its children.

    What is of an unknown type stands in `children` and in `layers`: a registry has to be asked which it is.
    """
    if wire.config or wire.layers:
        raise BadResponseError("a manifest that is an index and an image at once")
    entries = wire.manifests or []
    blobs = [one for one in entries if one.media_type and BLOB_TYPES.fullmatch(one.media_type)]
    strange = [one for one in entries if is_unknown_type(one.media_type) and one not in blobs]
    return Manifest(
        digest,
        media_type,
        tuple(dict.fromkeys(_digest(one) for one in entries if one not in blobs)),
        _digest(wire.subject) if wire.subject else None,
        layers=tuple(_blob(one) for one in (*blobs, *strange)),
        artifact_type=wire.artifact_type or "",
        created=_annotated(wire),
        unknown_types=tuple(dict.fromkeys(map(_digest, strange))),
        unsized=not all(_is_size(one.size) for one in (*blobs, *strange)),
    )


def _schema1(wire: WireManifest, media_type: str, digest: str) -> Manifest:
    """An image without children. It tells no sizes."""
    named = dict.fromkeys(_digest(Descriptor(digest=layer.blob_sum)) for layer in wire.fs_layers or ())
    return Manifest(digest, media_type, None, layers=tuple(Blob(digest=one) for one in named), unsized=True)


def config_facts(body: bytes) -> tuple[datetime | None, dict[str, str]]:
    """When an image was made and its labels, from its config. Raises BadResponseError."""
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


def type_of(response: Response) -> str:
    """A body's media type without its parameters."""
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_unknown_type(media_type: str | None) -> bool:
    """Whether it is a type of which nobody can say what such a manifest names."""
    return bool(media_type) and media_type not in MANIFEST_TYPES


def names(digest: str, body: bytes) -> bool:
    """Whether a digest is this body's."""
    algorithm, _, encoded = digest.partition(":")
    return algorithm in DIGESTS and hashlib.new(algorithm, body).hexdigest() == encoded


def content_of(digest: str, body: bytes) -> bytes | None:
    """The part of a manifest that its digest names; None: it names none.

    The digest of a signed schema 1 is of its content without the signatures, and nothing else of it may be read.
    """
    return body if names(digest, body) else next((part for part in _payloads(body) if names(digest, part)), None)


def _payloads(body: bytes) -> Iterator[bytes]:
    """What may have been signed in a body: as the first signature says, or else all but the signatures.

    Source: libtrust's JSON signatures: a body up to `formatLength`, and `formatTail`.
    """
    try:
        protected = msgspec.json.decode(body)["signatures"][0]["protected"]
        said = msgspec.json.decode(_base64url(protected))
        yield body[: int(said["formatLength"])] + _base64url(said["formatTail"])
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    before, signatures, _ = body.rpartition(b'"signatures"')
    if signatures:
        yield before.rstrip().removesuffix(b",") + b"\n}"


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def is_digest(text: str) -> bool:
    """Whether it is a digest that can be checked."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == DIGESTS.get(algorithm) and re.fullmatch("[0-9a-f]+", encoded) is not None


def refusal(response: Response) -> RegistryError:
    """What an answer that is no 2xx means: by the HTTP status, with the words of the body's first error."""
    if not (told := errors_of(response)):
        return status_error(response)
    code, message, error = told[0]
    detail = error.get("detail")
    more = f" ({detail.strip()})" if isinstance(detail, str) and detail.strip() else ""  # they often say more
    return status_error(response, f"{code}: {message}{more}")


def words_of(response: Response) -> str:
    """The codes, messages and details of every error; empty where the body has another form."""
    keys = ("code", "message", "detail")
    return " ".join(text for *_, error in errors_of(response) for key in keys for text in _texts(error.get(key)))


def _texts(told: object) -> Iterator[str]:
    """Every text in a value of JSON, the keys aside."""
    if isinstance(told, str):
        yield told
    for one in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
        yield from _texts(one)


def errors_of(response: Response) -> Sequence[tuple[str, str, dict[str, Any]]]:
    """(code, message, whole) of every error a body tells; none where it has another form, which is allowed."""
    try:
        errors = msgspec.json.decode(response.body)["errors"]
        return [(str(one["code"]), str(one.get("message") or ""), one) for one in errors]
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
        raise BadResponseError(f"a manifest that names the digest {one_line(str(descriptor.digest), 80)!r}")
    return descriptor.digest or ""


def _blob(descriptor: Descriptor) -> Blob:
    size = descriptor.size
    return Blob(digest=_digest(descriptor), size=size if _is_size(size) else 0)


def _is_size(told: object) -> TypeGuard[int]:
    return isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= MOST_BYTES
