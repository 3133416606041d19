"""Whether push times can be believed. After a restore, a copy or a migration they say when that was, and no age.

More than half of a registry's images that share one push time within a minute are a suspicion. One of them that an
earlier scan saw before that time, or whose tag names an earlier day, makes it a doubt. So does it, however far apart
the times are, that more than half of them report a push time after an earlier scan saw them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from operator import attrgetter

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from policies.blobs import DigestRows
from policies.image import Image
from policies.scan_history import RepositoryHistory

PushSeconds = npt.NDArray[np.float64]  # seconds since 1970, of the images that have a push time

SHARED_WITHIN = 60.0  # seconds
_DAY = timedelta(days=1)
_ALWAYS = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)
_DATE = re.compile(r"(?<![0-9])(20[0-9]{2})([-._]?)(0[1-9]|1[0-2])\2(0[1-9]|[12][0-9]|3[01])(?![0-9])")


@dataclass(frozen=True, slots=True)
class PushTimeTrust:
    """Which push times are believed, and why the others are not."""

    after: datetime = _ALWAYS  # those at or after it are
    suspicion: str = ""
    first_seen: bool = False  # not the registry's times, but when this store first saw each digest
    returned: frozenset[datetime] = frozenset()  # of first_seen: scans that saw images again that had been missing
    unquestioned: bool = False  # a saved inventory is taken at its word

    @property
    def all_trusted(self) -> bool:
        return self.after == _ALWAYS

    @property
    def questioned(self) -> bool:
        """Whether an inventory may say that the registry's times are not true."""
        return self.all_trusted and not self.first_seen and not self.unquestioned


TRUSTED = PushTimeTrust()
UNCHECKED_TIMES = PushTimeTrust(unquestioned=True)
FIRST_SEEN_TIMES = PushTimeTrust(first_seen=True)


def distrust(why: str) -> PushTimeTrust:
    """No push time is believed."""
    return PushTimeTrust(_NEVER, why)


def trusted_after(instant: datetime, *, first_seen: bool = False) -> PushTimeTrust:
    """A person's word: what was pushed at that instant or later has its true push time, what was before has not."""
    return PushTimeTrust(instant, f"it is before trust_times_after, {_text(instant)}", first_seen)


@dataclass(frozen=True, slots=True)
class SharedTime:
    """Push times that more than half of a registry's images share."""

    start: float  # seconds since 1970
    end: float
    share: float  # 0..1 of all readable images

    def holds(self, created_at: datetime) -> bool:
        return self.start <= created_at.timestamp() <= self.end


def with_first_seen(images: Iterable[Image], first_seen: Mapping[str, datetime], now: datetime) -> tuple[Image, ...]:
    """The same images, those without a push time pushed when they were first seen; the others now."""
    return tuple(
        image if image.created_at is not None else replace(image, created_at=first_seen.get(image.digest, now))
        for image in images
    )


def push_seconds(images: Iterable[Image]) -> PushSeconds:
    """The push times of these images as a column."""
    return np.array(
        [image.created_at.timestamp() for image in images if image.created_at is not None], dtype=np.float64
    )


def shared_time(columns: Iterable[PushSeconds], images: int) -> SharedTime | None:
    """The push times that more than half of so many images share, within a minute; None: there are none such."""
    some = np.sort(np.concatenate([np.empty(0), *columns]))
    if not is_majority(len(some), images):  # one image shares its push time with nobody
        return None
    needed = images // 2 + 1
    first, last = some[: len(some) - needed + 1], some[needed - 1 :]  # of each run of so many
    starts = np.flatnonzero(last - first <= SHARED_WITHIN)
    if not len(starts):
        return None
    start, end = float(first[starts[0]]), float(last[starts[-1]])
    inside = np.searchsorted(some, end, side="right") - np.searchsorted(some, start, side="left")
    return SharedTime(start, end, float(inside) / images)


def pushed_after_seen(images: Sequence[Image], digests: DigestRows, seen: RepositoryHistory) -> npt.NDArray[np.bool_]:
    """Which of these images report a push time after an earlier scan saw them. `digests`: theirs, in order."""
    if not len(seen):
        return np.zeros(len(images), dtype=np.bool_)
    rows = seen.rows_of(digests)
    pushed = np.array([image.created_at.timestamp() if image.created_at else np.nan for image in images])
    after: npt.NDArray[np.bool_] = (rows >= 0) & (pushed > seen.first[rows] / 1e6 + SHARED_WITHIN)
    return after


def is_majority(count: int, images: int) -> bool:
    """Whether so many of a registry's images are a suspicion: more than half, and not one alone."""
    return count > 1 and count > images // 2


def late_push_suspicion(count: int, images: int, path: str, image: Image, seen: RepositoryHistory) -> str:
    """61% of all images report a push time after an earlier scan saw them: shop/api@… at 2026-11-20T10:00:00Z"""
    known = seen.lookup([image.digest], include_missing=True)[image.digest]
    pushed = _text(image.created_at) if image.created_at else "never"
    return (
        f"{count / images:.0%} of all images report a push time after an earlier scan saw them: "
        f"{path}@{image.digest} at {pushed}, seen at {_text(known.first_seen)}"
    )


def contradiction(path: str, images: Sequence[Image], seen: RepositoryHistory, found: SharedTime) -> str | None:
    """Why the shared push time cannot be the true one of some image of this repository; None: nothing says so."""
    inside = [image for image in images if image.created_at is not None and found.holds(image.created_at)]
    known = seen.lookup([image.digest for image in inside], include_missing=True)
    for image in sorted(inside, key=attrgetter("digest")):
        pushed = image.created_at
        if pushed is None:
            continue
        one = known.get(image.digest)
        if one is not None and one.first_seen < pushed:
            return f"an earlier scan saw {path}@{image.digest} at {_text(one.first_seen)}"
        for tag in sorted(image.tags):
            day = day_in_tag(tag)
            if day is not None and pushed - day >= _DAY:
                return f"the tag {path}:{tag} names an earlier day"
    return None


def shared_time_suspicion(found: SharedTime, why: str) -> str:
    """61% of all images report a push time within the same minute, 2026-11-20T10:00:00Z, but the tag … names …"""
    at = datetime.fromtimestamp(found.start, UTC)
    return f"{found.share:.0%} of all images report a push time within the same minute, {_text(at)}, but {why}"


def day_in_tag(tag: str) -> datetime | None:
    """The beginning, in UTC, of the latest calendar day that a tag names, as 2024-05-01, 20240501 or 2024.05.01."""
    days = []
    for year, _, month, day in _DATE.findall(tag):
        try:
            days.append(date(int(year), int(month), int(day)))
        except ValueError:
            continue  # the 31st of a shorter month
    return datetime.combine(max(days), datetime.min.time(), UTC) if days else None


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
