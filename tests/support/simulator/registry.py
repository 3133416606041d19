"""The model: registries, repositories, images, tags, blobs, and lost bytes; no HTTP, no operations.

Every manifest is real JSON and its digest is the SHA-256 of it; blobs have a declared size and no bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES = {OCI_INDEX, DOCKER_INDEX}
CONFIG_TYPES = {
    OCI_MANIFEST: "application/vnd.oci.image.config.v1+json",
    DOCKER_MANIFEST: "application/vnd.docker.container.image.v1+json",
}
LAYER_TYPES = {
    OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar+gzip",
    DOCKER_MANIFEST: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}

DEFAULT_REGISTRY = "crpvab5oob146rh73ilt"
DEFAULT_FOLDER = "b1gnalmvivis5b236tii"
ID_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def id_from(*parts: str, prefix: str = "crp") -> str:
    """A resource's id that looks like the vendor's: `crp` and 17 characters, always the same for the same parts."""
    number = int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:11], "big")
    tail = "".join(ID_ALPHABET[(number >> (5 * place)) & 31] for place in range(17))
    return prefix + tail


@dataclass(frozen=True, slots=True)
class Blob:
    digest: str
    size: int  # bytes, as declared

    @property
    def id(self) -> str:
        return id_from("blob", self.digest)


@dataclass(frozen=True, slots=True)
class Binding:
    """A tag on the image that has it now: since when there is such a tag, and since when it is here."""

    life: str  # the same while the tag lives, whatever image it moves to
    stay: str  # another with each move
    born_at: datetime
    moved_at: datetime


@dataclass(eq=False, slots=True)
class Image:
    """One digest in one repository. Only its tags ever change."""

    id: str
    registry: str
    repository: str  # path without the registry's id
    digest: str
    media_type: str
    manifest: bytes
    created_at: datetime
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()
    children: tuple[str, ...] = ()  # digests
    tags: list[str] = field(default_factory=list)
    rendered: bytes | None = None  # its JSON, until a tag or a switch changes
    artifacts: Any = None  # how Cloud Registry shows it (`cloud_artifacts.py`), until the same changes
    deleted_tags: list[str] = field(default_factory=list)  # went one by one, by requests, before the image did
    touched_at: datetime | None = None  # when a tag came or went last
    left: Binding | None = None  # the tag that moved away last
    softly_deleted_at: datetime | None = None  # by the registry's own policy: its bytes are still there

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def blobs(self) -> set[Blob]:
        return {*self.layers, *([self.config] if self.config else [])}


class Repository:
    """The images of one name. The repository stays when its last image is deleted."""

    def __init__(self, registry: str, path: str) -> None:
        self.registry, self.path = registry, path
        self.id = id_from("repository", registry, path)
        self.images: dict[str, Image] = {}  # by digest
        self.tags: dict[str, Image] = {}
        self.bindings: dict[str, Binding] = {}  # of the same tags
        self.listed_by: dict[str, list[Image]] = {}  # digest -> the indexes that list it

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.path}"

    def forget(self, image: Image, at: datetime | None) -> None:
        """Drop the rendered image, because its tags have changed."""
        image.rendered = image.artifacts = None
        image.touched_at = at or image.touched_at

    def parents(self, digest: str) -> list[Image]:
        """The indexes that list this digest."""
        return self.listed_by.get(digest, [])


class Registry:
    """One registry: its repositories, and how many images name each blob."""

    def __init__(self, registry_id: str, name: str, created_at: datetime) -> None:
        self.id, self.name, self.created_at = registry_id, name, created_at
        self.repositories: dict[str, Repository] = {}
        self.references: Counter[Blob] = Counter()
        self.lost_bytes = 0  # of blobs that no image names any more
        self.lost_bytes_by_request = 0  # of these: at least one of the images that named it was deleted by a request
        self.touched: set[Blob] = set()  # blobs of images that a request deleted
        self.pushes = 0
        self.bound = 0  # how often a tag was given to an image
        self.kind, self.type, self.status = "DOCKER", "LOCAL", "ACTIVE"  # as Cloud Registry reports them
        self.burnt: set[str] = set()  # paths of artifacts that were deleted without their history

    @property
    def bytes(self) -> int:
        return sum(blob.size for blob in self.references)

    def images(self) -> Iterable[Image]:
        return (image for repository in self.repositories.values() for image in repository.images.values())

    def repository(self, path: str) -> Repository:
        """The repository of that path; it appears with the first push."""
        return self.repositories.setdefault(path, Repository(self.id, path))


class BurntNameError(ValueError):
    """A push to a name that was deleted, in a registry whose artifacts are immutable."""


class Cloud:
    """All registries that the simulator's account may see, and every image by its id."""

    def __init__(self, now: datetime) -> None:
        self.registries: dict[str, Registry] = {}
        self.by_id: dict[str, Image] = {}
        self.deleted: list[Image] = []  # by request, in order
        self.immutable = False  # a name that was deleted without its history cannot be pushed again
        self.add_registry(DEFAULT_REGISTRY, "prod-images", now)

    def add_registry(self, registry_id: str, name: str, now: datetime) -> Registry:
        return self.registries.setdefault(registry_id, Registry(registry_id, name, now))

    def push(
        self,
        path: str,
        *,
        tags: Sequence[str] = (),
        layers: Sequence[Blob] = (),
        config: Blob,
        created_at: datetime,
        media_type: str = OCI_MANIFEST,
        subject: str | None = None,
        config_type: str | None = None,
        registry: str = DEFAULT_REGISTRY,
    ) -> Image:
        """Pushes an image; the same content again is the same image, with the tags added."""
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {
                "mediaType": config_type or CONFIG_TYPES[media_type],
                "digest": config.digest,
                "size": config.size,
            },
            "layers": [
                {"mediaType": LAYER_TYPES[media_type], "digest": layer.digest, "size": layer.size} for layer in layers
            ],
        }
        if subject is not None:
            document["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1_000}
        return self._store(registry, path, tags, document, created_at, config=config, layers=tuple(layers))

    def push_index(
        self,
        path: str,
        *,
        children: Sequence[str],
        tags: Sequence[str] = (),
        created_at: datetime,
        media_type: str = OCI_INDEX,
        registry: str = DEFAULT_REGISTRY,
        note: str = "",
    ) -> Image:
        """Pushes an index over digests of the same repository. `note` makes another digest of the same children."""
        held = self.registries[registry].repository(path).images
        platforms = ("amd64", "arm64", "arm", "s390x", "ppc64le", "riscv64")
        entries = [
            {
                "mediaType": held[child].media_type if child in held else OCI_MANIFEST,
                "digest": child,
                "size": len(held[child].manifest) if child in held else 1_000,
                "platform": {"architecture": platforms[place % len(platforms)], "os": "linux"},
            }
            for place, child in enumerate(children)
        ]
        document: dict[str, object] = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        if note:
            document["annotations"] = {"note": note}
        return self._store(registry, path, tags, document, created_at, children=tuple(children))

    def _store(
        self,
        registry: str,
        path: str,
        tags: Sequence[str],
        document: dict[str, object],
        created_at: datetime,
        *,
        config: Blob | None = None,
        layers: tuple[Blob, ...] = (),
        children: tuple[str, ...] = (),
    ) -> Image:
        home = self.registries[registry]
        repository = home.repository(path)
        manifest = json.dumps(document, separators=(",", ":")).encode()
        digest = digest_of(manifest)
        self._check_names(home, path, tags or [digest])
        image = repository.images.get(digest)
        if image is None:
            home.pushes += 1
            image = Image(
                id=id_from("image", registry, path, digest, str(home.pushes)),
                registry=registry,
                repository=path,
                digest=digest,
                media_type=str(document["mediaType"]),
                manifest=manifest,
                created_at=created_at,
                config=config,
                layers=layers,
                children=children,
            )
            repository.images[digest] = image
            self.by_id[image.id] = image
            home.references.update(image.blobs)
            for child in set(children):
                repository.listed_by.setdefault(child, []).append(image)
        image.softly_deleted_at = None
        for tag in tags:
            self.tag(image, tag, created_at)
        return image

    def tag(self, image: Image, tag: str, at: datetime | None = None) -> None:
        """Gives the tag to this image and takes it away from whichever had it."""
        repository = self.registries[image.registry].repository(image.repository)
        owner = repository.tags.get(tag)
        if owner is image:
            return
        self._check_names(self.registries[image.registry], image.repository, [tag])
        if owner is not None:
            owner.tags.remove(tag)
            owner.left = repository.bindings[tag]
            repository.forget(owner, at)
        repository.tags[tag] = image
        repository.bindings[tag] = self._bound(image, repository.bindings.get(tag), at or image.created_at)
        image.tags.append(tag)
        repository.forget(image, at)

    def _check_names(self, home: Registry, path: str, names: Sequence[str]) -> None:
        burnt = [name for name in names if self.immutable and f"{path}/{name}" in home.burnt]
        if burnt:
            raise BurntNameError(f"{path}: deleted, and immutable: {', '.join(burnt)}")

    def _bound(self, image: Image, former: Binding | None, at: datetime) -> Binding:
        home = self.registries[image.registry]
        home.bound += 1
        stay = f"{home.id} {home.bound}"
        return Binding(former.life, stay, former.born_at, at) if former else Binding(stay, stay, at, at)

    def untag(
        self,
        path: str,
        tag: str,
        registry: str = DEFAULT_REGISTRY,
        *,
        at: datetime | None = None,
        by_request: bool = False,
    ) -> None:
        repository = self.registries[registry].repository(path)
        image = repository.tags.pop(tag)
        del repository.bindings[tag]
        image.tags.remove(tag)
        image.left = None
        if by_request:
            image.deleted_tags.append(tag)
        repository.forget(image, at)

    def remove(self, image: Image, *, by_request: bool) -> None:
        """Delete the image with all its tags; blobs that no other image of the registry names are lost."""
        home = self.registries[image.registry]
        repository = home.repositories[image.repository]
        del self.by_id[image.id], repository.images[image.digest]
        for tag in image.tags:
            del repository.tags[tag], repository.bindings[tag]
        for child in set(image.children):
            repository.listed_by[child].remove(image)
        if by_request:
            self.deleted.append(image)
            home.touched |= image.blobs
        for blob in image.blobs:
            home.references[blob] -= 1
            if home.references[blob] == 0:
                del home.references[blob]
                home.lost_bytes += blob.size
                home.lost_bytes_by_request += blob.size if blob in home.touched else 0
                home.touched.discard(blob)

    def find(self, path: str, reference: str, registry: str = DEFAULT_REGISTRY) -> Image | None:
        """By tag or digest."""
        repository = self.registries[registry].repositories.get(path) if registry in self.registries else None
        if repository is None:
            return None
        return repository.images.get(reference) or repository.tags.get(reference)
