"""The one check of every clock that decides something: this process's, the store's, the registry's.

Ages, leases and schedules mix readings of all three. Where two of them are surely more than five minutes apart no age
can be believed: nothing is planned, and nothing is deleted.
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
    """What a clock showed, and between which two readings of this process's: that it was asked slowly is no fault."""

    whose: str  # "the registry's"
    at: datetime
    asked: datetime
    answered: datetime
    resolution: timedelta = timedelta(0)

    @property
    def ahead(self) -> tuple[timedelta, timedelta]:
        """At least and at most how far it is ahead of this process's clock."""
        return self.at - self.answered, self.at + self.resolution - self.asked


def check(ours: Clock, store: Store | None, registry: Registry | None = None) -> None:
    """Raises ClockError, StoreError, RegistryError."""
    shown = []
    if store is not None:
        with store.read() as connection:
            shown.append(of_store(ours, store, connection))
    if registry is not None:
        asked = ours()
        at = registry.clock()
        shown.append(ClockReading("the registry's", at, asked, ours(), RESOLUTION))
    if (wrong := disagreement(shown)) is not None:
        raise ClockError(wrong)


def of_store(ours: Clock, store: Store, connection: Connection) -> ClockReading:
    """What the store's clock shows now."""
    asked = ours()
    at = store.now(connection)
    return ClockReading("the store's", at, asked, ours())


def disagreement(shown: list[ClockReading]) -> str | None:
    """What is to be said of two clocks, this process's among them, that are too far apart; None: no two are."""
    if not shown:
        return None
    own = ClockReading("this machine's", shown[-1].answered, shown[-1].answered, shown[-1].answered)
    for one, other in combinations([own, *shown], 2):
        (low, high), (other_low, other_high) = one.ahead, other.ahead
        if max(low - other_high, other_low - high) > SKEW:  # so far they are apart at least
            return (
                f"{one.whose} clock ({instant(one.at)}) is more than 5 minutes from {other.whose} "
                f"({instant(other.at)}); ages cannot be believed, set the clock"
            )
    return None
