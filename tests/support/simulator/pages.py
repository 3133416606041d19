"""Pages of a list, and the tokens that lead from one to the next."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.support.simulator import messages
from tests.support.simulator.http import SimulatedResponse
from tests.support.simulator.state import PageToken, State
from tests.support.simulator.status import INVALID_ARGUMENT, RefusedRequestError, StatusError

LIFE = timedelta(seconds=60)  # of a token, where tokens expire
Key = tuple[Any, ...]


@dataclass(frozen=True)
class PagedList:
    """All rows of an answer, before it is cut into pages."""

    resource: str  # also the field of the answer: "images"
    rows: Sequence[Any]
    key: Callable[[Any], Key]  # the sort key
    render: Callable[[Any], bytes]
    page_size: int = 100  # of a page that was asked for without its size


def by_id(row: Any) -> Key:
    return (row.id,)


def newest_first(row: Any) -> Key:
    """The push time as text that sorts backwards; then the id."""
    return (f"{4_102_444_800 - row.created_at.timestamp():017.6f}", row.id)


def page(
    state: State, listing: PagedList, query: dict[str, str], kinds: dict[str, dict[str, Any]]
) -> SimulatedResponse:
    """One page. A token belongs to the query it was made for; of the query only the page size may change."""
    size = page_size(query.get("pageSize", ""), listing.page_size)
    scope = tuple(sorted((name, value) for name, value in query.items() if name not in {"pageToken", "pageSize"}))
    place = bookmark(state, query.get("pageToken", ""), (("resource", listing.resource), *scope))
    ordered = sorted(listing.rows, key=listing.key)
    start = 0 if "repeated_page" in kinds else start_of(ordered, place, listing.key)
    chosen = ordered[start : start + size]
    token = ""
    if start + size < len(ordered) or kinds.keys() & {"endless_token", "same_token"}:
        shifting = state.switches.deletes_during_paging == "rows_shift"
        after = start + len(chosen) if shifting else listing.key(chosen[-1]) if chosen else place
        token = "AAAAc2FtZQ" if "same_token" in kinds else secrets.token_urlsafe(18)
        state.bookmarks[token] = PageToken((("resource", listing.resource), *scope), after, state.now())
    rows = [listing.render(row) for row in chosen]
    return SimulatedResponse(200, messages.listing(listing.resource, rows, token, state.switches))


def start_of(ordered: Sequence[Any], place: Key | int | None, key: Callable[[Any], Key]) -> int:
    if place is None or isinstance(place, int):
        return place or 0
    return sum(1 for row in ordered if key(row) <= place)


def page_size(text: str, default: int) -> int:
    if not text:
        return default
    if not text.isdigit() or int(text) > 1_000:
        raise RefusedRequestError(f"pageSize {text!r} is not 0 to 1000")
    return int(text) or default


def bookmark(state: State, token: str, query: tuple[tuple[str, str], ...]) -> Key | int | None:
    if not token:
        return None
    page_token = state.bookmarks.get(token)
    if page_token is None or page_token.query != query:
        raise RefusedRequestError("pageToken was not made for this query")
    if state.switches.page_token == "expires" and state.now() - page_token.issued_at > LIFE:
        raise StatusError(INVALID_ARGUMENT, "Page token has expired")
    return page_token.after
