"""Yandex Cloud Registry's REST protocol as plain functions: requests built, rows and registries read.

Source: the vendor's API definitions (cloudregistry.v1). Everything may be absent, and absent, null and default are the
same. A row is an artifact: a tag or a digest of an image, a folder, or something else; `cloud_images` makes images.
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
    accepted,
    blob_of,
    delete,
    get,
    instant,
    listing,
    page_token,
)
from worker.text import one_line

API = "/cloud-registry/v1"
# What is being made is no image yet; what is going or gone none any more.
THERE = ("ACTIVE", "STATUS_UNSPECIFIED", None)
# A registry's own policy may delete softly and say so in `properties` alone; only names that say nothing else.
SOFTLY_DELETED = re.compile(r"soft[-_. ]?delet(ed|ion)([-_. ]?(at|on|time))?", re.IGNORECASE)
NOT = ("", "false", "no", "0")

Moment = Annotated[datetime, Meta(tz=True)] | None


# What is on the wire.


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
    """A Docker artifact that is there. Which folder it lies in is for `cloud_images` to say."""

    id: str
    path: str  # as told
    name: str
    digest: str  # of its manifest
    created_at: datetime | None = None
    modified_at: datetime | None = None
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()
    children: tuple[str, ...] | None = None  # digests; None: it is no index, or nothing was told of its manifest
    properties: dict[str, str] = {}
    broken: str = ""  # what is wrong with it: nothing can be said of the folder that it is in

    @property
    def told(self) -> bool:
        """Whether its manifest's content was told."""
        return self.config is not None or self.children is not None


# Requests.


def list_artifacts(root: str, registry_id: str, token: str = "", page_size: int = PAGE_SIZE) -> Request:
    """A page of all artifacts of a registry."""
    query = {"registryId": registry_id, "kind": "ARTIFACT", "status": "ACTIVE"}
    return listing(f"{root}{API}/artifacts", "artifacts", query, token, page_size)


def list_level(root: str, registry_id: str, path: str, token: str = "", page_size: int = PAGE_SIZE) -> Request:
    """A page of what lies in one folder."""
    url = f"{root}{API}/registries/{quote(registry_id, safe='')}:listArtifacts"
    return listing(url, path, {"path": path}, token, page_size)


def get_registry(root: str, registry_id: str) -> Request:
    return api.get_registry(f"{root}{API}/registries", registry_id)


def get_artifact(root: str, artifact_id: str, about: str) -> Request:
    return get(f"{root}{API}/artifacts/{quote(artifact_id, safe='')}", about)


def delete_artifact(root: str, artifact_id: str, about: str, key: str, not_after: float | None = None) -> Request:
    """Never with `withHistory`: it would let a name of an immutable registry be given away again."""
    return delete(f"{root}{API}/artifacts/{quote(artifact_id, safe='')}", about, key, not_after)


# Answers.


def registry(response: Response, registry_id: str) -> api.WireRegistry:
    """The registry, if its images can be ours to delete. Raises UnsuitableError and any other RegistryError."""
    found = api.registry(response, registry_id)
    if found.kind != "DOCKER":
        what = one_line(found.kind or "no kind", 40)
        raise UnsuitableError(
            f"registry {registry_id} is of the kind {what}: only registries of the kind DOCKER have images"
        )
    if found.type not in ("LOCAL", "TRANSITIONAL"):
        what = one_line(found.type or "no type", 40)
        raise UnsuitableError(
            f"registry {registry_id} is of the type {what}: it shows what is kept elsewhere;"
            " name the LOCAL registry instead"
        )
    return found


def page(response: Response, registry_id: str) -> ListingPage:
    """A page of WireArtifacts, whatever their kind. Raises RegistryError."""
    found = accepted(response, WireArtifacts)
    rows = found.artifacts or []
    for row in rows:
        if not IDENTIFIER.fullmatch(row.id or ""):
            bad(f"an artifact with the id {row.id!r}")
        if row.registry_id not in (None, "", registry_id):
            bad(f"an artifact of the registry {row.registry_id!r} where one of {registry_id} was asked for ({row.id})")
    return ListingPage(rows, page_token(found.next_page_token))


def one_artifact(response: Response, artifact_id: str) -> Artifact | None:
    """One artifact; None: it is none of Docker's, or being made.

    Raises NotFoundError for one that is gone or going, and any other RegistryError.
    """
    row = accepted(response, WireArtifact)
    if row.id != artifact_id:
        bad(f"asked for the artifact {artifact_id}, told of {row.id!r}")
    if row.status in ("DELETING", "DELETED"):
        raise NotFoundError(f"the artifact {artifact_id} is {row.status}")
    return artifact_of(row)


def is_there(row: WireArtifact) -> bool:
    """Whether a row stands for something that was neither deleted, softly or not, nor is still being made."""
    soft = any(
        SOFTLY_DELETED.fullmatch(name) and str(value).lower() not in NOT
        for name, value in (row.properties or {}).items()
    )
    return row.status in THERE and not soft


def artifact_of(row: WireArtifact) -> Artifact | None:
    """The Docker artifact of a row; None: it is something else, or not there."""
    docker = row.content.docker if row.content else None
    if docker is None or row.kind not in ("ARTIFACT", None) or not is_there(row):
        return None
    try:
        return _read(row, docker)
    except BadResponseError as error:
        return Artifact(id=row.id or "", path=row.path or "", name=row.name or "", digest="", broken=error.message)


def _read(row: WireArtifact, docker: WireDocker) -> Artifact:
    if not IMAGE_DIGEST.fullmatch(docker.manifest_digest or ""):
        bad(f"an artifact with the digest {docker.manifest_digest!r} ({row.id})")
    image, index = docker.image_manifest, docker.manifest_list
    config = blob_of(image.config) if image and image.config and image.config.digest else None
    listed = (index.manifests if index else None) or ()
    children = [blob_of(child.manifest_descriptor or WireBlob()).digest for child in listed]
    return Artifact(
        id=row.id or "",
        path=row.path or "",
        name=row.name or "",
        digest=docker.manifest_digest or "",
        created_at=instant(row.created_at),
        modified_at=instant(row.modified_at),
        config=config,
        layers=tuple(blob_of(layer) for layer in image.layers or ()) if image and config else (),
        children=tuple(dict.fromkeys(children)) or None,  # an arm without anything in it says nothing
        properties={name: str(value) for name, value in (row.properties or {}).items()},
    )
