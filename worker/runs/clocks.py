"""Compares the clocks of this process, the store and the registry.

Ages, leases and schedules mix readings of all three. Where two clocks are surely more than five minutes apart no age
can be trusted: nothing is planned, and nothing is deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

from sqlalchemy import Connection

from worker.registries.interface import Registry
from worker.store import Store
from worker.text import instant

SKEW = timedelta(minutes=5)
RESOLUTION = timedelta(seconds=1)  # of the header `Date`

Clock = Callable[[], datetime]  # this process's: aware, UTC


class ClockError(Exception):
    """Two clocks disagree."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A clock's time, and this process's time before and after the request: a slow reply is no disagreement."""

    whose: str  # "the registry's"
    at: datetime
    asked: datetime
    answered: datetime
    resolution: timedelta = timedelta(0)

    @property
    def ahead(self) -> tuple[timedelta, timedelta]:
        """The least and the most that the clock is ahead of this process's."""
        return self.at - self.answered, self.at + self.resolution - self.asked


def check_clocks(ours: Clock, store: Store | None, registry: Registry | None = None) -> None:
    """Raises ClockError, StoreError, RegistryError."""
    readings = []
    if store is not None:
        with store.read() as connection:
            readings.append(read_store_clock(ours, store, connection))
    if registry is not None:
        asked = ours()
        at = registry.clock()
        readings.append(ClockReading("the registry's", at, asked, ours(), RESOLUTION))
    if (wrong := disagreement(readings)) is not None:
        raise ClockError(wrong)


def read_store_clock(ours: Clock, store: Store, connection: Connection) -> ClockReading:
    """The store's time now. With this process's time before and after the query. In the caller's transaction. Raises
    StoreError.
    """
    asked = ours()
    at = store.now(connection)
    return ClockReading("the store's", at, asked, ours())


def disagreement(readings: list[ClockReading]) -> str | None:
    """The message about two clocks, this process's included, that are too far apart; None: no two are."""
    if not readings:
        return None
    own = ClockReading("this machine's", readings[-1].answered, readings[-1].answered, readings[-1].answered)
    for reading, other in combinations([own, *readings], 2):
        (low, high), (other_low, other_high) = reading.ahead, other.ahead
        if max(low - other_high, other_low - high) > SKEW:  # the least distance
            return (
                f"{reading.whose} clock ({instant(reading.at)}) is more than 5 minutes from {other.whose} "
                f"({instant(other.at)}); ages cannot be trusted, set the clock"
            )
    return None
