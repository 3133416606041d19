"""Whether push times can be trusted. After a restore, a copy or a migration they are the time of that operation.

If more than half of a registry's images share a push time within a minute, that time is questioned. It is suspicious if
an earlier scan saw one of these images before it, or if a tag of one names an earlier day. Push times are suspicious,
too, if more than half of all images report a push time after an earlier scan saw them.
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
    """Which push times are trusted, and why the others are not."""

    after: datetime = _ALWAYS  # push times at or after it are trusted
    suspicion: str = ""
    first_seen: bool = False  # the times are not the registry's: this store first saw each digest then
    returned: frozenset[datetime] = frozenset()  # with first_seen: scans that saw missing images again
    unquestioned: bool = False  # the times of a saved inventory are trusted without a check

    @property
    def all_trusted(self) -> bool:
        return self.after == _ALWAYS

    @property
    def questioned(self) -> bool:
        """Whether the inventory may make the registry's push times suspicious."""
        return self.all_trusted and not self.first_seen and not self.unquestioned


TRUSTED = PushTimeTrust()
UNCHECKED_TIMES = PushTimeTrust(unquestioned=True)
FIRST_SEEN_TIMES = PushTimeTrust(first_seen=True)


def distrust(suspicion: str) -> PushTimeTrust:
    """Trusts no push time."""
    return PushTimeTrust(_NEVER, suspicion)


def trusted_after(instant: datetime, *, first_seen: bool = False) -> PushTimeTrust:
    """Trusts push times from that instant on, as the registry's `trust_times_after` says."""
    return PushTimeTrust(instant, f"it is before trust_times_after, {_text(instant)}", first_seen)


@dataclass(frozen=True, slots=True)
class SharedTime:
    """A push time, within a minute, that more than half of a registry's images share."""

    start: float  # seconds since 1970
    end: float
    share: float  # 0..1 of all readable images

    def includes(self, created_at: datetime) -> bool:
        return self.start <= created_at.timestamp() <= self.end


def with_first_seen(images: Iterable[Image], first_seen: Mapping[str, datetime], now: datetime) -> tuple[Image, ...]:
    """The images; if the push time of one is unknown, it is the time when the image was first seen, or else `now`.
    `first_seen`: by digest. All times are aware, in UTC. A push time that the registry reports stays.
    """
    return tuple(
        image if image.created_at is not None else replace(image, created_at=first_seen.get(image.digest, now))
        for image in images
    )


def push_seconds(images: Iterable[Image]) -> PushSeconds:
    """The known push times of these images as a column, in seconds since 1970. Images without a push time have no row,
    so a row's number is not the image's.
    """
    return np.array(
        [image.created_at.timestamp() for image in images if image.created_at is not None], dtype=np.float64
    )


def shared_time(columns: Iterable[PushSeconds], images: int) -> SharedTime | None:
    """The push time that more than half of so many images share, within a minute; None: there is no such time."""
    seconds = np.sort(np.concatenate([np.empty(0), *columns]))
    if not is_majority(len(seconds), images):
        return None
    needed = images // 2 + 1
    first, last = seconds[: len(seconds) - needed + 1], seconds[needed - 1 :]  # of each run of `needed` push times
    starts = np.flatnonzero(last - first <= SHARED_WITHIN)
    if not len(starts):
        return None
    start, end = float(first[starts[0]]), float(last[starts[-1]])
    shared = np.searchsorted(seconds, end, side="right") - np.searchsorted(seconds, start, side="left")
    return SharedTime(start, end, float(shared) / images)


def pushed_after_seen(images: Sequence[Image], rows: DigestRows, history: RepositoryHistory) -> npt.NDArray[np.bool_]:
    """Whether each image reports a push time after an earlier scan saw it. `rows`: their digests."""
    if not len(history):
        return np.zeros(len(images), dtype=np.bool_)
    seen = history.rows_of(rows)
    pushed = np.array([image.created_at.timestamp() if image.created_at else np.nan for image in images])
    after: npt.NDArray[np.bool_] = (seen >= 0) & (pushed > history.first[seen] / 1e6 + SHARED_WITHIN)
    return after


def is_majority(count: int, images: int) -> bool:
    """Whether so many images are more than half of a registry's images, and more than one."""
    return count > 1 and count > images // 2


def late_push_suspicion(count: int, images: int, path: str, image: Image, history: RepositoryHistory) -> str:
    """61% of all images report a push time after an earlier scan saw them: shop/api@… at 2026-11-20T10:00:00Z, …"""
    known = history.lookup([image.digest], include_missing=True)[image.digest]
    pushed = _text(image.created_at) if image.created_at else "never"
    return (
        f"{count / images:.0%} of all images report a push time after an earlier scan saw them: "
        f"{path}@{image.digest} at {pushed}, seen at {_text(known.first_seen)}"
    )


def contradiction(path: str, images: Sequence[Image], history: RepositoryHistory, shared: SharedTime) -> str | None:
    """Why the shared push time is not the true one of an image of this repository; None: nothing contradicts it."""
    sharing = [image for image in images if image.created_at is not None and shared.includes(image.created_at)]
    known = history.lookup([image.digest for image in sharing], include_missing=True)
    for image in sorted(sharing, key=attrgetter("digest")):
        pushed = image.created_at
        if pushed is None:
            continue
        seen = known.get(image.digest)
        if seen is not None and seen.first_seen < pushed:
            return f"an earlier scan saw {path}@{image.digest} at {_text(seen.first_seen)}"
        for tag in sorted(image.tags):
            day = day_in_tag(tag)
            if day is not None and pushed - day >= _DAY:
                return f"the tag {path}:{tag} names an earlier day"
    return None


def shared_time_suspicion(shared: SharedTime, reason: str) -> str:
    """61% of all images report a push time within the same minute, 2026-11-20T10:00:00Z, but the tag … names … The time
    is the earliest of the shared push times, in UTC. `reason`: the answer of `contradiction`.
    """
    at = _text(datetime.fromtimestamp(shared.start, UTC))
    return f"{shared.share:.0%} of all images report a push time within the same minute, {at}, but {reason}"


def day_in_tag(tag: str) -> datetime | None:
    """The start, in UTC, of the latest calendar day in a tag, written as 2024-05-01, 20240501 or 2024.05.01."""
    days = []
    for year, _, month, day in _DATE.findall(tag):
        try:
            days.append(date(int(year), int(month), int(day)))
        except ValueError:
            continue  # the 31st of a shorter month
    return datetime.combine(max(days), datetime.min.time(), UTC) if days else None


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
