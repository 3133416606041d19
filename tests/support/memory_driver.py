"""The drivers of the in-memory registry: one that deletes, and one that also restores."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Self

from policies.image import Image
from tests.support.memory_faults import OWN_ERRORS, Call, error_of
from tests.support.memory_registry import Instance, MemoryOperation, MemoryRegistry, described
from worker.registries.errors import NotFoundError, OperationUnknownError
from worker.registries.interface import Deletion, SavedManifest, Usage


class MemoryDriver:
    """One connection to it. It restores nothing."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self.registry = registry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def _call(self, call: Call, path: str = "", what: str = "") -> None:
        """Record a request; raises the error that a test has planned."""
        self.registry.asked.append((call, path, what))
        fault = next((fault for fault in self.registry.faults if fault.strikes(call, path, what)), None)
        if fault is not None:
            raise error_of(fault, call)

    def usage(self) -> Usage:
        return Usage()

    def clock(self) -> datetime:
        self._call("clock")
        return self.registry.now()

    def repositories(self) -> Iterator[str]:
        self._call("repositories")
        return iter(sorted(self.registry.repositories))

    def images(self, repository: str) -> tuple[Image, ...]:
        self._call("images", repository)
        images = self.registry.repositories.get(repository, {})
        return tuple(described(repository, images[digest]) for digest in sorted(images))

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None) -> Image:
        self._call("get", repository, image.digest)
        return described(repository, self._instance(repository, image.digest))

    def _instance(self, path: str, digest: str) -> Instance:
        instance = self.registry.repositories.get(path, {}).get(digest)
        if instance is None:
            raise NotFoundError("no such image", "production")
        return instance

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        self._call("delete", repository, image.digest)
        return self._told(self.registry.delete(repository, image.id, idempotency_key))

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        self._call("follow")
        operation = self.registry.ask(deletion.operation_id)
        if operation is None:
            raise OperationUnknownError("no such operation", "production", maybe_done=True)
        return self._told(operation)

    def _told(self, operation: MemoryOperation) -> Deletion:
        if operation.done and operation.error is not None:
            raise OWN_ERRORS[operation.error](f"operation {operation.id} failed", "production")
        return Deletion(operation.id, operation.done)


class RestoringMemoryDriver(MemoryDriver):
    """One that Restores."""

    def save(self, repository: str, digest: str) -> SavedManifest:
        self._call("keep", repository, digest)
        return self._instance(repository, digest).kept

    def resolve_tag(self, repository: str, tag: str) -> str | None:
        self._call("tagged", repository, tag)
        return self.registry.tags(repository).get(tag)

    def push_manifest(self, repository: str, kept: SavedManifest, tag: str = "") -> None:
        self._call("put", repository, tag or kept.digest)
        self.registry.take_back(repository, kept, tag)

    def missing_blobs(self, repository: str, digests: Iterable[str]) -> tuple[str, ...]:
        wanted = list(digests)
        self._call("blobs", repository, " ".join(wanted))
        return self.registry.blobs.lost(repository, wanted)

    def mount(self, repository: str, blob: str, source: str) -> bool:
        self._call("mount", repository, f"{blob} from {source}")
        return self.registry.blobs.mount(repository, blob, source)
