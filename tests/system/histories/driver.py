"""The in-memory registry's driver in a history: it passes points, applies faults, and records reads and requests."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from policies.image import Image
from tests.support.memory_driver import MemoryDriver
from tests.support.memory_faults import LIMITER, Call, error_of
from tests.support.memory_registry import MemoryOperation, listed
from tests.system.histories.process import Process, Reading
from worker.registries.docker.manifest_cache import read_through, resolved
from worker.registries.errors import NotFoundError, OperationUnknownError, RegistryError, TooLateError
from worker.registries.interface import Deletion, Manifest, ManifestCache, Usage


class HistoryDriver(MemoryDriver):
    """The connection of one process."""

    def __init__(self, process: Process, manifests: ManifestCache) -> None:
        super().__init__(process.history.registry)
        self._manifests = manifests
        self._process = process
        self._world = process.history
        self._usage = Usage()

    def usage(self) -> Usage:
        spent, self._usage = self._usage, Usage()
        return spent

    def _call(self, call: Call, path: str = "", what: str = "") -> None:
        """Send a request: pass its point, let due operations finish, and raise the fault if one is planned."""
        self._process.point(call)
        with self._world.lock:
            self.registry.settle()
            fault = next((fault for fault in self.registry.faults if fault.strikes(call, path, what)), None)
            self._count(call, fault.error if fault else "200")
        if fault is not None:
            raise error_of(fault, call)

    def _count(self, call: Call, code: str) -> None:
        if code != LIMITER:
            key = (call, code)
            self._usage.requests[key] = self._usage.requests.get(key, 0) + 1
        if code != "200":
            self._world.stats[f"fault: {call} {code}"] += 1

    def images(self, repository: str) -> tuple[Image, ...]:
        self._process.began_listing[repository] = self._world.true_time
        try:
            self._call("images", repository)
            if repository not in self.registry.repositories:
                raise NotFoundError("no such repository", "production")
        except RegistryError:
            self._process.refused.add(repository)
            raise
        with self._world.lock:
            instances = dict(self.registry.repositories[repository])
            self._process.listings[repository] = instances
        self._process.point("listed")
        images = tuple(listed(repository, instance) for instance in instances.values())
        wanted = [image.digest for image in images if image.config is None]
        if not wanted:
            return images
        manifests = read_through(self._manifests, wanted, lambda digests: self._read(repository, digests))
        return tuple(
            resolved(image, manifests.get(image.digest)) if image.config is None else image for image in images
        )

    def _read(self, repository: str, digests: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        return {digest: self._manifest(repository, digest) for digest in digests}

    def _manifest(self, repository: str, digest: str) -> Manifest | RegistryError:
        try:
            self._call("manifests", repository)
            instance = self.registry.repositories.get(repository, {}).get(digest)
            if instance is None:
                raise NotFoundError("no such manifest", "production")
        except RegistryError as error:
            self._process.unread.add((repository, digest))
            return error
        return Manifest(digest, instance.content.media_type, instance.content.children, instance.content.subject)

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None) -> Image:
        self._call("get", repository)
        with self._world.lock:
            instance = next((stored for _, stored in self.registry.instances() if stored.id == image.id), None)
            if instance is None:
                raise NotFoundError("no such image", "production")
            facts = (instance.digest, instance.tags, instance.created_at)
            self._process.readings[image.id] = Reading(self._world.tick(), facts)
        return listed(repository, instance)

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        self._process.point("delete")
        operation = None
        with self._world.lock:
            self.registry.settle()
            fault = next((fault for fault in self.registry.faults if fault.strikes("delete", repository)), None)
            if fault is None or fault.error not in (LIMITER, "too_late"):
                if not_after is not None and time.monotonic() >= not_after:
                    raise TooLateError("read too long ago", "production")
                self._world.invariants.deletion_sent(self._process, repository, image, idempotency_key)
            self._count("delete", "200" if fault is None else fault.label())
            if fault is None or fault.lost == "lost and done":
                operation = self.registry.delete(repository, image.id, idempotency_key)
        self._process.point("answer")
        if fault is not None:
            raise error_of(fault, "delete")
        assert operation is not None
        return self._told(operation)

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        self._call("follow")
        with self._world.lock:
            operation = self.registry.ask(deletion.operation_id)
            if operation is not None and not operation.done:  # `follow` waits until its deadline
                self._world.pass_time(timedelta(seconds=max(0.0, deadline - time.monotonic())))
        self._process.point("answer")
        if operation is None:
            unknown = OperationUnknownError("no such operation", "production")
            unknown.maybe_done = True
            raise unknown
        return self._told(operation)

    def _told(self, operation: MemoryOperation) -> Deletion:
        self._world.stats[f"operation: {operation.fate.kind}"] += 1
        return super()._told(operation)
