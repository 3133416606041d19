"""Manifests of the Docker Registry API: requests for them, and their content. Sends no request.

Sources: the OCI distribution and image specifications. Every body is checked against its digest.
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
ARTIFACT_TYPES = (  # of a draft of the OCI specification, and of ORAS before it
    "application/vnd.oci.artifact.manifest.v1+json",
    "application/vnd.cncf.oras.artifact.manifest.v1+json",
)
SCHEMA1_TYPES = (  # of Docker before 2016; the second contains its signature
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
MANIFEST_TYPES = (*IMAGE_TYPES, *INDEX_TYPES, *ARTIFACT_TYPES, *SCHEMA1_TYPES)
# Without the type of an index a registry may refuse an index or return one of its children; with the type of schema 1
# it may convert other manifests into schema 1.
ACCEPT = ", ".join((*IMAGE_TYPES, *INDEX_TYPES, *ARTIFACT_TYPES))
GENERIC_TYPES = (
    "",
    "application/json",
    "application/octet-stream",
    "text/plain",
)  # not specific
CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
LAYER_TYPES = re.compile(r"application/vnd\.(oci\.image\.layer|docker\.image\.rootfs)\..+")
BLOB_TYPES = re.compile(rf"{LAYER_TYPES.pattern}|application/vnd\.buildkit\.cacheconfig\..+", re.IGNORECASE)
CREATED = "org.opencontainers.image.created"  # annotation
DIGESTS = {"sha256": 64, "sha512": 128}  # algorithm -> hexadecimal digits; no other algorithm is supported
MAX_BYTES = 2**50  # of one blob or image; a size above 1 PiB counts as unknown


class Descriptor(Struct, rename="camel"):
    digest: str | None = None
    media_type: str | None = None
    size: Any = None  # any JSON value: registries do not check it
    urls: list[str] | None = None  # other sources of a layer that may be missing in the registry


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
    """A reference for messages: shop/api@sha256:9f86…, or shop/api:tag."""
    return f"{name}@{reference[:19]}…" if ":" in reference else f"{name}:{reference}"


def manifest_request(method: Any, api: str, name: str, reference: str, **more: Any) -> Request:
    """A request for a manifest. `api`: the base URL of the API, "https://registry.example.com/v2". `name`: the full
    name of the repository. `reference`: a tag or a digest. `more`: further fields of Request; unless they say
    otherwise, the request is repeatable.
    """
    url = f"{api}/{quote(name)}/manifests/{quote(reference, safe=':')}"
    facts: dict[str, Any] = {"about": about(name, reference), "repeatable": True}
    return Request(method=method, url=url, **facts | more)


def read_manifest(method: Any, api: str, name: str, reference: str, accept: str = ACCEPT, **more: Any) -> Request:
    """GET for the content of a manifest, HEAD for its digest and media type."""
    return manifest_request(method, api, name, reference, headers={"Accept": accept}, **more)


def manifest(response: Response, digest: str) -> Manifest:
    """The manifest in a response. Raises RegistryError, also if the body does not have this digest. Raises
    NotFoundError (404), BrokenBodyError (the body has another digest, or is not JSON) and BadResponseError (it breaks
    the protocol). Any other status: the error of `refusal`.
    """
    if not succeeded(response):
        raise refusal(response)
    return parsed(response.body, type_of(response), digest)


def parsed(body: bytes, content_type: str, digest: str) -> Manifest:
    """The manifest in a body. `content_type`: of the header. Raises BadResponseError."""
    content = content_of(digest, body)
    if content is None:
        raise BrokenBodyError(f"the response is another manifest: its digest is not {digest}")
    wire = decode(content, WireManifest)
    media_type = _media_type(wire, content_type)
    if media_type in SCHEMA1_TYPES:
        return _schema1(wire, media_type, digest)
    if media_type in INDEX_TYPES:
        return _index(wire, media_type, digest)
    if wire.manifests:
        raise BadResponseError(f"the manifest lists manifests, but its type is {one_line(media_type, 80)!r}")
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
        created=instant((wire.annotations or {}).get(CREATED)),
        unsized=not all(_is_size(blob.size) for blob in described),
    )


def _media_type(wire: WireManifest, content_type: str) -> str:
    """The media type of a manifest: its own field, or else by its content (image-spec 1.1: mediaType SHOULD be set)."""
    if wire.media_type:
        return wire.media_type
    if wire.schema_version == 1 and wire.fs_layers is not None:
        return content_type if content_type in SCHEMA1_TYPES else SCHEMA1_TYPES[0]
    if content_type not in (*GENERIC_TYPES, *IMAGE_TYPES, *INDEX_TYPES):
        return content_type
    if wire.manifests is not None:
        return content_type if content_type in INDEX_TYPES else INDEX_TYPES[0]
    if wire.config is not None or wire.layers is not None:
        return content_type if content_type in IMAGE_TYPES else IMAGE_TYPES[0]
    return content_type


def _index(wire: WireManifest, media_type: str, digest: str) -> Manifest:
    """An index. Build caches list their layers in an index: an entry with the media type of a blob is not a child.

    An entry of an unknown type is in `children` and in `layers`: only the registry knows whether it is a blob.
    """
    if wire.config or wire.layers:
        raise BadResponseError("the manifest is an index and has a config or layers as well")
    entries = wire.manifests or []
    blobs = [entry for entry in entries if entry.media_type and BLOB_TYPES.fullmatch(entry.media_type)]
    unknown = [entry for entry in entries if is_unknown_type(entry.media_type) and entry not in blobs]
    return Manifest(
        digest,
        media_type,
        tuple(dict.fromkeys(_digest(entry) for entry in entries if entry not in blobs)),
        _digest(wire.subject) if wire.subject else None,
        layers=tuple(_blob(entry) for entry in (*blobs, *unknown)),
        artifact_type=wire.artifact_type or "",
        created=instant((wire.annotations or {}).get(CREATED)),
        unknown_types=tuple(dict.fromkeys(map(_digest, unknown))),
        unsized=not all(_is_size(entry.size) for entry in (*blobs, *unknown)),
    )


def _schema1(wire: WireManifest, media_type: str, digest: str) -> Manifest:
    """An image without children. Schema 1 has no sizes."""
    digests = dict.fromkeys(_digest(Descriptor(digest=layer.blob_sum)) for layer in wire.fs_layers or ())
    return Manifest(digest, media_type, None, layers=tuple(Blob(digest=layer) for layer in digests), unsized=True)


def config_facts(body: bytes) -> tuple[datetime | None, dict[str, str]]:
    """Build time and labels of an image, from its config. Raises BadResponseError. The time is aware, UTC; None: absent
    or invalid. A label whose value is not a string is left out. Source: OCI image specification, "Image Configuration".
    """
    wire = decode(body, WireConfig)
    labels = (wire.config.labels if wire.config else None) or {}
    return instant(wire.created), {key: value for key, value in labels.items() if isinstance(value, str)}


def instant(text: object) -> datetime | None:
    """An instant of RFC 3339 (aware, UTC); None: invalid."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def type_of(response: Response) -> str:
    """The media type of a response, without parameters."""
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_unknown_type(media_type: str | None) -> bool:
    """Whether manifests of this type cannot be parsed; no type at all is not unknown."""
    return bool(media_type) and media_type not in MANIFEST_TYPES


def names(digest: str, body: bytes) -> bool:
    """Whether the body has this digest. False as well if the algorithm is not in DIGESTS."""
    algorithm, _, encoded = digest.partition(":")
    return algorithm in DIGESTS and hashlib.new(algorithm, body).hexdigest() == encoded


def content_of(digest: str, body: bytes) -> bytes | None:
    """The part of a body that has this digest; None: no part.

    The digest of a signed schema 1 manifest covers the manifest without its signatures, so only that part is read.
    """
    return body if names(digest, body) else next((part for part in _payloads(body) if names(digest, part)), None)


def _payloads(body: bytes) -> Iterator[bytes]:
    """The parts of a body that may be signed: as the first signature defines it, or else all but the signatures.

    Source: libtrust's JSON signatures: the body up to `formatLength`, and `formatTail`.
    """
    try:
        protected = msgspec.json.decode(body)["signatures"][0]["protected"]
        header = msgspec.json.decode(_base64url(protected))
        yield body[: int(header["formatLength"])] + _base64url(header["formatTail"])
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    before, signatures, _ = body.rpartition(b'"signatures"')
    if signatures:
        yield before.rstrip().removesuffix(b",") + b"\n}"


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def is_digest(text: str) -> bool:
    """Whether the text is a digest of a supported algorithm. The hexadecimal digits are in lower case. Source: OCI
    image specification, "Descriptors", "Digests".
    """
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == DIGESTS.get(algorithm) and re.fullmatch("[0-9a-f]+", encoded) is not None


def refusal(response: Response) -> RegistryError:
    """The error of a response that is not 2xx: by its HTTP status, with the text of the first error in the body."""
    if not (errors := errors_of(response)):
        return status_error(response)
    code, message, error = errors[0]
    detail = error.get("detail")
    more = f" ({detail.strip()})" if isinstance(detail, str) and detail.strip() else ""  # often more specific
    return status_error(response, f"{code}: {message}{more}")


def error_text(response: Response) -> str:
    """The codes, messages and details of all errors; empty if the body has another format. To be searched, not to be
    shown: the text may have any length and several lines.
    """
    keys = ("code", "message", "detail")
    return " ".join(text for *_, error in errors_of(response) for key in keys for text in _texts(error.get(key)))


def _texts(value: object) -> Iterator[str]:
    """Every string in a JSON value, without keys."""
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(child)


def errors_of(response: Response) -> Sequence[tuple[str, str, dict[str, Any]]]:
    """(code, message, whole error) of each error in a body; none if the body has another format, which is allowed.
    Raises no error. Source: OCI distribution specification, "Error Codes".
    """
    try:
        errors = msgspec.json.decode(response.body)["errors"]
        return [(str(error["code"]), str(error.get("message") or ""), error) for error in errors]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return []


def _artifact_type(wire: WireManifest, layers: Sequence[Descriptor]) -> str:
    """The type of an artifact: its own field, or by its config, or (build attestations) by its layers."""
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
        raise BadResponseError(f"the manifest names an invalid digest: {one_line(str(descriptor.digest), 80)!r}")
    return descriptor.digest or ""


def _blob(descriptor: Descriptor) -> Blob:
    size = descriptor.size
    return Blob(digest=_digest(descriptor), size=size if _is_size(size) else 0)


def _is_size(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BYTES
