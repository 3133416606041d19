"""Keeps a lease alive while its holder works, from a thread of its own, and says when it was lost."""

import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta


class Heartbeat:
    """Calls `renew` every third of a lease. `lost` is set, and the beating ends, when renewing fails for good.

    `renew` answers False, or raises one of `lost_by`, when the lease is no longer ours; any other error is left to
    the next beat: the lease itself runs out when nobody can renew it.
    """

    def __init__(self, lease: timedelta, renew: Callable[[], bool], *, forgiven: tuple[type[Exception], ...]) -> None:
        self.lost = threading.Event()
        self._stop = threading.Event()
        self._pause = lease.total_seconds() / 3
        self._renew = renew
        self._forgiven = forgiven
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _beat(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                held = self._renew()
            except self._forgiven:
                continue
            if not held:
                self.lost.set()
                return


def identity() -> str:
    """Who holds a lease, for people who read the store."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
