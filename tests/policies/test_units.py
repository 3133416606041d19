"""Durations, sizes and shares: the values that are read, and the message for each refused value."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from policies.units import bytes_text, in_units, parse_duration, parse_share, parse_size, shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0s", timedelta(0)), ("90s", timedelta(seconds=90)), ("15m", timedelta(minutes=15)),
        ("36h", timedelta(hours=36)),
        ("14d", timedelta(days=14)), ("8w", timedelta(weeks=8)), ("007d", timedelta(days=7)),
    ],
)  # fmt: skip
def test_durations_are_read(text: str, value: timedelta) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0B", 0), ("500MB", 500_000_000), ("5GiB", 5 * 2**30), ("1kB", 1000), ("1KB", 1000), ("1KiB", 1024),
        ("2TB", 2 * 10**12),
        ("2TiB", 2 * 2**40), ("1PB", 10**15), ("1PiB", 2**50), ("1.5GiB", 3 * 2**29), ("0.1MB", 100_000),
        ("5 GiB", 5 * 2**30),
    ],
)  # fmt: skip
def test_sizes_are_read_in_either_system(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(("text", "value"), [("0%", 0.0), ("30%", 0.3), ("100%", 1.0), ("12.5%", 0.125), ("30 %", 0.3)])
def test_shares_are_read(text: str, value: float) -> None:
    assert parse_share(text) == value


@pytest.mark.parametrize(
    ("parse", "value", "message"),
    [
        (parse_duration, "ten days", "expected a duration, got 'ten days'; write, for example, 10d"),
        (parse_duration, 14, "expected a duration, got 14; write 14d, 14h, 14m or 14s"),
        (parse_duration, "14", "expected a duration, got '14'; write 14d, 14h, 14m or 14s"),
        (parse_duration, 0, "expected a duration, got 0; write 0s"),
        (parse_duration, -5, "expected a duration, got -5; a duration is not negative: write 5d, 5h, 5m or 5s"),
        (parse_duration, "-5h", "expected a duration, got '-5h'; a duration is not negative: write 5h"),
        (parse_duration, True, "expected a duration, got true; write, for example, 10d"),
        (parse_duration, None, "expected a duration, got nothing; write, for example, 10d"),
        (parse_duration, "", "expected a duration, got ''; write, for example, 10d"),
        (parse_duration, "1.5d", "expected a duration, got '1.5d'; write, for example, 10d"),
        (parse_duration, 1.5, "expected a duration, got 1.5; write, for example, 10d"),
        (parse_duration, "14D", "expected a duration, got '14D'; write, for example, 10d"),
        (parse_duration, "1h30m", "expected a duration, got '1h30m'; write, for example, 10d"),
        (parse_duration, "٣d", "expected a duration, got '٣d'; write, for example, 10d"),
        (parse_duration, "14d\n", r"expected a duration, got '14d\n'; write, for example, 10d"),
        (
            parse_duration,
            "999999999999w",
            "expected a duration, got '999999999999w'; write a duration below 2700 years",
        ),
        (parse_size, "5", "expected a size, got '5'; write, for example, 5GiB or 500MB"),
        (parse_size, 5000, "expected a size, got 5000; write, for example, 5000B"),
        (parse_size, "5iB", "expected a size, got '5iB'; write, for example, 5GiB or 500MB"),
        (parse_size, "5gb", "expected a size, got '5gb'; write, for example, 5GiB or 500MB"),
        (parse_size, "kiB", "expected a size, got 'kiB'; write, for example, 5GiB or 500MB"),
        (parse_size, [1], "expected a size, got a list; write, for example, 5GiB or 500MB"),
        (parse_size, "8192PiB", "expected a size, got '8192PiB'; write a size below 8192PiB"),
        (parse_share, 0.3, "expected a share, got 0.3; write, for example, 30%"),
        (parse_share, "101%", "expected a share, got '101%'; write a share between 0% and 100%"),
        (parse_share, "-1%", "expected a share, got '-1%'; write, for example, 30%"),
        (parse_share, {"a": 1}, "expected a share, got a mapping; write, for example, 30%"),
    ],
)
def test_rejects_an_invalid_duration_size_or_share(
    parse: Callable[[object], object], value: object, message: str
) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        parse(value)
    assert str(refused.value) == message


def test_a_long_value_is_shown_short() -> None:
    assert len(shown("x" * 1000)) <= 80


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 * 2**30, "5 GiB"),
        (5 * 2**30 - 1, "4.9 GiB"),
        (2**62, "4096 PiB"),
    ],
)  # fmt: skip
def test_bytes_are_written_in_the_largest_unit(size: int, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("age", "name"),
    [
        ("14d", "days"),
        ("2w", "days"),
        ("36h", "hours"),
        ("24h", "days"),
        ("90m", "minutes"),
        ("61s", "seconds"),
        ("0s", "days"),
    ],
)
def test_an_age_is_in_the_unit_that_divides_it(age: str, name: str) -> None:
    unit, unit_name = in_units(parse_duration(age))
    assert unit_name == name
    assert not parse_duration(age) % unit
