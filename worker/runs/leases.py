"""Keeps a lease alive while its holder works, from a thread of its own, and says when it was lost."""

import os
import socket
import threading
from datetime import timedelta

from worker.store import Store, StoreError, leases
from worker.store.leases import Lease


class Heartbeat:
    """Renews a lease every third of the time that it `lasts`. `lost` is set, and the beating ends, when it was lost.

    A store that cannot be written is left to the next beat: the lease itself runs out when nobody can renew it.
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
    """Who holds a lease, for people who read the store."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
