"""Deletions as Operations: accepted, running, done or failed, remembered by their idempotency keys."""

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from tests.support.simulator.registry import Cloud, Image, id_from
from tests.support.simulator.status import FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, StatusError
from tests.support.simulator.switches import Switches


@dataclass(frozen=True)
class Objection:
    """Why something cannot be deleted: a google.rpc code, its message, and when it is reported."""

    code: int
    message: str
    at_once: bool  # instead of an operation; else in it


class Deletion(Protocol):
    """The target of an operation: an image of Container Registry, or an artifact of Cloud Registry."""

    @property
    def id(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def metadata(self) -> dict[str, str]:
        """As the operation shows it, with its type."""
        ...

    def objection(self, switches: Switches) -> Objection | None: ...

    def carry_out(self, switches: Switches, at: datetime) -> None:
        """Only after `objection` had none."""
        ...


@dataclass(slots=True)
class SimulatedOperation:
    id: str
    deletion: Deletion
    created_at: datetime
    modified_at: datetime
    finishes_at: datetime | None  # None: never
    done: bool = False
    error: tuple[int, str] | None = None  # a google.rpc code and its message
    doomed: tuple[int, str] | None = None  # the error it will end with, whatever happens


@dataclass(frozen=True)
class OperationFault:
    """The effect of a fault on the next operation."""

    hang: bool = False
    error: tuple[int, str] | None = None


NO_OPERATION_FAULT = OperationFault()


class Operations:
    """Every operation since the start. Nothing runs by itself: `settle` does whatever is due by then."""

    def __init__(self, seed: int = 0) -> None:
        self.by_id: dict[str, SimulatedOperation] = {}
        self.deleting: set[str] = set()  # ids of images and artifacts being deleted now
        self._by_key: dict[str, SimulatedOperation] = {}
        self._due: list[tuple[datetime, int, SimulatedOperation]] = []
        self._random = random.Random(seed)

    def delete(
        self, deletion: Deletion, key: str, switches: Switches, now: datetime, fate: OperationFault = NO_OPERATION_FAULT
    ) -> SimulatedOperation:
        """Accepts a deletion, or raises StatusError where the service refuses at once."""
        known = self._by_key.get(key) if key and switches.idempotency == "remembered" else None
        if known is not None:
            if known.deletion.id != deletion.id:
                raise StatusError(INVALID_ARGUMENT, "Idempotency key was used for another request")
            return known
        objection = None if fate.error else deletion.objection(switches)
        if objection is not None:
            if objection.at_once:
                raise StatusError(objection.code, objection.message)
            fate = replace(fate, error=(objection.code, objection.message))
        operation = self._accept(deletion, switches, now, fate)
        if key:
            self._by_key[key] = operation
        return operation

    def _accept(
        self, deletion: Deletion, switches: Switches, now: datetime, fate: OperationFault
    ) -> SimulatedOperation:
        seconds = self._random.uniform(switches.operation_seconds_from, switches.operation_seconds_to)
        never = fate.hang or switches.operations == "never_done"
        operation = SimulatedOperation(
            id=id_from("operation", deletion.id, str(len(self.by_id))),
            deletion=deletion,
            created_at=now,
            modified_at=now,
            finishes_at=None if never else now + timedelta(seconds=seconds),
            doomed=fate.error,
        )
        self.by_id[operation.id] = operation
        if operation.doomed:
            operation.error = operation.doomed if switches.error_before_done else None
        else:
            self._begin(operation, switches)
        if operation.finishes_at is not None:
            heapq.heappush(self._due, (operation.finishes_at, len(self.by_id), operation))
        return operation

    def _begin(self, operation: SimulatedOperation, switches: Switches) -> None:
        if switches.image_vanishes == "at_acceptance":
            operation.deletion.carry_out(switches, operation.created_at)
        else:
            self.deleting.add(operation.deletion.id)

    def settle(self, now: datetime, switches: Switches) -> None:
        """Finishes every operation that is due."""
        while self._due and self._due[0][0] <= now:
            at, _, operation = heapq.heappop(self._due)
            self._finish(operation, at, switches)

    def _finish(self, operation: SimulatedOperation, at: datetime, switches: Switches) -> None:
        operation.done, operation.modified_at = True, at
        operation.error = operation.doomed
        if operation.error is not None or switches.image_vanishes == "at_acceptance":
            return
        self.deleting.discard(operation.deletion.id)
        # Another operation may have been faster, or an index was pushed meanwhile.
        objection = operation.deletion.objection(switches)
        if objection is not None:
            operation.error = (objection.code, objection.message)
        else:
            operation.deletion.carry_out(switches, at)


@dataclass(frozen=True)
class ImageDeletion:
    """An image of Container Registry, with all its tags."""

    cloud: Cloud
    id: str

    description = "Delete image"

    @property
    def metadata(self) -> dict[str, str]:
        name = "yandex.cloud.containerregistry.v1.DeleteImageMetadata"
        return {"@type": f"type.googleapis.com/{name}", "imageId": self.id}

    def objection(self, switches: Switches) -> Objection | None:
        image = self.cloud.by_id.get(self.id)
        if image is None:
            return Objection(NOT_FOUND, f"Image {self.id} not found", switches.missing_image == "not_found")
        at_once = switches.child_of_index == "refused"
        return used_by(self.cloud, image, image.id, lambda index: [index.id], at_once=at_once)

    def carry_out(self, switches: Switches, at: datetime) -> None:
        take_away(
            self.cloud, self.cloud.by_id[self.id], switches, lambda image: self.cloud.remove(image, by_request=True)
        )


def take_away(cloud: Cloud, image: Image, switches: Switches, remove: Callable[[Image], None]) -> None:
    """Removes an image; with `cascade` an index's children, too, that have no tag and no other index."""
    repository = cloud.registries[image.registry].repositories[image.repository]
    remove(image)
    for digest in image.children if switches.deleted_index == "cascade" else ():
        child = repository.images.get(digest)
        if child is not None and not child.tags and not repository.parents(digest):
            take_away(cloud, child, switches, remove)


def used_by(
    cloud: Cloud, image: Image, name: str, names_of: Callable[[Image], Iterable[str]], *, at_once: bool
) -> Objection | None:
    """The refusal of an image that an index lists, in the words seen of the real service; `names_of` an index."""
    parents = cloud.registries[image.registry].repositories[image.repository].parents(image.digest)
    if not parents:
        return None
    indexes = ", ".join(sorted(name for parent in parents for name in names_of(parent)))
    return Objection(FAILED_PRECONDITION, f"Images {name} are used by image lists {indexes}", at_once)
