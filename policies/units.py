"""Durations, sizes and shares, as people write them and as sentences show them.

Every `parse_…` raises BadValueError with the expected and the actual value, and a remedy.
"""

import re
from datetime import timedelta
from fractions import Fraction

from policies.mistakes import BadValueError

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_BYTES = {"B": 1, "kB": 1000, "KB": 1000} | {f"{prefix}B": 1000**n for n, prefix in enumerate("MGTP", 2)}
_BYTES |= {f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTP", 1)}
_LARGEST = 2**63 - 1  # bytes; what a registry's int64 can say
_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(r"([0-9]{1,12})([smhdw])")
_SIZE = re.compile(_NUMBER + r" ?([kKMGTP]?i?B)")
_SHARE = re.compile(_NUMBER + r" ?%")


def parse_duration(value: object) -> timedelta:
    """`14d` as a timedelta: a whole number and one of s, m, h, d, w."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadValueError(f"expected a duration, got {shown(value)}", _duration_remedy(value))
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > timedelta.max.days * 86_400 // 1000:
        raise BadValueError(f"expected a duration, got {shown(value)}", "write a duration below 2700 years")
    return timedelta(seconds=seconds)


def _duration_remedy(value: object) -> str:
    """A duration to write instead, as close as possible to the value."""
    match = re.fullmatch(r"(-?)([0-9]{1,12})([smhdw]?)", "" if isinstance(value, bool) else str(value))
    if match is None:
        return "write, for example, 10d"
    sign, number, unit = match.groups()
    units = unit or ("s" if not int(number) else "dhms")
    written = " or ".join(", ".join(f"{number}{unit}" for unit in units).rsplit(", ", 1))
    return f"a duration is not negative: write {written}" if sign else f"write {written}"


def parse_size(value: object) -> int:
    """`5GiB` or `500MB` in bytes: a number and a decimal or binary unit."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in _BYTES:
        example = f"{value}B" if type(value) is int and value >= 0 else "5GiB or 500MB"
        raise BadValueError(f"expected a size, got {shown(value)}", f"write, for example, {example}")
    size = int(Fraction(match[1]) * _BYTES[match[2]])
    if size > _LARGEST:
        raise BadValueError(f"expected a size, got {shown(value)}", "write a size below 8192PiB")
    return size


def parse_share(value: object) -> float:
    """`30%` as 0.3."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadValueError(f"expected a share, got {shown(value)}", "write, for example, 30%")
    share = Fraction(match[1]) / 100
    if share > 1:
        raise BadValueError(f"expected a share, got {shown(value)}", "write a share between 0% and 100%")
    return float(share)


def shown(value: object) -> str:
    """A document's value as a message quotes it: shortened, or only its kind if that says more."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}…{text[-1]}"


def in_units(age: timedelta) -> tuple[timedelta, str]:
    """The largest of days, hours, minutes and seconds of which an age is a multiple, and its name. The unit is a
    timedelta, its name a plural. An age of 0 is in days; one with parts of a second is in seconds.
    """
    for unit, name in ((timedelta(days=1), "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes")):
        if not age % unit:
            return unit, name
    return timedelta(seconds=1), "seconds"


def duration_text(age: timedelta) -> str:
    """A duration in a sentence: `1 day`, `36 hours`."""
    unit, name = in_units(age)
    return counted_in(age // unit, name)


def counted_in(number: int, units: str) -> str:
    """`1 day`, `2 days`."""
    return f"{number} {units[:-1] if number == 1 else units}"


def bytes_text(size: int) -> str:
    """Bytes in a sentence: `5 GiB`, `1.4 GiB`, `300 B`; rounded down, so that no text claims too many."""
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        if size >= _BYTES[unit]:
            tenths = size * 10 // _BYTES[unit]
            return f"{tenths // 10} {unit}" if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10} {unit}"
    return f"{size} B"
