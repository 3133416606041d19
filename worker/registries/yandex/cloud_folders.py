"""Listings of folders that several threads share: one asks, whoever may have its answer waits for it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.registries.yandex.cloud_images import Folder


@dataclass(slots=True)
class _Held:
    lock: threading.Lock = field(default_factory=threading.Lock)
    folder: Folder | None = None
    begun: float = 0.0  # time.monotonic()


class Folders:
    """The newest listing of each folder that was asked for. Safe to use from several threads."""

    def __init__(self, read: Callable[[str], Folder]) -> None:
        self._read = read
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def since(self, path: str, moment: float) -> Folder:
        """A listing that was begun at `moment` (`time.monotonic()`) or later. Raises what reading raises."""
        with self._lock:
            held = self._held.setdefault(path, _Held())
        with held.lock:
            if held.folder is None or held.begun < moment:
                begun = time.monotonic()
                held.folder, held.begun = self._read(path), begun
            return held.folder

    def forget(self, path: str) -> None:
        """Whoever asks for this folder from now on is told of what is there now."""
        with self._lock:
            self._held.pop(path, None)
