"""When a registry is due, in its own time zone. Pure: beat, reconcile and the metrics all ask the same function."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

# Where the last due time is looked for first: a line of every minute is not to be walked through for a year.
NEAR = (timedelta(hours=1), timedelta(days=1), timedelta(days=32))


class ScheduleError(ValueError):
    """A cron line or a time zone that cannot be used. A ValueError, because beat survives no other in a schedule."""


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name. Raises ScheduleError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown; a path out of the folder; a folder, as "Europe" is
        raise ScheduleError(f"there is no time zone {name!r}") from error


def due(cron: str, zone: str, after: datetime, now: datetime) -> tuple[datetime | None, datetime]:
    """The last due time in (after, now], None if there is none, and the first one later than both; both UTC.

    Daylight saving, as Debian's cron has it: a line with a fixed minute and hour that falls into the spring gap is due
    at the gap's end, and in the autumn fold once, the first time; a minute or hour that starts with `*` follows the
    wall clock. What a line may be (no `L`, `#`, no sixth field) the configuration has checked.
    Raises ScheduleError.
    """
    if after.tzinfo is None or now.tzinfo is None:
        raise ScheduleError("after and now must be aware")
    after, now = after.astimezone(UTC), now.astimezone(UTC)
    for span in NEAR:
        if now - span > after:
            last, following = _walk(cron, zone, now - span, now)
            if last is not None:
                return last, following
    return _walk(cron, zone, after, now)


def _walk(cron: str, zone: str, after: datetime, now: datetime) -> tuple[datetime | None, datetime]:
    last = None
    for at in _times(cron, zone, after):
        if at > max(after, now):
            return last, at
        if at > after:  # in the fold cronsim may answer with the first pass although asked in the second
            last = at
    raise ScheduleError(f"{cron!r} never comes")


def _times(cron: str, zone: str, after: datetime) -> Iterator[datetime]:
    """Due times from about `after` on, in UTC: within one zone a comparison would ignore the fold."""
    if len(cron.split()) != 5:
        raise ScheduleError(f"{cron!r} does not have five fields")
    try:
        for at in CronSim(cron, after.astimezone(zone_of(zone))):
            yield at.astimezone(UTC)
    except CronSimError as error:
        raise ScheduleError(f"{cron!r}: {str(error).lower()}") from error
