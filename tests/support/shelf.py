"""A registry in memory that takes deleted manifests back, strictly, and a night on it: the real runs, scan, sweep."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from msgspec import UNSET

from policies.image import Blob, Image
from tests.support.night import Night, write
from tests.support.oci import manifests as m
from tests.support.oci.manifests import Descriptor, Pushed
from tests.support.stores import opened
from worker.config.settings import RegistrySettings, Settings, load
from worker.registries import Driver
from worker.registries.errors import BlobsMissingError, NotFoundError, RegistryError
from worker.registries.interface import Deletion, Kept, Usage

KIND = "shelf in memory"  # no name that other tests give a kind of theirs
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Repository:
    manifests: dict[str, Kept] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    linked: set[str] = field(default_factory=set)  # blobs that this repository may show


class Shelf:
    """A registry's storage. As distribution does, it keeps blobs until its collector runs, and the links to them then.

    `cache`: the collector's work goes unnoticed until `restart`: blobs that were freed are thought to be there, and a
    manifest whose bytes were freed is taken, its tag listed, and not there.
    """

    def __init__(self, *, cache: bool = False) -> None:
        self.cache = cache
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str]] = []  # ("put shop/api", tag or digest), in order
        self.broken: dict[str, RegistryError] = {}  # "put shop/api", "put shop/api v1" -> its answer
        self.collected_at_once: set[str] = set()  # blobs that a collector frees just after the next manifest is put
        self._deleted: set[str] = set()  # manifests
        self._remembered: set[str] = set()  # manifests and blobs that the collector freed behind the cache's back

    # What others do to it

    def image(self, path: str, *tags: str, layers: Iterable[str], subject: Pushed | None = None) -> Pushed:
        own = self.blob(path, f"config of {sorted(layers)} {tags}".encode(), m.CONFIG)
        named = [self.blob(path, layer.encode(), m.LAYER) for layer in layers]
        body = m.image_body(own, named, subject=subject.descriptor if subject else None)
        return self.push(path, body, m.IMAGE, *tags)

    def index(self, path: str, *tags: str, lists: Iterable[Pushed]) -> Pushed:
        return self.push(path, m.index_body([one.descriptor.document() for one in lists]), m.INDEX, *tags)

    def blob(self, path: str, data: bytes, media_type: str) -> Descriptor:
        digest = m.digest_of(data)
        self.blobs[digest] = data
        self._repository(path).linked.add(digest)
        return Descriptor(digest, len(data), media_type)

    def push(self, path: str, body: bytes, media_type: str, *tags: str) -> Pushed:
        pushed = m.parsed(path, body, media_type, tags)
        repository = self._repository(path)
        repository.manifests[pushed.digest] = Kept(pushed.digest, media_type, body)
        repository.tags.update(dict.fromkeys(tags, pushed.digest))
        return pushed

    def collect(self) -> None:
        """Free every blob that no manifest names."""
        left = {
            blob.digest
            for path, repository in self.repositories.items()
            for kept in repository.manifests.values()
            for blob in m.parsed(path, kept.body, kept.media_type).blobs
        }
        if self.cache:
            self._remembered |= self._deleted | (self.blobs.keys() - left)
        self.blobs = {digest: data for digest, data in self.blobs.items() if digest in left}

    def restart(self) -> None:
        self._remembered.clear()

    def whole(self, path: str, reference: str) -> bool:
        """Whether it can be pulled to the last blob."""
        repository = self._repository(path)
        kept = repository.manifests.get(repository.tags.get(reference, reference))
        if kept is None:
            return False
        pushed = m.parsed(path, kept.body, kept.media_type)
        blobs = all(one.digest in repository.linked and one.digest in self.blobs for one in pushed.blobs)
        return blobs and all(self.whole(path, child.digest) for child in pushed.children)

    def take_away(self, path: str, digest: str) -> None:
        """Delete a manifest, with its tags. Raises NotFoundError."""
        found = self.note("delete", path, digest)
        if found.manifests.pop(digest, None) is None:
            raise NotFoundError("no such image")
        self._deleted.add(digest)
        found.tags = {tag: named for tag, named in found.tags.items() if named != digest}

    def puts(self, path: str) -> list[str]:
        """By which tags and digests manifests were put, in order."""
        return [what for verb, what in self.asked if verb == f"put {path}"]

    # What its driver asks for

    def _repository(self, path: str) -> Repository:
        return self.repositories.setdefault(path, Repository())

    def note(self, verb: str, path: str, what: str) -> Repository:
        """Raises the RegistryError that a test wants."""
        self.asked.append((f"{verb} {path}", what))
        for broken in (f"{verb} {path}", f"{verb} {path} {what}"):
            if (error := self.broken.get(broken)) is not None:
                raise error
        return self._repository(path)

    def take(self, path: str, kept: Kept, tag: str) -> None:
        repository = self.note("put", path, tag or kept.digest)
        pushed = m.parsed(path, kept.body, kept.media_type)
        there = repository.linked & (self.blobs.keys() | self._remembered)
        missing = [one.digest for one in pushed.blobs if one.digest not in there]
        missing += [one.digest for one in pushed.children if one.digest not in repository.manifests]
        if missing:
            raise BlobsMissingError(f"MANIFEST_BLOB_UNKNOWN: {', '.join(missing)}", request=f"PUT {path}")
        if tag:
            repository.tags[tag] = kept.digest
        if kept.digest not in self._remembered:
            repository.manifests[kept.digest] = kept
        for blob in self.collected_at_once:
            self.blobs.pop(blob, None)


class ShelfDriver:
    """The driver; a registry of the interface, and one that Restores."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def repositories(self) -> Iterator[str]:
        return iter(sorted(self.shelf.repositories))

    def images(self, repository: str) -> tuple[Image, ...]:
        found = self.shelf.note("list", repository, "")
        return tuple(self._image(found, repository, digest) for digest in sorted(found.manifests))

    def _image(self, found: Repository, path: str, digest: str) -> Image:
        kept = found.manifests[digest]
        pushed = m.parsed(path, kept.body, kept.media_type)
        index = kept.media_type in (m.INDEX, m.DOCKER_INDEX)
        return Image(
            digest=digest,
            id=digest[7:27],
            tags=tuple(sorted(tag for tag, named in found.tags.items() if named == digest)),
            config=Blob(pushed.config.digest, pushed.config.size) if pushed.config else None,
            layers=tuple(Blob(one.digest, one.size) for one in pushed.layers),
            created_at=LONG_AGO,
            children=tuple(one.digest for one in pushed.children) if index else UNSET,
            subject=pushed.subject or UNSET,
            media_type=kept.media_type,
        )

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None) -> Image:
        found = self.shelf.note("get", repository, image.digest)
        if image.digest not in found.manifests:
            raise NotFoundError("no such image")
        return self._image(found, repository, image.digest)

    def delete(
        self,
        repository: str,
        image: Image,
        idempotency_key: str,
        *,
        not_after: float | None = None,
    ) -> Deletion:
        self.shelf.take_away(repository, image.digest)
        return Deletion("", done=True)

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        return deletion

    def usage(self) -> Usage:
        return Usage()

    def keep(self, repository: str, digest: str) -> Kept:
        found = self.shelf.note("keep", repository, digest)
        if digest not in found.manifests:
            raise NotFoundError("no such manifest")
        return found.manifests[digest]

    def tagged(self, repository: str, tag: str) -> str | None:
        found = self.shelf.note("tagged", repository, tag)
        digest = found.tags.get(tag)
        return digest if digest in found.manifests else None

    def put(self, repository: str, kept: Kept, tag: str = "") -> None:
        self.shelf.take(repository, kept, tag)

    def lost_blobs(self, repository: str, digests: Iterable[str]) -> tuple[str, ...]:
        wanted = list(digests)
        found = self.shelf.note("blobs", repository, " ".join(wanted))
        return tuple(one for one in wanted if one not in found.linked or one not in self.shelf.blobs)

    def mount(self, repository: str, blob: str, source: str) -> bool:
        found = self.shelf.note("mount", repository, f"{blob} from {source}")
        if blob not in self.shelf.repositories[source].linked or blob not in self.shelf.blobs:
            return False
        found.linked.add(blob)
        return True


class ShelfNight(Night):
    """Rings the bells of a night on a shelf; `driver` has to be registered for KIND first."""

    def __init__(self, folder: Path, shelf: Shelf, *, store: str | None = None, **changes: Any) -> None:
        self.folder, self.shelf = folder, shelf
        written = {
            "store": store or f"sqlite:///{folder}/registry-gc.db",
            "timing": {"reconcile": "2s", "lease": "4s"},
            "registries": {"production": self.entry()},
            "policies": {"nightly": [{"name": "old", "delete": {"any_tag": ["old*"]}}]},
        }
        self.path = write(folder, written | changes)
        self._settings = _on_shelves(load(self.path, environ={"TOKEN": "t"}))
        self.watch = self  # type: ignore[assignment]  # it is asked for nothing but the settings
        self.store = opened(self._settings.store)

    @staticmethod
    def entry() -> dict[str, Any]:
        """A registry's entry in the file."""
        return {
            "kind": "yandex-container-registry",  # of which a file may be; it goes on the shelf once the file is read
            "id": "crp1",
            "credentials": {"iam_token": {"env": "TOKEN"}},
            "mode": "delete",
            "policy": "nightly",
            "limits": {"max_share": "100%"},
            "rate": {"requests_per_second": 1000, "concurrency": 8},
        }

    @property
    def settings(self) -> Settings:
        return self._settings

    def current(self) -> Settings:
        return self._settings

    def last_known(self, key: str) -> RegistrySettings | None:
        return next((one for one in self._settings.registries.values() if one.key == key), None)

    def change(self, **changes: Any) -> None:
        """Change the entry of the registry."""
        production = self._settings.registries["production"].model_copy(update=changes)
        self._settings = self._settings.model_copy(update={"registries": {"production": production}})

    @property
    def driver(self) -> Driver:
        return lambda _settings, _limiter, _patience, _manifests: ShelfDriver(self.shelf)


ShelfNights = Callable[..., ShelfNight]


def _on_shelves(settings: Settings) -> Settings:
    registries = {name: _on_shelf(one) for name, one in settings.registries.items()}
    return settings.model_copy(update={"registries": registries})


def _on_shelf(registry: RegistrySettings) -> RegistrySettings:
    return registry.model_copy(update={"kind": KIND, "settle": timedelta()})
