"""Windows of time for listing a registry side by side: half-open, without gap or overlap. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

NARROWEST = timedelta(seconds=1)  # what was created within less of it is listed page after page
BEGINNING = datetime(2015, 1, 1, tzinfo=UTC)  # older than anything there: what is older yet is in the first window
SLACK = timedelta(milliseconds=1)  # a row's time may have been rounded on its way


@dataclass(frozen=True, slots=True)
class Window:
    """Whatever was created at `after` or later, and before `before`; None: no bound. Aware, UTC, whole milliseconds."""

    after: datetime | None = None
    before: datetime | None = None

    def has(self, moment: datetime) -> bool:
        """Whether it is in it, give or take a rounding."""
        late = self.after is None or moment >= self.after - SLACK
        return late and (self.before is None or moment < self.before + SLACK)


WHOLE = Window()


def cut(window: Window, seen: Sequence[datetime], now: datetime, parts: int) -> tuple[Window, ...]:
    """A window cut in about this many parts; none where it cannot be cut. `seen`: times of some of its rows.

    Some cuts spread what was seen, others spread time, at first by ever longer steps into the past: a listing may come
    in any order, and what was seen of it may be of its beginning alone.
    """
    if not seen:
        return ()
    times = sorted(seen)
    first = window.after or times[0]
    last = window.before or max(now, times[-1])
    if last - first < NARROWEST:
        return ()
    half = max(2, parts // 2)
    by_rows = [times[len(times) * place // half] for place in range(1, half)]
    by_time = [first + (last - first) * place / half for place in range(1, half)]
    earlier = _earlier(first, last) if window.after is None else ()
    cuts = {_whole(moment) for moment in (*by_rows, *by_time) if first < _whole(moment) < last}
    edges = [window.after, *sorted(cuts.union(map(_whole, earlier))), window.before]
    if len(edges) == 2:
        return ()
    return tuple(Window(after, before) for after, before in pairwise(edges))


def _earlier(first: datetime, last: datetime) -> Iterator[datetime]:
    """Moments before `first`, each four times as far from `last` as the one before."""
    step = (last - first) * 4
    while last - step > BEGINNING:
        yield last - step
        step *= 4


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
