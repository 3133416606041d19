"""Whether a reading can be believed: not too old, not empty, not suddenly half of what it was. No I/O, no clock."""

from datetime import datetime, timedelta

from worker.config.settings import EvidenceSettings
from worker.evidence.reading import EvidenceError, Reading

AHEAD = timedelta(minutes=5)  # by how much two clocks may differ
ON_PURPOSE = "if that is so on purpose, say allow_empty: true"
_UNITS = ((timedelta(days=1), "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes"))


def judge(settings: EvidenceSettings, reading: Reading, previous_count: int | None, now: datetime) -> None:
    """Raises EvidenceError where the reading is no evidence.

    `previous_count`: how many uses the last reading that was believed had; None: there was none.
    """
    age, count = now - reading.as_of, len(reading.uses) + len(reading.odd)
    as_of = f"is as of {reading.as_of:%Y-%m-%dT%H:%M:%SZ}"
    if age < -AHEAD:
        raise _failed(settings, f"{as_of}, {_text(-age)} ahead of the clock", "set the clock of whoever wrote it")
    if age > settings.max_age:
        what = f"{as_of}, {_text(age)} old, at most {_text(settings.max_age)}"
        raise _failed(settings, what, "see why it is not renewed, or raise max_age")
    if settings.allow_empty:
        return
    if not count:
        raise _failed(settings, "says that nothing is in use", f"see what it reads; {ON_PURPOSE}")
    if previous_count is not None and count * 2 < previous_count:
        what = f"says that {count:,} images are in use, less than half of the {previous_count:,} of last time"
        raise _failed(settings, what, f"see whether it still reads everything; {ON_PURPOSE}")


def _failed(settings: EvidenceSettings, what: str, remedy: str) -> EvidenceError:
    return EvidenceError(settings.name, what, remedy)


def _text(length: timedelta) -> str:
    """`26 hours`: in the largest unit of which there are at least two, rounded down."""
    for unit, name in _UNITS:
        if length >= 2 * unit:
            return f"{length // unit:,} {name}"
    return f"{length // timedelta(seconds=1)} seconds"
