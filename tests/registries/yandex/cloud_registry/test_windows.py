"""Listing in windows of time where the server does not keep to them: nothing may be missed."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from worker.registries.yandex.cloud_listing import Pages, Pile, list_all
from worker.registries.yandex.cloud_protocol import WireArtifact, WireContent, WireDocker
from worker.registries.yandex.cloud_windows import Window

T0 = datetime(2026, 3, 2, tzinfo=UTC)
Rows = Sequence[WireArtifact]


def row(number: int, created_at: datetime | None) -> WireArtifact:
    return WireArtifact(
        id=f"id{number}",
        path=f"/shop/api/v{number}",
        name=f"v{number}",
        kind="ARTIFACT",
        status="ACTIVE",
        created_at=created_at,
        content=WireContent(docker=WireDocker(manifest_digest=f"sha256:{number:064x}")),
    )


ROWS = [row(number, T0 + timedelta(hours=(number * 37) % 100)) for number in range(100)]


def serving(rows: Rows, holds: Callable[[Window, datetime], bool], asked: list[Window]) -> Pages:
    """A server's pages of ten rows."""

    def pages(window: Window) -> Iterator[Rows]:
        asked.append(window)
        bounded = window.after is not None or window.before is not None
        found = [one for one in rows if not bounded or (one.created_at and holds(window, one.created_at))]
        for start in range(0, max(1, len(found)), 10):
            yield found[start : start + 10]

    return pages


def exactly(window: Window, at: datetime) -> bool:
    return (window.after is None or at >= window.after) and (window.before is None or at < window.before)


def without_edges(window: Window, at: datetime) -> bool:
    """A server to which neither bound belongs: what was created at a bound is in no window."""
    return exactly(window, at) and at != window.after


def all_of(window: Window, at: datetime) -> bool:
    return True


def upside_down(window: Window, at: datetime) -> bool:
    return not exactly(window, at)


@pytest.mark.parametrize(
    ("rows", "holds", "in_windows"),
    [
        pytest.param(ROWS, exactly, True, id="it keeps to them"),
        pytest.param(ROWS, without_edges, False, id="its bounds are others"),
        pytest.param(ROWS, all_of, False, id="it knows none"),
        pytest.param(ROWS, upside_down, False, id="it takes them for the opposite"),
        pytest.param(ROWS, lambda *_: False, False, id="it finds nothing"),
        pytest.param([row(100, None), *ROWS], exactly, False, id="what has no time is in no window"),
    ],
)
def test_nothing_is_missed(rows: Rows, holds: Callable[[Window, datetime], bool], in_windows: bool) -> None:
    asked: list[Window] = []
    seen: list[int] = []
    pages = serving(rows, holds, asked)

    def counted(window: Window) -> Iterator[Rows]:
        for page in pages(window):
            if window == Window():
                seen.append(len(page))
            yield page

    pile = Pile("crpvab5oob146rh73ilt")
    list_all(counted, pile, 2, first_pages=3)
    assert {one.id for one in pile.take("shop/api") or ()} == {one.id for one in rows}
    assert (sum(seen) < len(rows)) is in_windows  # else the listing without a window went on to its end


def test_what_moves_between_two_pages_is_taken_as_it_came_last() -> None:
    moved = row(1, T0)
    moved.content = WireContent(docker=WireDocker(manifest_digest=f"sha256:{7:064x}"))
    pile = Pile("crpvab5oob146rh73ilt")
    pile.add([row(1, T0), moved])
    pile.settle()
    found = {one.id: one.digest for one in pile.take("shop/api") or ()}
    assert found == {"id1": f"sha256:{7:064x}"}
    assert pile.take("shop/api") is None  # a scan reads each folder once
