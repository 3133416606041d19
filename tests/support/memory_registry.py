"""The in-memory registry: its images, the calls that it received, and the deletions that it carried out. No HTTP.

Every push makes an instance with an id of its own, also of a digest that was pushed before. A deletion is an operation
under its idempotency key; the same key never makes a second one. Manifests have bytes only where a test restores them.

`memory_driver` has its drivers. Registries over real HTTP: `simulator` (Yandex), `oci/fake` (OCI), `example_registry`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import UNSET

from policies.image import Blob, Image
from tests.support.memory_blobs import MemoryBlobs
from tests.support.memory_faults import FOREVER, Call, Fate, Fault
from tests.support.oci import manifests as m
from tests.support.oci.manifests import Pushed
from worker.registries.errors import BlobsMissingError, RegistryError
from worker.registries.interface import SavedManifest

INDEXES = (m.INDEX, m.DOCKER_INDEX)
OLD = timedelta(days=300)


@dataclass(frozen=True, slots=True)
class Content:
    """A manifest and the blobs it names; the same content always has the same digest."""

    digest: str
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()
    children: tuple[str, ...] | None = None  # None: not an index
    subject: str | None = None
    media_type: str = m.IMAGE
    body: bytes = b""  # empty in tests that restore nothing


def content_of(pushed: Pushed) -> Content:
    return Content(
        digest=pushed.digest,
        config=Blob(pushed.config.digest, pushed.config.size) if pushed.config else None,
        layers=tuple(Blob(descriptor.digest, descriptor.size) for descriptor in pushed.layers),
        children=tuple(descriptor.digest for descriptor in pushed.children) if pushed.media_type in INDEXES else None,
        subject=pushed.subject,
        media_type=pushed.media_type,
        body=pushed.body,
    )


@dataclass(frozen=True, slots=True)
class Instance:
    """One push of a content."""

    id: str
    content: Content
    created_at: datetime
    tags: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        return self.content.digest

    @property
    def kept(self) -> SavedManifest:
        """Its manifest as the registry gives it."""
        return SavedManifest(self.digest, self.content.media_type, self.content.body)


@dataclass(slots=True)
class MemoryOperation:
    """A deletion that the registry received."""

    id: str
    repository: str
    image_id: str
    fate: Fate
    asked: int = 0  # how often its state was requested
    done: bool = False
    error: str | None = None
    ends_at: datetime | None = None
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """An instance that one of our deletions removed."""

    key: str
    repository: str
    instance: Instance


AT_ONCE = Fate("at_once")


@dataclass
class MemoryRegistry:
    """The in-memory registry."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    strict: bool = True  # whether it refuses to delete a child of an index
    repositories: dict[str, dict[str, Instance]] = field(default_factory=dict)  # path -> digest -> instance
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    asked: list[tuple[Call, str, str]] = field(default_factory=list)  # call, repository, tag or digest, in order
    faults: list[Fault] = field(default_factory=list)
    usual: Fate = AT_ONCE  # of an operation
    fates: list[Fate] = field(default_factory=list)  # of the next ones
    operations: dict[str, MemoryOperation] = field(default_factory=dict)  # by key
    effects: list[Effect] = field(default_factory=list)
    known: dict[str, Content] = field(default_factory=dict)  # every content ever pushed, by digest
    changes: int = 0  # made by other clients
    removed: int = 0  # images that other clients deleted
    _pushed: int = 0

    def instances(self) -> Iterator[tuple[str, Instance]]:
        return ((path, instance) for path, images in self.repositories.items() for instance in images.values())

    def is_there(self, image_id: str) -> bool:
        return any(instance.id == image_id for _, instance in self.instances())

    def tags(self, path: str) -> dict[str, str]:
        """Tag -> digest."""
        return {tag: digest for digest, instance in self.repositories.get(path, {}).items() for tag in instance.tags}

    def asked_about(self, call: Call, path: str) -> list[str]:
        """The tags and digests of such calls, in order."""
        return [what for asked, where, what in self.asked if (asked, where) == (call, path)]

    def whole(self, path: str, reference: str) -> bool:
        """Whether an image can be pulled by this tag or digest to its last blob."""
        instance = self.repositories.get(path, {}).get(self.tags(path).get(reference, reference))
        if instance is None:
            return False
        pushed = m.parsed(path, instance.content.body, instance.content.media_type)
        blobs = not self.blobs.lost(path, [blob.digest for blob in pushed.blobs])
        return blobs and all(self.whole(path, child.digest) for child in pushed.children)

    # Changes by other clients

    def push(
        self, path: str, content: Content, tags: tuple[str, ...], age: timedelta, *, new_time: bool = True
    ) -> None:
        """Push content and move these tags to it. An existing image keeps its id."""
        self.changes += 1
        self.known[content.digest] = content
        images = self.repositories.setdefault(path, {})
        self._take_tags(path, tags)
        created_at = (self.now() - age).replace(microsecond=0)
        if (there := images.get(content.digest)) is not None:
            time = created_at if new_time else there.created_at
            images[content.digest] = replace(there, tags=there.tags | set(tags), created_at=time)
            return
        self._pushed += 1
        images[content.digest] = Instance(f"crp{self._pushed:04}", content, created_at, frozenset(tags))

    def push_manifest(self, path: str, body: bytes, media_type: str, *tags: str) -> Pushed:
        pushed = m.parsed(path, body, media_type, tags)
        self.push(path, content_of(pushed), tags, OLD)
        return pushed

    def push_image(self, path: str, *tags: str, layers: Iterable[str], subject: Pushed | None = None) -> Pushed:
        """An image with its blobs. `layers`: their bytes as words."""
        config = self.blobs.push(path, f"config of {sorted(layers)} {tags}".encode(), m.CONFIG)
        pushed = [self.blobs.push(path, layer.encode(), m.LAYER) for layer in layers]
        body = m.image_body(config, pushed, subject=subject.descriptor if subject else None)
        return self.push_manifest(path, body, m.IMAGE, *tags)

    def push_index(self, path: str, *tags: str, lists: Iterable[Pushed]) -> Pushed:
        body = m.index_body([child.descriptor.document() for child in lists])
        return self.push_manifest(path, body, m.INDEX, *tags)

    def tag(self, path: str, of: str, tag: str) -> None:
        self.changes += 1
        self._take_tags(path, (tag,))
        instance = self.repositories[path][of]
        self.repositories[path][of] = replace(instance, tags=instance.tags | {tag})

    def untag(self, path: str, tag: str) -> None:
        self.changes += 1
        self._take_tags(path, (tag,))

    def remove(self, path: str, of: str) -> None:
        """Delete an image as another client."""
        self.changes += 1
        self.removed += 1
        del self.repositories[path][of]
        self.blobs.deleted.add(of)

    def remove_repository(self, path: str) -> None:
        self.changes += 1
        self.removed += len(self.repositories[path])
        del self.repositories[path]

    def collect(self) -> None:
        """Free every blob that no manifest names."""
        self.blobs.collect({blob.digest for _, instance in self.instances() for blob in _blobs(instance.content)})

    def fail(self, call: Call, path: str, error: RegistryError, what: str | None = None) -> None:
        """Answer such calls with the error from now on. `what`: the tag or digest of the calls."""
        self.faults.append(Fault(call, "", times=FOREVER, path=path, what=what, answer=error))

    def _take_tags(self, path: str, tags: tuple[str, ...]) -> None:
        images = self.repositories[path]
        for of, instance in list(images.items()):
            if instance.tags & set(tags):
                images[of] = replace(instance, tags=instance.tags - set(tags))

    # Calls of our drivers

    def take_back(self, path: str, kept: SavedManifest, tag: str) -> None:
        """Put a manifest by its tag or its digest. Raises BlobsMissingError."""
        pushed = m.parsed(path, kept.body, kept.media_type)
        missing = self.blobs.unknown(path, [blob.digest for blob in pushed.blobs])
        missing += [child.digest for child in pushed.children if child.digest not in self.repositories.get(path, {})]
        if missing:
            raise BlobsMissingError(f"MANIFEST_BLOB_UNKNOWN: {', '.join(missing)}", request=f"PUT {path}")
        if kept.digest not in self.blobs.remembered:
            self.push(path, content_of(pushed), (tag,) if tag else (), OLD)
        elif tag:
            self.untag(path, tag)  # it names a manifest whose bytes are not there
        self.blobs.free_at_once()

    def delete(self, path: str, image_id: str, key: str) -> MemoryOperation:
        """Receive a deletion of ours; its operation holds the outcome."""
        if (known := self.operations.get(key)) is not None:
            assert known.image_id == image_id, "one key for two images"
            return known
        fate = self.fates.pop(0) if self.fates else self.usual
        operation = MemoryOperation(f"op{len(self.operations)}", path, image_id, fate)
        self.operations[key] = operation
        if fate.kind == "by_clock":
            operation.ends_at = self.now() + timedelta(seconds=60 * fate.after)
        elif fate.kind == "gone_without_end":
            self._carry_out(key, operation)
            operation.done, operation.error = False, None
        elif fate.kind == "at_once":
            self._carry_out(key, operation)
        elif fate.kind == "fails" and fate.after == 0:
            operation.done, operation.error = True, fate.error
        return operation

    def ask(self, operation_id: str) -> MemoryOperation | None:
        """The state of an operation; None: the registry does not know it."""
        for key, operation in self.operations.items():
            if operation.id == operation_id:
                operation.asked += 1
                self._go_on(key, operation)
                return None if operation.forgotten else operation
        return None

    def settle(self) -> None:
        """Carry out the operations whose time has come."""
        for key, operation in self.operations.items():
            if operation.ends_at is not None and not operation.done and self.now() >= operation.ends_at:
                self._carry_out(key, operation)

    def _go_on(self, key: str, operation: MemoryOperation) -> None:
        if operation.done or operation.asked <= operation.fate.after:
            return
        if operation.fate.kind == "fails":
            operation.done, operation.error = True, operation.fate.error
        elif operation.fate.kind in ("late", "forgotten"):
            self._carry_out(key, operation)
            operation.forgotten = operation.fate.kind == "forgotten"

    def _carry_out(self, key: str, operation: MemoryOperation) -> None:
        operation.done = True
        images = self.repositories.get(operation.repository, {})
        instance = next((image for image in images.values() if image.id == operation.image_id), None)
        if instance is None:
            operation.error = "not_found"
        elif self.strict and any(instance.digest in (image.content.children or ()) for image in images.values()):
            operation.error = "used_by"
        else:
            del images[instance.digest]
            self.blobs.deleted.add(instance.digest)
            self.effects.append(Effect(key, operation.repository, instance))


def _blobs(content: Content) -> tuple[Blob, ...]:
    return (content.config, *content.layers) if content.config else content.layers


def listed(path: str, instance: Instance) -> Image:
    """An instance as a listing reports it without reading manifests."""
    content = instance.content
    blobs = _blobs(content)
    return Image(
        digest=instance.digest,
        id=instance.id,
        name=f"memory/{path}",
        compressed_size=sum(blob.size for blob in blobs) if blobs else None,
        config=content.config,
        layers=content.layers,
        tags=tuple(sorted(instance.tags)),
        created_at=instance.created_at,
    )


def described(path: str, instance: Instance) -> Image:
    """An instance with the facts of its manifest."""
    content = instance.content
    return msgspec.structs.replace(
        listed(path, instance),
        children=UNSET if content.children is None else content.children,
        subject=content.subject or UNSET,
        media_type=content.media_type,
    )
