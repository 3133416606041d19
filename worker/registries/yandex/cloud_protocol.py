"""Yandex Cloud Registry's REST protocol as plain functions that build requests and parse responses. No I/O.

Source: the vendor's API definitions (cloudregistry.v1). Every field may be absent; absent, null and default mean the
same. A row is an artifact: a tag or a digest of an image, a folder, or something else. `cloud_images` groups them.
"""

import re
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from msgspec import Meta, Struct

from policies.image import Blob
from worker.registries.errors import BadResponseError, NotFoundError, UnsuitableError
from worker.registries.http.messages import Request, Response
from worker.registries.http.responses import IMAGE_DIGEST, bad
from worker.registries.yandex import api
from worker.registries.yandex.api import (
    IDENTIFIER,
    PAGE_SIZE,
    ListingPage,
    WireBlob,
    delete,
    get,
    instant,
    listing,
    page_token,
    parse_blob,
    parse_body,
)
from worker.text import one_line

API = "/cloud-registry/v1"
# The other statuses mean that the artifact is being created or deleted, or is deleted.
ACTIVE_STATUSES = ("ACTIVE", "STATUS_UNSPECIFIED", None)
# A registry's own policy may delete softly and report it only in `properties`, by a name that means nothing else.
SOFTLY_DELETED = re.compile(r"soft[-_. ]?delet(ed|ion)([-_. ]?(at|on|time))?", re.IGNORECASE)
FALSE_VALUES = ("", "false", "no", "0")

Moment = Annotated[datetime, Meta(tz=True)] | None


# Wire formats.


class WireImageManifest(Struct):
    config: WireBlob | None = None
    layers: list[WireBlob] | None = None


class WireChild(Struct, rename="camel"):
    manifest_descriptor: WireBlob | None = None


class WireManifestList(Struct):
    manifests: list[WireChild] | None = None


class WireDocker(Struct, rename="camel"):
    manifest_digest: str | None = None
    image_manifest: WireImageManifest | None = None
    manifest_list: WireManifestList | None = None


class WireContent(Struct):
    docker: WireDocker | None = None


class WireArtifact(Struct, rename="camel"):
    id: str | None = None
    path: str | None = None
    name: str | None = None
    kind: str | None = None
    status: str | None = None
    created_at: Moment = None
    modified_at: Moment = None
    properties: dict[str, Any] | None = None
    content: WireContent | None = None
    registry_id: str | None = None


class WireArtifacts(Struct, rename="camel"):
    artifacts: list[WireArtifact] | None = None
    next_page_token: str | None = None


class Artifact(Struct, frozen=True, gc=False, kw_only=True, array_like=True):
    """A Docker artifact that exists. `cloud_images` finds its folder."""

    id: str
    path: str  # as reported
    name: str
    digest: str  # of its manifest
    created_at: datetime | None = None
    modified_at: datetime | None = None
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()
    children: tuple[str, ...] | None = None  # digests; None: it is no index, or its manifest is not reported
    properties: dict[str, str] = {}
    broken: str = ""  # what is wrong with it; its folder is unreadable then

    @property
    def has_manifest(self) -> bool:
        """Whether the registry reported the content of the manifest."""
        return self.config is not None or self.children is not None


# Requests.


def list_artifacts(
    root: str, registry_id: str, path: str | None = None, token: str = "", page_size: int = PAGE_SIZE
) -> Request:
    """A page of the content of one folder; `path` None: of all artifacts of the registry."""
    if path is None:
        query = {"registryId": registry_id, "kind": "ARTIFACT", "status": "ACTIVE"}
        return listing(f"{root}{API}/artifacts", "artifacts", query, token, page_size)
    url = f"{root}{API}/registries/{quote(registry_id, safe='')}:listArtifacts"
    return listing(url, path, {"path": path}, token, page_size)


def get_artifact(root: str, artifact_id: str, about: str) -> Request:
    return get(f"{root}{API}/artifacts/{quote(artifact_id, safe='')}", about)


def delete_artifact(root: str, artifact_id: str, about: str, key: str, not_after: float | None = None) -> Request:
    """Never with `withHistory`: an immutable registry would then allow a second push of the name."""
    return delete(f"{root}{API}/artifacts/{quote(artifact_id, safe='')}", about, key, not_after)


# Responses.


def registry(response: Response, registry_id: str) -> api.WireRegistry:
    """The registry, if it stores Docker images. Raises UnsuitableError and any other RegistryError."""
    registry = api.registry(response, registry_id)
    if registry.kind != "DOCKER":
        kind = one_line(registry.kind or "no kind", 40)
        raise UnsuitableError(
            f"registry {registry_id} has the kind {kind}: only registries of the kind DOCKER store images"
        )
    if registry.type not in ("LOCAL", "TRANSITIONAL"):
        type_ = one_line(registry.type or "no type", 40)
        raise UnsuitableError(
            f"registry {registry_id} has the type {type_}: its images are stored in another registry;"
            " configure the registry of the type LOCAL instead"
        )
    return registry


def page(response: Response, registry_id: str) -> ListingPage:
    """A page of WireArtifacts of any kind. Raises RegistryError."""
    parsed = parse_body(response, WireArtifacts)
    rows = parsed.artifacts or []
    for row in rows:
        if not IDENTIFIER.fullmatch(row.id or ""):
            bad(f"an artifact with the id {row.id!r}")
        if row.registry_id not in (None, "", registry_id):
            bad(f"expected artifacts of registry {registry_id}, got {row.id} of {row.registry_id!r}")
    return ListingPage(rows, page_token(parsed.next_page_token))


def parse_artifact(response: Response, artifact_id: str) -> Artifact | None:
    """The artifact with this id; None: it is no Docker artifact, or is being created.

    Raises NotFoundError if it is deleted or being deleted, and any other RegistryError.
    """
    row = parse_body(response, WireArtifact)
    if row.id != artifact_id:
        bad(f"expected the artifact {artifact_id}, got {row.id!r}")
    if row.status in ("DELETING", "DELETED"):
        raise NotFoundError(f"the artifact {artifact_id} is {row.status}")
    return to_artifact(row)


def is_active(row: WireArtifact) -> bool:
    """Whether a row is neither deleted, not even softly, nor being created or deleted. An absent status counts as
    active. Only `properties` can report a soft deletion.
    """
    soft = any(
        SOFTLY_DELETED.fullmatch(name) and str(value).lower() not in FALSE_VALUES
        for name, value in (row.properties or {}).items()
    )
    return row.status in ACTIVE_STATUSES and not soft


def to_artifact(row: WireArtifact) -> Artifact | None:
    """The Docker artifact of a row; None: it is something else, or not active."""
    docker = row.content.docker if row.content else None
    if docker is None or row.kind not in ("ARTIFACT", None) or not is_active(row):
        return None
    try:
        return _read(row, docker)
    except BadResponseError as error:
        return Artifact(id=row.id or "", path=row.path or "", name=row.name or "", digest="", broken=error.message)


def _read(row: WireArtifact, docker: WireDocker) -> Artifact:
    if not IMAGE_DIGEST.fullmatch(docker.manifest_digest or ""):
        bad(f"an artifact with the digest {docker.manifest_digest!r} ({row.id})")
    image, index = docker.image_manifest, docker.manifest_list
    config = parse_blob(image.config) if image and image.config and image.config.digest else None
    listed = (index.manifests if index else None) or ()
    children = [parse_blob(child.manifest_descriptor or WireBlob()).digest for child in listed]
    return Artifact(
        id=row.id or "",
        path=row.path or "",
        name=row.name or "",
        digest=docker.manifest_digest or "",
        created_at=instant(row.created_at),
        modified_at=instant(row.modified_at),
        config=config,
        layers=tuple(parse_blob(layer) for layer in image.layers or ()) if image and config else (),
        children=tuple(dict.fromkeys(children)) or None,  # an empty `manifest_list` reports nothing
        properties={name: str(value) for name, value in (row.properties or {}).items()},
    )
