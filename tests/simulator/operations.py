"""Deletions as Operations: accepted, running, done or failed, remembered by their idempotency keys."""

import heapq
import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tests.simulator.registry import Cloud, Image, id_from
from tests.simulator.status import FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, StatusError
from tests.simulator.switches import Switches


@dataclass(slots=True)
class Operation:
    id: str
    image_id: str
    created_at: datetime
    modified_at: datetime
    finishes_at: datetime | None  # None: never
    done: bool = False
    error: tuple[int, str] | None = None  # a google.rpc code and its message
    doomed: tuple[int, str] | None = None  # the error it will end with, whatever happens


@dataclass(frozen=True)
class Fate:
    """What a fault makes of the next operation."""

    hang: bool = False
    error: tuple[int, str] | None = None


NO_FATE = Fate()


class Operations:
    """Every operation since the start. Nothing runs by itself: `settle` does whatever is due by then."""

    def __init__(self, cloud: Cloud, seed: int = 0) -> None:
        self.cloud = cloud
        self.by_id: dict[str, Operation] = {}
        self._by_key: dict[str, Operation] = {}
        self._due: list[tuple[datetime, int, Operation]] = []
        self._random = random.Random(seed)

    def delete(self, image_id: str, key: str, switches: Switches, now: datetime, fate: Fate = NO_FATE) -> Operation:
        """Accepts a deletion, or raises StatusError where the service refuses at once."""
        known = self._by_key.get(key) if key and switches.idempotency == "remembered" else None
        if known is not None:
            if known.image_id != image_id:
                raise StatusError(INVALID_ARGUMENT, "Idempotency key was used for another request")
            return known
        doomed = fate.error or self._objection(image_id, switches)
        operation = self._accept(image_id, switches, now, replace(fate, error=doomed))
        if key:
            self._by_key[key] = operation
        return operation

    def _objection(self, image_id: str, switches: Switches) -> tuple[int, str] | None:
        """Why this deletion will fail in its operation; raises StatusError where it is refused at once."""
        image = self.cloud.by_id.get(image_id)
        if image is None:
            objection, at_once = (NOT_FOUND, f"Image {image_id} not found"), switches.missing_image == "not_found"
        elif objection_of := used_by(self.cloud, image):
            objection, at_once = objection_of, switches.child_of_index == "refused"
        else:
            return None
        if at_once:
            raise StatusError(*objection)
        return objection

    def _accept(self, image_id: str, switches: Switches, now: datetime, fate: Fate) -> Operation:
        seconds = self._random.uniform(switches.operation_seconds_from, switches.operation_seconds_to)
        never = fate.hang or switches.operations == "never_done"
        operation = Operation(
            id=id_from("operation", image_id, str(len(self.by_id))),
            image_id=image_id,
            created_at=now,
            modified_at=now,
            finishes_at=None if never else now + timedelta(seconds=seconds),
            doomed=fate.error,
        )
        self.by_id[operation.id] = operation
        if operation.doomed and switches.error_before_done:
            operation.error = operation.doomed
        elif not operation.doomed and switches.image_vanishes == "at_acceptance":
            self._take_away(image_id, switches)
        if operation.finishes_at is not None:
            heapq.heappush(self._due, (operation.finishes_at, len(self.by_id), operation))
        return operation

    def settle(self, now: datetime, switches: Switches) -> None:
        """Finishes every operation that is due."""
        while self._due and self._due[0][0] <= now:
            at, _, operation = heapq.heappop(self._due)
            self._finish(operation, at, switches)

    def _finish(self, operation: Operation, at: datetime, switches: Switches) -> None:
        operation.done, operation.modified_at = True, at
        operation.error = operation.doomed
        if operation.error is not None or switches.image_vanishes == "at_acceptance":
            return
        image = self.cloud.by_id.get(operation.image_id)
        if image is None:  # another operation was faster
            operation.error = (NOT_FOUND, f"Image {operation.image_id} not found")
        elif objection := used_by(self.cloud, image):  # an index was pushed meanwhile
            operation.error = objection
        else:
            self._take_away(operation.image_id, switches)

    def _take_away(self, image_id: str, switches: Switches) -> None:
        image = self.cloud.by_id[image_id]
        self.cloud.remove(image, by_request=True)
        if switches.deleted_index == "cascade":
            self._cascade(image)

    def _cascade(self, index: Image) -> None:
        """Takes the children along that have no tag and no other index."""
        repository = self.cloud.registries[index.registry].repositories[index.repository]
        for digest in index.children:
            child = repository.images.get(digest)
            if child is not None and not child.tags and not repository.parents(digest):
                self.cloud.remove(child, by_request=True)
                self._cascade(child)


def used_by(cloud: Cloud, image: Image) -> tuple[int, str] | None:
    """The refusal of an image that an index lists, in the words seen of the real service."""
    parents = cloud.registries[image.registry].repositories[image.repository].parents(image.digest)
    if not parents:
        return None
    return (
        FAILED_PRECONDITION,
        f"Images {image.id} are used by image lists {', '.join(sorted(parent.id for parent in parents))}",
    )
