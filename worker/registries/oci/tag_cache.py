"""The tags of a repository as they are around a deletion: what they name before it, and which are there after it."""

import threading
import time
from collections.abc import Mapping

from worker.registries.oci.client import Client

FRESH = 1.0  # seconds for which what one thread saw serves the others


class Tags:
    """Those of one repository: asked once for all the threads of one second.

    `few`: of so many tags or fewer all are read anew, of more only those that the caller does not know.
    """

    def __init__(self, client: Client, repository: str, few: int) -> None:
        self._client, self._repository, self._few = client, repository, few
        self._lock = threading.Lock()
        self._asked_at = float("-inf")  # time.monotonic(), when the asking began
        self._tags: tuple[str, ...] = ()
        self._named: Mapping[str, str] = {}

    def named(self, known: frozenset[str]) -> Mapping[str, str]:
        """Tag -> digest of every tag that is not among these, or of all if they are few.

        Raises BadAnswerError for a tag that is not among these and whose manifest is not there, though it is listed:
        it may need anything. Raises any other RegistryError.
        """
        came = time.monotonic()
        with self._lock:
            self._ask(came - FRESH)
            wanted = [tag for tag in self._tags if len(self._tags) <= self._few or tag not in known]
            unseen = [tag for tag in wanted if tag not in self._named]
            named = self._client.named(self._repository, unseen)
            lost = [tag for tag in unseen if tag not in named and tag not in known]
            resolved = self._client.resolved(self._repository, lost)
            self._named = {**self._named, **named, **{tag: one.digest for tag, one in resolved.items()}}
            return {tag: self._named[tag] for tag in wanted if tag in self._named}

    def last(self) -> frozenset[str]:
        """The tags as they were listed last."""
        with self._lock:
            return frozenset(self._tags)

    def since(self, moment: float) -> frozenset[str]:
        """The tags by a listing that began at `moment` (time.monotonic()) or later. Raises RegistryError."""
        with self._lock:
            self._ask(moment)
            return frozenset(self._tags)

    def _ask(self, moment: float) -> None:
        if self._asked_at < moment:
            asked_at = time.monotonic()
            self._tags, self._named = self._client.tags(self._repository) or (), {}
            self._asked_at = asked_at
