"""When a registry is due, in its own time zone. Pure: beat, reconcile and the metrics call the same function."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

# Where the last due time is searched first: a line of every minute is not to be walked through for a year.
NEAR = (timedelta(hours=1), timedelta(days=1), timedelta(days=32))
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


class ScheduleError(ValueError):
    """An unusable cron line or time zone. A ValueError: beat survives no other error in a schedule."""


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name. `name`: of the IANA time zone database, for example `Europe/Berlin`. Raises
    ScheduleError: there is none.
    """
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
    for at in _times(cron, zone_of(zone), after):
        if at > max(after, now):
            return last, at
        if at > after:  # in the second pass of the fold a fixed time is due in the first
            last = at
    raise ScheduleError(f"{cron!r} is never due")


def _times(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Due times from about `after` on, in UTC, in order.

    cronsim only walks the wall clock, without a zone: its own changes of the clock are whole hours.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ScheduleError(f"{cron!r} does not have five fields")
    follows_the_wall_clock = fields[0].startswith("*") or fields[1].startswith("*")
    try:
        yield from (_by_wall_clock if follows_the_wall_clock else _at_fixed_times)(cron, zone, after)
    except CronSimError as error:
        raise ScheduleError(f"{cron!r}: {str(error).lower()}") from error


def _at_fixed_times(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Each time of the wall clock once: in the fold its first pass, in the gap the gap's end."""
    for wall in CronSim(cron, after.astimezone(zone).replace(tzinfo=None)):
        at = wall.replace(tzinfo=zone).astimezone(UTC)
        # In the gap, read as if the clock had not been changed yet.
        if at.astimezone(zone).replace(tzinfo=None) != wall:
            changed = _change(zone, at - DAY, at)
            at = at if changed is None else changed
        yield at


def _by_wall_clock(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Whenever the wall clock matches, from one change of the clock to the next: in a fold twice, in a gap never."""
    start, offset = after, _offset(zone, after)
    walls = CronSim(cron, (start + offset).replace(tzinfo=None))
    while True:
        changed = None
        for wall in walls:
            at = wall.replace(tzinfo=UTC) - offset
            if (changed := _change(zone, start, at)) is not None:
                break
            start = at
            yield at
        if changed is None:
            return
        start, offset = changed, _offset(zone, changed)
        walls = CronSim(cron, (start + offset - SECOND).replace(tzinfo=None))  # right after the change it may match


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _change(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The first instant in (after, until] at which the clock is put forward or back, to the second."""
    offset = _offset(zone, after)
    while after < until:
        low, high = after, min(after + DAY, until)
        if _offset(zone, high) != offset:
            while high - low > SECOND:
                middle = low + (high - low) // 2
                low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
            return high.replace(microsecond=0)
        after = high
    return None
