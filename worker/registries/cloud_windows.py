"""Windows of time for listing a registry side by side: half-open, without gap or overlap. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

NARROWEST = timedelta(seconds=1)  # what was created within less of it is listed page after page
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

    Half of the cuts spread what was seen, the others spread time: a listing may come in any order, and what was seen
    of it may be of its beginning alone.
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
    cuts = sorted({_whole(moment) for moment in (*by_rows, *by_time)})
    edges = [window.after, *(moment for moment in cuts if first < moment < last), window.before]
    if len(edges) == 2:
        return ()
    return tuple(Window(after, before) for after, before in pairwise(edges))


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
