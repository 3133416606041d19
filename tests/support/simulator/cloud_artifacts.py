"""The model's images as Cloud Registry's artifacts: which there are, under which ids and paths, and how they go.

Artifacts are a view: nothing of them is stored but what has no image (`others`) and what is shown of the deleted.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.support.simulator.operations import Objection, take_away, used_by
from tests.support.simulator.registry import Cloud, Image, Registry, Repository, id_from
from tests.support.simulator.status import NOT_FOUND
from tests.support.simulator.switches import Switches

MIGRATION = timedelta(hours=3)  # how long it took, where times are the migration's


@dataclass(eq=False, slots=True)
class Artifact:
    """One row: a tag or a digest of an image, a folder, or something else in a registry."""

    id: str
    registry: str
    folder: str  # its folder, without slashes at the ends: "shop/api"; "" at the root
    name: str
    created_at: datetime
    modified_at: datetime
    kind: str = "ARTIFACT"
    status: str = "ACTIVE"
    tag: str = ""  # "": it is of a digest
    image: Image | None = None  # None: no Docker content
    properties: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)  # can be filtered by, but are not shown
    derived: bool = False  # a folder that exists because of its contents
    rendered: tuple[str, bytes] | None = None  # its status and its JSON under that status

    @property
    def place(self) -> str:
        """Where it is, with its own name: "shop/api/1.4.2"."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


class ArtifactStore:
    """Every artifact of a cloud, as the switches would have it."""

    def __init__(self, cloud: Cloud, switches: Callable[[], Switches]) -> None:
        self.cloud = cloud
        self.others: dict[str, Artifact] = {}  # by id: artifacts that are no images
        self.buried: dict[str, Artifact] = {}  # by id: as they were when they were deleted
        self.statuses: dict[str, str] = {}  # by id: set by hand
        self.migrated_at: datetime | None = None  # when `times_after_migration` was turned
        self._switches = switches
        self._places: dict[str, tuple[str, str, str, str]] = {}  # id -> registry, repository, tag, digest

    # Contents

    def artifacts(self, registry: Registry) -> list[Artifact]:
        """All rows of a registry, folders and deleted ones included, in no order."""
        shown = [artifact for image in registry.images() for artifact in self.of_image(image)]
        return shown + self._rest(registry)

    def in_folder(self, registry: Registry, folder: str) -> list[Artifact]:
        """The rows right below a folder, "shop/api"."""
        repository = registry.repositories.get(folder)
        images = list(repository.images.values()) if repository else []
        shown = [artifact for image in images for artifact in self.of_image(image)]
        return shown + [row for row in self._rest(registry) if row.folder == folder]

    def at(self, registry: Registry, place: str) -> list[Artifact]:
        """The rows at a full path, "shop/api/1.4.2"."""
        return [row for row in self.in_folder(registry, place.rpartition("/")[0]) if row.place == place]

    def _rest(self, registry: Registry) -> list[Artifact]:
        """Artifacts without an image, or whose image was deleted."""
        buried = self.buried.values() if self._switches().after_deletion == "status" else ()
        rows = [row for row in (*self.others.values(), *buried) if row.registry == registry.id]
        return rows + self._folders(registry)

    def of_image(self, image: Image) -> list[Artifact]:
        """The artifacts that a call can see of an image."""
        switches = self._switches()
        if image.softly_deleted_at and switches.soft_deleted == "not_listed":
            return []
        if not image.tags:
            is_child = bool(self._home(image).parents(image.digest))
            if (switches.child_artifacts if is_child else switches.untagged_artifacts) == "not_listed":
                return []
        if image.artifacts is None:
            image.artifacts = [self._dressed(artifact) for artifact in self._made(image)]
        artifacts: list[Artifact] = image.artifacts
        return artifacts

    def get(self, artifact_id: str) -> Artifact | None:
        """The artifact of an id; of a deleted artifact the part that is still shown, which may be empty."""
        artifact = self.others.get(artifact_id) or self._of_place(artifact_id)
        if artifact is None and self._switches().after_deletion == "status":
            artifact = self.buried.get(artifact_id)
        if artifact is None:
            folders = (row for registry in self.cloud.registries.values() for row in self._folders(registry))
            artifact = next((row for row in folders if row.id == artifact_id), None)
        return artifact

    def image_id(self, artifact_id: str) -> str:
        """The image of an artifact; empty if it has none, or if the image was deleted."""
        artifact = self._of_place(artifact_id)
        return artifact.image.id if artifact and artifact.image else ""

    def _of_place(self, artifact_id: str) -> Artifact | None:
        registry, path, tag, digest = self._places.get(artifact_id, ("", "", "", ""))
        if not registry:
            return None
        repository = self.cloud.registries[registry].repositories[path]
        candidates = (repository.tags.get(tag), repository.images.get(digest))
        rows = (row for image in candidates if image for row in self.of_image(image))
        return next((row for row in rows if row.id == artifact_id), None)

    def _home(self, image: Image) -> Repository:
        return self.cloud.registries[image.registry].repositories[image.repository]

    # How an image is shown

    def _made(self, image: Image) -> Iterator[Artifact]:
        switches = self._switches()
        if switches.artifacts_of_image == "per_digest":
            properties = {"tags": ",".join(image.tags)} if image.tags else {}
            yield self._of_digest(image, id_from("digest", image.id, prefix="cn1"), properties)
        elif image.tags:
            yield from (self._of_tag(image, tag) for tag in image.tags)
        elif image.left is not None and switches.moved_tag == "new_artifact":
            yield self._of_digest(image, id_from("stay", image.left.stay, prefix="cn1"), {})
        else:
            yield self._of_digest(image, id_from("untagged", image.id, prefix="cn1"), {}, untouched=True)

    def _of_digest(
        self, image: Image, artifact_id: str, properties: dict[str, str], *, untouched: bool = False
    ) -> Artifact:
        modified_at = image.created_at if untouched or image.touched_at is None else image.touched_at
        return Artifact(
            id=artifact_id,
            registry=image.registry,
            folder=image.repository,
            name=image.digest,
            created_at=image.created_at,
            modified_at=modified_at,
            image=image,
            properties=properties,
        )

    def _of_tag(self, image: Image, tag: str) -> Artifact:
        bound = self._home(image).bindings[tag]
        moves = self._switches().moved_tag == "same_artifact"
        parts = ("life", bound.life) if moves else ("stay", bound.stay)
        return Artifact(
            id=id_from(*parts, prefix="cn1"),
            registry=image.registry,
            folder=image.repository,
            name=tag,
            created_at=bound.born_at if moves else bound.moved_at,
            modified_at=bound.moved_at,
            tag=tag,
            image=image,
        )

    def _dressed(self, artifact: Artifact) -> Artifact:
        """With what policies and the migration did to it; its id can be looked up from now on."""
        image = artifact.image
        assert image is not None
        if image.softly_deleted_at is not None:
            artifact.modified_at = image.softly_deleted_at
            if self._switches().soft_deleted == "deleted":
                artifact.status = "DELETED"
            else:
                artifact.properties["softDeletedAt"] = image.softly_deleted_at.isoformat()
        artifact.created_at = self._after_migration(artifact.created_at, artifact.id)
        artifact.modified_at = max(artifact.created_at, self._after_migration(artifact.modified_at, artifact.id))
        self._places[artifact.id] = (artifact.registry, artifact.folder, artifact.tag, image.digest)
        return artifact

    def _after_migration(self, at: datetime, artifact_id: str) -> datetime:
        """Where the migration's times are shown: some moment of it for whatever is older."""
        end = self.migrated_at
        if end is None or at >= end or self._switches().times_after_migration == "kept":
            return at
        share = int.from_bytes(hashlib.sha256(artifact_id.encode()).digest()[:3], "big") / 2**24
        moment = end - MIGRATION * share
        return moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)

    def _folders(self, registry: Registry) -> list[Artifact]:
        """A row for each level above an image, the repository's own included."""
        folders: dict[str, datetime] = {}
        for path in registry.repositories:
            parts = path.split("/")
            folders |= {"/".join(parts[: place + 1]): registry.created_at for place in range(len(parts))}
        return [self._folder(registry, path, at) for path, at in folders.items()]

    def _folder(self, registry: Registry, path: str, at: datetime) -> Artifact:
        folder, _, name = path.rpartition("/")
        artifact_id = id_from("folder", registry.id, path, prefix="cn1")
        return Artifact(artifact_id, registry.id, folder, name, at, at, kind="FOLDER", derived=True)

    # Deletion

    @contextmanager
    def burying(self, image: Image, at: datetime) -> Iterator[list[Artifact]]:
        """Whatever this image loses in the block is remembered as deleted, and is in the list at the block's end."""
        before = list(self.of_image(image))
        gone: list[Artifact] = []
        yield gone
        left = {row.id for row in self.of_image(image)} if image.id in self.cloud.by_id else set()
        gone += [row for row in before if row.id not in left]
        for row in gone:
            self.buried[row.id] = replace(row, status="DELETED", modified_at=at, rendered=None)

    def remove(self, image: Image, at: datetime, *, by_request: bool) -> list[Artifact]:
        """Takes an image away with all its artifacts; they are the answer."""
        with self.burying(image, at) as gone:
            self.cloud.remove(image, by_request=by_request)
        return gone

    def untag(self, image: Image, tag: str, at: datetime, *, by_request: bool) -> list[Artifact]:
        with self.burying(image, at) as gone:
            self.cloud.untag(image.repository, tag, image.registry, at=at, by_request=by_request)
        return gone

    def forget(self) -> None:
        """Other switches: everything is shown anew."""
        for image in self.cloud.by_id.values():
            image.artifacts = None


@dataclass(frozen=True)
class ArtifactDeletion:
    """One artifact of Cloud Registry: a tag, or a manifest with or without its tags, as the switches say."""

    artifact_store: ArtifactStore
    id: str
    with_history: bool

    description = "Delete artifact"

    @property
    def metadata(self) -> dict[str, str]:
        name = "yandex.cloud.cloudregistry.v1.DeleteArtifactMetadata"
        return {"@type": f"type.googleapis.com/{name}", "artifactId": self.id}

    def objection(self, switches: Switches) -> Objection | None:
        artifact = self.artifact_store.get(self.id)
        if artifact is None or artifact.image is None or artifact.status == "DELETED":
            return Objection(NOT_FOUND, f"Artifact {self.id} not found", switches.missing_image == "not_found")
        if switches.deleted_child == "accepted" or self._tag_only(artifact, artifact.image, switches):
            return None
        at_once = switches.deleted_child == "refused"
        return used_by(self.artifact_store.cloud, artifact.image, self.id, self._names_of, at_once=at_once)

    def _names_of(self, image: Image) -> list[str]:
        return [row.id for row in self.artifact_store.of_image(image)]

    def carry_out(self, switches: Switches, at: datetime) -> None:
        artifact = self.artifact_store.get(self.id)
        assert artifact is not None
        image = artifact.image
        assert image is not None
        gone: list[Artifact] = []
        if self._tag_only(artifact, image, switches):
            gone += self.artifact_store.untag(image, artifact.tag, at, by_request=True)
        else:
            take_away(
                self.artifact_store.cloud,
                image,
                switches,
                lambda removed: gone.extend(self.artifact_store.remove(removed, at, by_request=True)),
            )
        self._burn(artifact.registry, gone)

    def _tag_only(self, artifact: Artifact, image: Image, switches: Switches) -> bool:
        if not artifact.tag or switches.deleted_artifact == "manifest":
            return False
        return len(image.tags) > 1 or switches.last_tag == "manifest_stays"

    def _burn(self, registry: str, gone: list[Artifact]) -> None:
        """Remembers the names, for registries whose artifacts are immutable."""
        burnt = self.artifact_store.cloud.registries[registry].burnt
        places = {row.place for row in gone}
        if self.with_history:
            burnt -= places
        else:
            burnt |= places
