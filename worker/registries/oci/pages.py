"""Reads a paged list to its end, and detects a truncated list.

The header Link leads to the next page (distribution-spec 1.1). Servers of specification 1.0 truncate a list at `n` rows
without a Link, so a list of tags or repositories is complete only if a page after its last row has no new rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from worker.registries.errors import BadResponseError, RegistryError
from worker.registries.http.loops import PageGuard
from worker.registries.oci import protocol
from worker.registries.oci.protocol import Page

REFUSED = (400, 404, 405, 416, 422, 501)  # the server refuses a large `n`, or does not know `last`
REFUSED_NUMBER = (*REFUSED, 500)  # some servers fail on an `n` that they do not accept

Query = Mapping[str, str]
Ask = Callable[[Query], Page | None]  # None: no such list


@dataclass(slots=True)
class PageSize:
    """The `n` of a list; None: the server refuses `n`, and chooses its own."""

    rows: int | None = protocol.PAGE_SIZE

    @property
    def query(self) -> Query:
        return {} if self.rows is None else {"n": str(self.rows)}


def linked_list(ask: Ask, registry: str, about: str) -> tuple[str, ...] | None:
    """Every row once, of a list whose pages are connected by Link only; None: no such list. Raises BadResponseError:
    the list does not end, or the next page does not exist. Raises any other RegistryError.
    """
    listing = _Listing(ask, registry, about)
    return None if listing.read({}) is None else tuple(listing.rows)


def whole_list(
    ask: Ask, registry: str, about: str, size: PageSize, *, none_may_mean_refused: bool = False
) -> tuple[str, ...] | None:
    """Every row once; None: no such list. If the server refuses `n`, `size` is updated.

    `none_may_mean_refused`: None from `ask` may also mean that the server refuses `n`.

    After a page without a Link the list continues from its last row; an empty page, or one without new rows, ends it.
    But a server that ignores `last` repeats the first page, and a server that sorts in another order omits rows: if
    such a page has `n` rows, or is not the last, the list may be truncated.
    Raises BadResponseError: the list is truncated or does not end. Raises any other RegistryError.
    """
    listing = _Listing(ask, registry, about)
    page = _first_pages(listing, size, none_may_mean_refused)
    if page is None:
        return None
    while page.rows:
        further = listing.read({**size.query, "last": page.rows[-1]}, refusable=REFUSED)
        more = further is not None and listing.new
        unordered = (more or len(page.rows) == size.rows) and not _follows_its_order(listing, page, size)
        repeated = not more and len((further or page).rows) == (size.rows or len(page.rows))
        if (more and unordered) or ((repeated or unordered) and _is_truncated(listing, page, size)):
            message = f"the list is truncated at {len(page.rows):,} rows, without a link to the next page"
            raise BadResponseError(message, registry, f"GET {about}")
        if further is None or not more:
            break
        page = further
    return tuple(listing.rows)


def _first_pages(listing: "_Listing", size: PageSize, none_may_mean_refused: bool) -> Page | None:
    """The last of the pages that Links connect; None: no such list."""
    if size.rows is None:
        return listing.read({})
    try:
        page = listing.read(size.query)
    except RegistryError as error:
        if error.status not in REFUSED_NUMBER or listing.rows:
            raise
    else:
        if page is not None or not none_may_mean_refused:
            return page
    page = listing.read({})  # raises every error that `n` has not caused
    if page is not None:
        size.rows = None
    return page


def _follows_its_order(listing: "_Listing", page: Page, size: PageSize) -> bool:
    """Whether `last` follows the order of the list. Sends a request only if the rows of a page are not sorted."""
    turn = next(((row, following) for row, following in pairwise(page.rows) if row > following), None)
    if turn is None or listing.linked:
        return True
    further = listing.read({**size.query, "last": turn[0]}, refusable=REFUSED)
    return further is None or turn[1] in further.rows


def _is_truncated(listing: "_Listing", page: Page, size: PageSize) -> bool:
    """Whether a page with no new rows after it is only a part of the list: its size changes with `n`.

    A server may limit `n`: for one row more it sends the same number of rows, for one row less it sends fewer.
    """
    rows = len(page.rows)
    refused = REFUSED if size.rows else REFUSED_NUMBER
    for wanted in () if listing.linked else (rows + 1, rows - 1):
        other = listing.read({"n": str(wanted)}, refusable=refused) if wanted else None
        if other is None:  # too large for the server, or it accepts no `n`
            continue
        if listing.linked or len(other.rows) == wanted:
            return not listing.linked
        if size.rows is None:  # a page of the server's own size: fewer rows on request prove nothing
            return False
    return False


class _Listing:
    """The part of a list that was read so far."""

    def __init__(self, ask: Ask, registry: str, about: str) -> None:
        self._ask, self._guard = ask, PageGuard(registry, about)
        self.rows: dict[str, None] = {}
        self.new = False  # whether the last `read` found new rows
        self.linked = False  # whether the server has sent a Link

    def read(self, query: Query, *, refusable: Sequence[int] = ()) -> Page | None:
        """Read the pages that Links connect. Returns the last; None: no list, or a `refusable` status."""
        self._guard.first_page(repr(query))
        try:
            page = self._ask(query)
        except RegistryError as error:
            if error.status in refusable:
                return None
            raise
        before = len(self.rows)
        while page is not None:
            known = len(self.rows)
            self.rows |= dict.fromkeys(page.rows)
            self.new = len(self.rows) > before
            following = page.following
            self.linked |= following is not None
            if following is None or (refusable and not self.new):  # the rest was read before
                break
            self._guard.next_page(repr(following), new=len(self.rows) > known)
            page = self._ask(following)
            if page is None:
                message = f"the next page, {str(following)[:100]}, does not exist"
                raise BadResponseError(message, self._guard.registry, f"GET {self._guard.about}")
        return page
