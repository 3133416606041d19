"""The model behind the interface that every registry has: what one process sees of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from policies.image import Image
from tests.support.model import OWN_ERRORS, Operation, listed
from tests.support.model_faults import LIMITER, Call, error_of
from tests.system.histories.process import Process, Reading
from worker.registries.docker.manifest_cache import read_through, resolved
from worker.registries.errors import NotFoundError, OperationUnknownError, RegistryError, TooLateError
from worker.registries.interface import Deletion, Manifest, Manifests, Usage


class Driver:
    """One process's connection to the model."""

    def __init__(self, process: Process, manifests: Manifests) -> None:
        self._manifests = manifests
        self._process = process
        self._world = process.world
        self._model = process.world.model
        self._usage = Usage()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *exc: object) -> None: ...

    def usage(self) -> Usage:
        spent, self._usage = self._usage, Usage()
        return spent

    def _call(self, call: Call, path: str | None = None) -> None:
        """A request goes out: halts, faults, and what the registry did meanwhile."""
        self._process.point(call)
        with self._world.lock:
            self._model.settle()
            fault = next((one for one in self._model.faults if one.strikes(call, path)), None)
            self._count(call, fault.error if fault else "200")
        if fault is not None:
            raise error_of(fault, call)

    def _count(self, call: Call, code: str) -> None:
        if code != LIMITER:
            key = (call, code)
            self._usage.requests[key] = self._usage.requests.get(key, 0) + 1
        if code != "200":
            self._world.stats[f"fault: {call} {code}"] += 1

    def clock(self) -> datetime:
        self._call("clock")
        return self._model.now()

    def repositories(self) -> Iterator[str]:
        self._call("repositories")
        return iter(sorted(self._model.repositories))

    def images(self, repository: str) -> tuple[Image, ...]:
        self._process.began_listing[repository] = self._world.true_time
        try:
            self._call("images", repository)
            if repository not in self._model.repositories:
                raise NotFoundError("no such repository", "production")
        except RegistryError:
            self._process.refused.add(repository)
            raise
        with self._world.lock:
            there = dict(self._model.repositories[repository])
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
            held = self._model.repositories.get(repository, {}).get(digest)
            if held is None:
                raise NotFoundError("no such manifest", "production")
        except RegistryError as error:
            self._process.unread.add((repository, digest))
            return error
        return Manifest(digest, held.content.media_type, held.content.children, held.content.subject)

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None) -> Image:
        self._call("get", repository)
        with self._world.lock:
            held = next((one for _, one in self._model.instances() if one.id == image.id), None)
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
            self._model.settle()
            fault = next((one for one in self._model.faults if one.strikes("delete", repository)), None)
            if fault is None or fault.error not in (LIMITER, "too_late"):
                if not_after is not None and time.monotonic() >= not_after:
                    raise TooLateError("read too long ago", "production")
                self._world.ledger.deletion_sent(self._process, repository, image, idempotency_key)
            self._count("delete", "200" if fault is None else fault.told())
            if fault is None or fault.lost == "lost and done":
                operation = self._model.delete(repository, image.id, idempotency_key)
        self._process.point("answer")
        if fault is not None:
            raise error_of(fault, "delete")
        assert operation is not None
        return self._told(operation)

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        self._call("follow")
        with self._world.lock:
            operation = self._model.ask(deletion.operation_id)
            if operation is not None and not operation.done:  # it is waited for, until nobody waits any longer
                self._world.pass_time(timedelta(seconds=max(0.0, deadline - time.monotonic())))
        self._process.point("answer")
        if operation is None:
            unknown = OperationUnknownError("no such operation", "production")
            unknown.maybe_done = True
            raise unknown
        return self._told(operation)

    def _told(self, operation: Operation) -> Deletion:
        self._world.stats[f"operation: {operation.fate.kind}"] += 1
        if operation.done and operation.error is not None:
            raise OWN_ERRORS[operation.error](f"operation {operation.id} failed", "production")
        return Deletion(operation.id, operation.done)
