"""A registry in this process: what it really holds, what was asked of it, and what it did. No HTTP.

Every image pushed is an instance with an id of its own: the same digest pushed again is another instance. A deletion is
an operation under its key, as at the registry: the same key never makes a second one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from policies.image import Blob, Image
from tests.support.builders import digest
from tests.support.model_faults import Fate, Fault
from worker.registries.errors import (
    NotFoundError,
    OperationBrokenError,
    OperationFailedError,
    PermissionDeniedError,
    ReadOnlyError,
    RegistryError,
    UsedByImageListsError,
)

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

OWN_ERRORS: dict[str, type[RegistryError]] = {
    "not_found": NotFoundError,
    "used_by": UsedByImageListsError,
    "permission": PermissionDeniedError,
    "read_only": ReadOnlyError,
    "failed": OperationFailedError,
    "broken": OperationBrokenError,
}


@dataclass(frozen=True, slots=True)
class Content:
    """A manifest and what it names: the same content has the same digest wherever it is pushed."""

    digest: str
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()
    children: tuple[str, ...] | None = None  # None: it is no index
    subject: str | None = None
    media_type: str = MANIFEST


def plain(number: int) -> Content:
    """An image of three layers, of which it shares two with its neighbours."""
    layers = tuple(Blob(digest(f"layer {at % 7}"), 100 << (at % 7)) for at in range(number, number + 3))
    return Content(digest(f"image {number}"), Blob(digest(f"config {number}"), 7 + number), layers)


def signature(of: str) -> Content:
    """What cosign pushes: an ordinary image, a referrer by its tag."""
    name = f"signature of {of}"
    return Content(digest(name), Blob(digest(f"{name} config"), 3), (Blob(digest(name + " layer"), 5),))


def attached(to: str) -> Content:
    """A referrer by OCI's `subject`, without a config that the listing tells."""
    name = f"attached to {to}"
    return Content(digest(name), None, (Blob(digest(name + " layer"), 11),), subject=to)


def index(children: tuple[str, ...]) -> Content:
    return Content(digest("index of " + " ".join(children)), children=children, media_type=INDEX)


@dataclass(frozen=True, slots=True)
class Held:
    """One instance: this content, pushed once."""

    id: str
    content: Content
    created_at: datetime
    tags: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        return self.content.digest


@dataclass(slots=True)
class Operation:
    """One deletion that arrived."""

    id: str
    repository: str
    image_id: str
    fate: Fate
    asked: int = 0  # how often its state was asked for
    done: bool = False
    error: str | None = None
    ends_at: datetime | None = None
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """An instance that is no longer there by our doing."""

    key: str
    repository: str
    held: Held


AT_ONCE = Fate("at_once")


@dataclass
class Model:
    """The registry itself."""

    now: Callable[[], datetime]
    strict: bool = True  # whether it refuses to delete what an index lists
    repositories: dict[str, dict[str, Held]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    usual: Fate = AT_ONCE  # of an operation
    fates: list[Fate] = field(default_factory=list)  # of the next ones
    operations: dict[str, Operation] = field(default_factory=dict)  # by key
    effects: list[Effect] = field(default_factory=list)
    known: dict[str, Content] = field(default_factory=dict)  # whatever was pushed at any time
    changes: int = 0  # by anybody but us
    removed: int = 0  # images, by anybody but us
    _pushed: int = 0

    def instances(self) -> Iterator[tuple[str, Held]]:
        return ((path, held) for path, images in self.repositories.items() for held in images.values())

    def is_there(self, image_id: str) -> bool:
        return any(held.id == image_id for _, held in self.instances())

    def push(
        self, path: str, content: Content, tags: tuple[str, ...], age: timedelta, *, new_time: bool = True
    ) -> None:
        """Push content under these tags, which leave whatever carried them. What is there already keeps its id."""
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
        images[content.digest] = Held(f"crp{self._pushed:04}", content, created_at, frozenset(tags))

    def tag(self, path: str, of: str, tag: str) -> None:
        self.changes += 1
        self._take_tags(path, (tag,))
        held = self.repositories[path][of]
        self.repositories[path][of] = replace(held, tags=held.tags | {tag})

    def untag(self, path: str, tag: str) -> None:
        self.changes += 1
        self._take_tags(path, (tag,))

    def remove(self, path: str, of: str) -> None:
        """Somebody else deletes it."""
        self.changes += 1
        self.removed += 1
        del self.repositories[path][of]

    def remove_repository(self, path: str) -> None:
        self.changes += 1
        self.removed += len(self.repositories[path])
        del self.repositories[path]

    def _take_tags(self, path: str, tags: tuple[str, ...]) -> None:
        images = self.repositories[path]
        for of, held in list(images.items()):
            if held.tags & set(tags):
                images[of] = replace(held, tags=held.tags - set(tags))

    def delete(self, path: str, image_id: str, key: str) -> Operation:
        """Our deletion arrives. Whatever becomes of it, the operation keeps it."""
        if (known := self.operations.get(key)) is not None:
            assert known.image_id == image_id, "one key for two images"
            return known
        fate = self.fates.pop(0) if self.fates else self.usual
        found = Operation(f"op{len(self.operations)}", path, image_id, fate)
        self.operations[key] = found
        if fate.kind == "by_clock":
            found.ends_at = self.now() + timedelta(seconds=60 * fate.after)
        elif fate.kind == "gone_without_end":
            self._carry_out(key, found)
            found.done, found.error = False, None
        elif fate.kind == "at_once":
            self._carry_out(key, found)
        elif fate.kind == "fails" and fate.after == 0:
            found.done, found.error = True, fate.error
        return found

    def ask(self, operation_id: str) -> Operation | None:
        """Where an operation stands; None: the registry does not know it."""
        for key, found in self.operations.items():
            if found.id == operation_id:
                found.asked += 1
                self._go_on(key, found)
                return None if found.forgotten else found
        return None

    def settle(self) -> None:
        """What the registry does by itself as time goes by."""
        for key, found in self.operations.items():
            if found.ends_at is not None and not found.done and self.now() >= found.ends_at:
                self._carry_out(key, found)

    def _go_on(self, key: str, found: Operation) -> None:
        if found.done or found.asked <= found.fate.after:
            return
        if found.fate.kind == "fails":
            found.done, found.error = True, found.fate.error
        elif found.fate.kind in ("late", "forgotten"):
            self._carry_out(key, found)
            found.forgotten = found.fate.kind == "forgotten"

    def _carry_out(self, key: str, found: Operation) -> None:
        found.done = True
        images = self.repositories.get(found.repository, {})
        held = next((one for one in images.values() if one.id == found.image_id), None)
        if held is None:
            found.error = "not_found"
        elif self.strict and any(held.digest in (one.content.children or ()) for one in images.values()):
            found.error = "used_by"
        else:
            del images[held.digest]
            self.effects.append(Effect(key, found.repository, held))


def listed(path: str, held: Held) -> Image:
    """An instance as the registry's listing tells it."""
    content = held.content
    blobs = (content.config, *content.layers) if content.config else content.layers
    return Image(
        digest=held.digest,
        id=held.id,
        name=f"model/{path}",
        compressed_size=sum(blob.size for blob in blobs) if blobs else None,
        config=content.config,
        layers=content.layers,
        tags=tuple(sorted(held.tags)),
        created_at=held.created_at,
    )
