"""The registry in memory as a process of a history sees it: with halts, faults, and notes of what it read and sent."""

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
    """One process's connection."""

    def __init__(self, process: Process, manifests: ManifestCache) -> None:
        super().__init__(process.world.registry)
        self._manifests = manifests
        self._process = process
        self._world = process.world
        self._usage = Usage()

    def usage(self) -> Usage:
        spent, self._usage = self._usage, Usage()
        return spent

    def _call(self, call: Call, path: str = "", what: str = "") -> None:
        """A request goes out: halts, faults, and what the registry did meanwhile."""
        self._process.point(call)
        with self._world.lock:
            self.registry.settle()
            fault = next((one for one in self.registry.faults if one.strikes(call, path, what)), None)
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
            there = dict(self.registry.repositories[repository])
            self._process.listings[repository] = there
        self._process.point("listed")
        images = tuple(listed(repository, held) for held in there.values())
        wanted = [image.digest for image in images if image.config is None]
        if not wanted:
            return images
        found = read_through(self._manifests, wanted, lambda digests: self._read(repository, digests))
        return tuple(resolved(one, found.get(one.digest)) if one.config is None else one for one in images)

    def _read(self, repository: str, digests: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        return {digest: self._manifest(repository, digest) for digest in digests}

    def _manifest(self, repository: str, digest: str) -> Manifest | RegistryError:
        try:
            self._call("manifests", repository)
            held = self.registry.repositories.get(repository, {}).get(digest)
            if held is None:
                raise NotFoundError("no such manifest", "production")
        except RegistryError as error:
            self._process.unread.add((repository, digest))
            return error
        return Manifest(digest, held.content.media_type, held.content.children, held.content.subject)

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None) -> Image:
        self._call("get", repository)
        with self._world.lock:
            held = next((one for _, one in self.registry.instances() if one.id == image.id), None)
            if held is None:
                raise NotFoundError("no such image", "production")
            facts = (held.digest, held.tags, held.created_at)
            self._process.readings[image.id] = Reading(self._world.tick(), facts)
        return listed(repository, held)

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        self._process.point("delete")
        operation = None
        with self._world.lock:
            self.registry.settle()
            fault = next((one for one in self.registry.faults if one.strikes("delete", repository)), None)
            if fault is None or fault.error not in (LIMITER, "too_late"):
                if not_after is not None and time.monotonic() >= not_after:
                    raise TooLateError("read too long ago", "production")
                self._world.ledger.deletion_sent(self._process, repository, image, idempotency_key)
            self._count("delete", "200" if fault is None else fault.told())
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
            if operation is not None and not operation.done:  # it is waited for, until nobody waits any longer
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
