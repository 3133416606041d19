"""Renews a lease from a thread while its holder works, and reports when it was lost."""

import os
import socket
import threading
from datetime import timedelta

from worker.store import Store, StoreError, leases
from worker.store.leases import Lease


class Heartbeat:
    """Renews a lease every third of the time that it `lasts`. When the lease is lost it sets `lost` and ends.

    If the store cannot be written, the next beat tries again: a lease that nobody can renew expires by itself.
    """

    def __init__(self, store: Store, lease: Lease, lasts: timedelta) -> None:
        self.lost = threading.Event()
        self._stop = threading.Event()
        self._store = store
        self._lease = lease
        self._lasts = lasts
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _beat(self) -> None:
        while not self._stop.wait(self._lasts.total_seconds() / 3):
            try:
                with self._store.write() as connection:
                    now = self._store.now(connection)
                    held = leases.renew(connection, self._lease, now, now + self._lasts)
            except StoreError:
                continue
            if not held:
                self.lost.set()
                return


def identity() -> str:
    """The holder of a lease, for people who read the store."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
