"""Manifests as JSON, byte for byte the same for the same arguments, and records of pushed images."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = ", ".join((INDEX, IMAGE, DOCKER_INDEX, DOCKER_IMAGE))
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
COSIGN_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob or a manifest as another manifest names it; `size` in bytes."""

    digest: str
    size: int
    media_type: str

    def document(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A manifest that was pushed, or read. `tags`: those it was pushed with; they may have moved since."""

    repository: str
    digest: str
    body: bytes
    media_type: str
    tags: tuple[str, ...] = ()
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()  # of an index
    subject: str | None = None  # a digest
    artifact_type: str | None = None

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers."""
        return (*((self.config,) if self.config else ()), *self.layers)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.digest, len(self.body), self.media_type)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encoded(document: Mapping[str, Any]) -> bytes:
    """JSON without the fields that are None."""
    said = {key: value for key, value in document.items() if value is not None}
    return json.dumps(said, separators=(",", ":")).encode()


def parsed(repository: str, body: bytes, media_type: str, tags: Iterable[str] = ()) -> Pushed:
    """The record of a manifest's bytes."""
    document = json.loads(body)
    return Pushed(
        repository=repository,
        digest=digest_of(body),
        body=body,
        media_type=media_type,
        tags=tuple(tags),
        config=_descriptor(document["config"]) if "config" in document else None,
        layers=tuple(_descriptor(entry) for entry in document.get("layers", ())),
        children=tuple(_descriptor(entry) for entry in document.get("manifests", ())),
        subject=document["subject"]["digest"] if "subject" in document else None,
        artifact_type=document.get("artifactType"),
    )


def _descriptor(document: Mapping[str, Any]) -> Descriptor:
    return Descriptor(document["digest"], document["size"], document["mediaType"])


def config_body(
    layers: Sequence[bytes], *, created: str | None, labels: Mapping[str, str] | None, platform: tuple[str, str]
) -> bytes:
    """An image's config. `created`: RFC 3339, or whatever a test wants there."""
    system, architecture = platform
    diffs = [digest_of(layer) for layer in layers]  # of the compressed bytes: no test unpacks them
    return encoded(
        {
            "created": created,
            "architecture": architecture,
            "os": system,
            "config": {"Labels": dict(labels)} if labels else {},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
    )


def image_body(
    config: Descriptor,
    layers: Sequence[Descriptor],
    *,
    docker: bool = False,
    subject: Descriptor | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    return encoded(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_IMAGE if docker else IMAGE,
            "artifactType": artifact_type,
            "config": config.document(),
            "layers": [layer.document() for layer in layers],
            "subject": subject.document() if subject else None,
            "annotations": dict(annotations) if annotations else None,
        }
    )


def index_body(
    children: Sequence[Mapping[str, Any]],
    *,
    docker: bool = False,
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """`children`: descriptors as documents, with whatever else they shall say (platform, artifactType, annotations)."""
    return encoded(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_INDEX if docker else INDEX,
            "manifests": [dict(child) for child in children],
            "subject": subject.document() if subject else None,
            "annotations": dict(annotations) if annotations else None,
        }
    )
