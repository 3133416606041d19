"""Reads what a program writes, without waiting for what the program has left running and that still holds the pipe."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO

PIECE = 4096


class PipeReader(threading.Thread):
    """Reads on its own, to the end or until `kept` is `enough`. A daemon: what is left running may write for ever."""

    def __init__(
        self,
        pipe: IO[bytes] | None,
        keep: Callable[[bytes], bytes],
        enough: Callable[[bytes], bool] = lambda _kept: False,
    ) -> None:
        """`keep`: what is kept of what was read so far."""
        super().__init__(daemon=True)
        self._pipe, self._keep, self._enough = pipe, keep, enough
        self.kept = b""
        self.start()

    def run(self) -> None:
        if self._pipe is None:
            return
        with self._pipe as pipe, suppress(OSError):
            while not self._enough(self.kept) and (piece := os.read(pipe.fileno(), PIECE)):
                self.kept = self._keep(self.kept + piece)

    def ended(self, seconds: float = 1.0) -> bytes:
        """What was kept, once the program has ended: what it wrote last may take a moment to be read."""
        self.join(seconds)
        return self.kept
