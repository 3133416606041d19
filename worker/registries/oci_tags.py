"""The tags of a repository that a plan did not know, as they are right before a deletion."""

import threading
import time
from collections.abc import Mapping

from worker.registries.oci_client import Client

FRESH = 1.0  # seconds for which what one thread saw serves the others


class NewTags:
    """Those of one repository, and what they name: asked once for all the threads of one second."""

    def __init__(self, client: Client, repository: str) -> None:
        self._client, self._repository = client, repository
        self._lock = threading.Lock()
        self._asked_at = float("-inf")  # time.monotonic(), when the asking began
        self._tags: tuple[str, ...] = ()
        self._named: Mapping[str, str] = {}

    def named(self, known: frozenset[str]) -> Mapping[str, str]:
        """Tag -> digest of every tag that is not among these. Raises RegistryError."""
        came = time.monotonic()
        with self._lock:
            if self._asked_at < came - FRESH:
                asked_at = time.monotonic()
                self._tags, self._named = self._client.tags(self._repository) or (), {}
                self._asked_at = asked_at
            unknown = [tag for tag in self._tags if tag not in known]
            unseen = [tag for tag in unknown if tag not in self._named]
            self._named = {**self._named, **self._client.named(self._repository, unseen)}
            return {tag: self._named[tag] for tag in unknown if tag in self._named}
