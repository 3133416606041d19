"""When a registry is due: both changes of daylight saving in several zones, and properties of every cron line."""

from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.runs.schedule import ScheduleError, due, zone_of

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
ZONES = [
    "UTC",
    "Europe/Moscow",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Cairo",
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def all_due(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Every due time in (start, end], asked one after the other, as beat does."""
    times, at = [], start
    while (at := due(cron, zone, at, at)[1]) <= end:
        times.append(at)
    return times


@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        pytest.param("0 3 * * *", "UTC", "2026-11-24", ["03:00"], id="UTC"),
        pytest.param("0 3 * * *", "Europe/Moscow", "2026-11-24", ["00:00"], id="Moscow has no daylight saving"),
        pytest.param("0 3 * * *", "Asia/Kathmandu", "2026-11-24", ["21:15"], id="a zone of 5 h 45"),
        pytest.param("30 2 * * *", "Europe/Berlin", "2027-03-28", ["01:00"], id="in the gap: at its end"),
        pytest.param("0 2 * * *", "Europe/Berlin", "2027-03-28", ["01:00"], id="the gap's first minute"),
        pytest.param("0 3 * * *", "Europe/Berlin", "2027-03-28", ["01:00"], id="right after the gap"),
        pytest.param(
            "30 1 * * *", "Europe/Berlin", "2027-03-28", ["00:30", "23:30"], id="before the gap, and the day after"
        ),
        pytest.param("0,30 2 * * *", "Europe/Berlin", "2027-03-28", ["01:00"], id="two in the gap are one"),
        pytest.param("*/15 2 * * *", "Europe/Berlin", "2027-03-28", [], id="the wall clock skips the gap"),
        pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-25", ["00:30"], id="in the fold: the first time only"),
        pytest.param("0 3 * * *", "Europe/Berlin", "2026-10-25", ["02:00"], id="after the fold"),
        pytest.param(
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-25",
            ["00:00", "00:30", "01:00", "01:30"],
            id="the wall clock doubles",
        ),
        pytest.param("30 2 * * *", "America/New_York", "2027-03-14", ["07:00"], id="New York's gap"),
        pytest.param("30 1 * * *", "America/New_York", "2026-11-01", ["05:30"], id="New York's fold"),
        pytest.param("15 2 * * *", "Australia/Lord_Howe", "2026-10-03", ["15:30"], id="a gap of half an hour"),
        pytest.param("15 2 * * *", "Australia/Lord_Howe", "2025-04-05", ["15:45"], id="after a fold of half an hour"),
        pytest.param("45 1 * * *", "Australia/Lord_Howe", "2025-04-05", ["14:45"], id="in a fold of half an hour"),
        pytest.param(
            "*/15 2 * * *",
            "Australia/Lord_Howe",
            "2025-04-05",
            ["15:30", "15:45", "16:00", "16:15"],
            id="the wall clock after a fold of half an hour",
        ),
        pytest.param(
            "*/15 1 * * *",
            "Australia/Lord_Howe",
            "2025-04-05",
            ["14:00", "14:15", "14:30", "14:45", "15:00", "15:15"],
            id="the wall clock in a fold of half an hour",
        ),
        pytest.param(
            "*/15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03",
            ["15:30", "15:45"],
            id="the wall clock in a gap of half an hour",
        ),
        pytest.param("*/30 2 * * *", "Antarctica/Troll", "2026-03-29", [], id="a gap of two hours"),
        pytest.param("30 0 * * *", "Africa/Cairo", "2027-04-29", ["22:00"], id="a gap at midnight"),
        pytest.param("0 3 13 * 5", "UTC", "2026-11-13", ["03:00"], id="day of month or day of week: both"),
        pytest.param("0 3 13 * 5", "UTC", "2026-11-20", ["03:00"], id="day of month or day of week: the week"),
        pytest.param("0 3 13 * 5", "UTC", "2026-11-14", [], id="day of month or day of week: neither"),
        pytest.param("0 3 * * MON-FRI", "UTC", "2026-11-22", [], id="names of days"),
    ],
)
def test_the_due_times_of_a_day(cron, zone, day, expected):
    start = utc(f"{day}T00:00") - MINUTE
    assert [f"{at:%H:%M}" for at in all_due(cron, zone, start, start + DAY)] == expected


@pytest.mark.parametrize(
    ("after", "now", "last", "following"),
    [
        pytest.param("2026-11-23T12:00", "2026-11-24T02:59", None, "2026-11-24T03:00", id="not yet"),
        pytest.param(
            "2026-11-23T12:00", "2026-11-24T03:00", "2026-11-24T03:00", "2026-11-25T03:00", id="the very minute"
        ),
        pytest.param("2026-11-24T03:00", "2026-11-24T03:00", None, "2026-11-25T03:00", id="after is not included"),
        pytest.param("2026-11-20T00:00", "2026-11-24T12:00", "2026-11-24T03:00", "2026-11-25T03:00", id="several"),
        pytest.param("2020-01-01T00:00", "2026-11-24T02:00", "2026-11-23T03:00", "2026-11-24T03:00", id="years"),
        pytest.param("2026-12-24T12:00", "2026-11-24T12:00", None, "2026-12-25T03:00", id="set back"),
    ],
)
def test_finds_the_last_and_the_next_due_time(after, now, last, following):
    assert due("0 3 * * *", "UTC", utc(after), utc(now)) == (last and utc(last), utc(following))


def test_in_the_second_pass_of_the_fold_the_first_pass_is_past():
    second_pass = utc("2026-10-25T01:10")  # 02:10 in Berlin for the second time
    last, following = due("30 2 * * *", "Europe/Berlin", second_pass, second_pass + MINUTE)
    assert (last, following) == (None, utc("2026-10-26T01:30"))


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        pytest.param("0 3 * *", "five fields", id="four fields"),
        pytest.param("0 0 3 * * *", "five fields", id="six fields"),
        pytest.param("", "five fields", id="empty"),
        pytest.param("60 3 * * *", "bad minute", id="minute 60"),
        pytest.param("0 3 30 2 *", "bad day-of-month", id="30 February"),
    ],
)
def test_rejects_an_invalid_cron_line(cron, says):
    with pytest.raises(ScheduleError, match=says):
        due(cron, "UTC", utc("2026-01-01T00:00"), utc("2026-01-01T00:00"))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe", "/etc/localtime"])
def test_rejects_an_unknown_time_zone(zone):
    with pytest.raises(ScheduleError, match="no time zone"):
        zone_of(zone)


def test_rejects_naive_times():
    with pytest.raises(ScheduleError, match="aware"):
        due("0 3 * * *", "UTC", datetime(2026, 1, 1), utc("2026-01-01T00:00"))  # noqa: DTZ001 -- the naive time is the point


fixed = st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23))
moving = st.sampled_from(["*/7 * * * *", "5 */3 * * *", "* 2 * * *", "*/20 0-5 * * MON,SUN", "1 1 1-20/3 3,10,11 *"])
lines = st.one_of(fixed, moving)
moments = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- Hypothesis wants them bare
spans = st.timedeltas(timedelta(0), timedelta(days=3))


@given(lines, st.sampled_from(ZONES), moments, spans)
@settings(max_examples=200, deadline=None)
def test_the_last_due_time_is_within_and_the_next_beyond(cron, zone, after, span):
    now = after + span
    last, following = due(cron, zone, after, now)
    assert following > now
    assert last is None or after < last <= now


@given(lines, st.sampled_from(ZONES), moments, spans)
@settings(max_examples=100, deadline=None)
def test_one_long_step_finds_the_same_as_many_short_steps(cron, zone, after, span):
    times = all_due(cron, zone, after, after + span)
    assert times == sorted(set(times))
    assert due(cron, zone, after, after + span)[0] == (times[-1] if times else None)


@given(fixed, st.sampled_from(ZONES), moments)
@settings(max_examples=200, deadline=None)
def test_a_daily_line_comes_once_every_local_day(cron, zone, start):
    """No local day is left out and none has two, whatever the clocks do."""
    times = all_due(cron, zone, start, start + timedelta(days=9))
    days = [at.astimezone(zone_of(zone)).date() for at in times]
    assert days == [days[0] + n * DAY for n in range(len(days))]


def changes(zone: str, year: int = 2025, years: int = 3) -> list[datetime]:
    """When the clocks of a zone are put forward or back, to the quarter of an hour. No two changes are on one day."""

    def differ(start: datetime, length: timedelta, count: int) -> list[datetime]:
        """The instants, out of these after `start`, before whose successor the clocks go forward or back."""
        instants = [start + n * length for n in range(count + 1)]
        offsets = [at.astimezone(zone_of(zone)).utcoffset() for at in instants]
        return [at for at, before, after in zip(instants, offsets, offsets[1:], strict=False) if before != after]

    quarter = timedelta(minutes=15)
    days = differ(datetime(year, 1, 1, tzinfo=UTC), DAY, years * 365 - 1)
    return [at + quarter for day in days for at in differ(day, quarter, 24 * 4)]


CHANGING = ["Australia/Lord_Howe", "Europe/Berlin", "America/St_Johns", "Antarctica/Troll", "Africa/Cairo"]
CHANGES = [(zone, at) for zone in CHANGING for at in changes(zone)]  # by half an hour, an hour and two hours
wall_clock = st.one_of(
    st.builds("* {} * * *".format, st.integers(0, 23)),
    st.builds("*/{} {}-{} * * *".format, st.integers(1, 59), st.integers(0, 2), st.integers(2, 23)),
    st.builds("{} * * * *".format, st.integers(0, 59)),
    st.builds("{},{} */{} * * *".format, st.integers(0, 59), st.integers(0, 59), st.integers(1, 23)),
)


@given(wall_clock, st.sampled_from(CHANGES), st.timedeltas(timedelta(hours=-5), timedelta(hours=3)))
@settings(max_examples=100, deadline=None)
def test_a_line_of_the_wall_clock_comes_whenever_the_wall_clock_matches(cron, change, before):
    """Against a walk through every minute around a change of the clock."""
    zone, changed = change
    first = (changed + before).replace(second=0, microsecond=0)
    instants = [first + n * MINUTE for n in range(1, 6 * 60)]
    walls = [at.astimezone(zone_of(zone)).replace(tzinfo=None) for at in instants]
    expected = [at for at, wall in zip(instants, walls, strict=True) if next(CronSim(cron, wall - MINUTE)) == wall]
    assert all_due(cron, zone, first, instants[-1]) == expected


@given(fixed, st.sampled_from(CHANGES), st.timedeltas(timedelta(hours=-30), timedelta(hours=3)))
@settings(max_examples=100, deadline=None)
def test_a_fixed_time_comes_when_the_wall_clock_first_shows_it_or_has_passed_it(cron, change, before):
    """Against a walk through every minute around a change of the clock: in the gap it is due at the gap's end."""
    zone, changed = change
    minute, hour = (int(field) for field in cron.split()[:2])
    start = changed + before
    at = due(cron, zone, start, start)[1]
    instants = [at - n * MINUTE for n in range(24 * 60)]
    walls = [instant.astimezone(zone_of(zone)) for instant in instants]
    reached = [wall for wall in walls if wall.date() == walls[0].date() and (wall.hour, wall.minute) >= (hour, minute)]
    assert [wall.astimezone(UTC) for wall in reached] == [at]
