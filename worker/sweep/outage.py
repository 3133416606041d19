"""Waits for a registry that does not answer: a server restarts in seconds, which is no reason to fail images."""

import threading
import time

from worker.registries.errors import RegistryError, UnavailableError
from worker.registries.interface import Registry

LONGEST = 20.0  # seconds of waiting
POLL = 0.5  # seconds


class OutageWait:
    """One wait, shared by all threads of a batch. Safe to use from several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._answered_at = 0.0  # time.monotonic()
        self._given_up = False
        self.was_seen = False  # the registry did not answer for a while

    def is_over(self, failed_at: float, deadline: float) -> bool:
        """Whether the registry answers after a failure at `failed_at`; waits once, until `deadline`.

        Both are of `time.monotonic()`. Raises LimiterUnavailableError.
        """
        with self._lock:
            if self._answered_at > failed_at:
                return True
            ends = min(deadline, time.monotonic() + LONGEST)
            while not self._given_up:
                if self._answers():
                    self._answered_at = time.monotonic()
                    return True
                self.was_seen = True
                self._given_up = time.monotonic() + POLL > ends
                if not self._given_up:
                    time.sleep(POLL)
            return False

    def _answers(self) -> bool:
        try:
            self._registry.clock()
        except UnavailableError:
            return False
        except RegistryError:
            return True  # an error is an answer, too
        return True
