"""Reads a paged list to its end, and says whether what came is the whole of it.

The header Link leads to the next page (distribution-spec 1.1). Servers of the specification 1.0 cut a list at `n` rows
without one, so a list of tags or repositories is whole only where asking on from its last row brings nothing new.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from worker.registries.errors import BadResponseError, RegistryError
from worker.registries.http.loops import Progress
from worker.registries.oci import protocol
from worker.registries.oci.protocol import Page

REFUSED = (400, 404, 405, 416, 422, 501)  # `n` is too large for the server, or it does not know `last`
REFUSED_NUMBER = (*REFUSED, 500)  # some servers stumble over a number that they do not take

Query = Mapping[str, str]
Ask = Callable[[Query], Page | None]  # None: there is no such list


@dataclass(slots=True)
class PageSize:
    """How many rows of a list are asked for; None: the server refuses a number, and chooses its own."""

    rows: int | None = protocol.PAGE_SIZE

    @property
    def query(self) -> Query:
        return {} if self.rows is None else {"n": str(self.rows)}


def linked_list(ask: Ask, registry: str, about: str) -> tuple[str, ...] | None:
    """Every row once, of a list in which only a Link leads from page to page; None: there is no such list."""
    listing = _Listing(ask, registry, about)
    return None if listing.read({}) is None else tuple(listing.rows)


def whole_list(
    ask: Ask, registry: str, about: str, size: PageSize, *, none_may_mean_refused: bool = False
) -> tuple[str, ...] | None:
    """Every row once; None: there is no such list. A server's refusal of `n` is noted in `size`.

    `none_may_mean_refused`: `ask` says None as well where only the number may be the reason.

    A page without a Link is continued from its last row. An empty page, or nothing new, ends the list. But a server
    that ignores `last` sends the first page again, and one that compares it with names that are in another order
    leaves some out: if such a page has as many rows as were asked for, or is not the last, the list may be cut.
    Raises BadResponseError: it is cut, or never ends. Raises any other RegistryError.
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
        if (more and unordered) or ((repeated or unordered) and _is_cut(listing, page, size)):
            message = f"the list is cut at {len(page.rows):,} rows, and nothing leads to the others"
            raise BadResponseError(message, registry, f"GET {about}")
        if further is None or not more:
            break
        page = further
    return tuple(listing.rows)


def _first_pages(listing: "_Listing", size: PageSize, none_may_mean_refused: bool) -> Page | None:
    """The last of the pages that come without asking on; None: there is no such list."""
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
    page = listing.read({})  # raises what is wrong with more than the number
    if page is not None:
        size.rows = None
    return page


def _follows_its_order(listing: "_Listing", page: Page, size: PageSize) -> bool:
    """Whether `last` leads on in the order of the list, asked for where the rows of a page are not sorted."""
    turn = next(((row, following) for row, following in pairwise(page.rows) if row > following), None)
    if turn is None or listing.linked:
        return True
    further = listing.read({**size.query, "last": turn[0]}, refusable=REFUSED)
    return further is None or turn[1] in further.rows


def _is_cut(listing: "_Listing", page: Page, size: PageSize) -> bool:
    """Whether a page to which asking on adds nothing is a part of the list: its size follows what is asked for.

    A server may take `n`, but no more than it was asked for: to one row more it sends as many, to one less it follows.
    """
    rows = len(page.rows)
    refused = REFUSED if size.rows else REFUSED_NUMBER
    for wanted in () if listing.linked else (rows + 1, rows - 1):
        other = listing.read({"n": str(wanted)}, refusable=refused) if wanted else None
        if other is None:  # more than the server allows, or it takes no number at all
            continue
        if listing.linked or len(other.rows) == wanted:
            return not listing.linked
        if size.rows is None:  # a page of the server's own size: that it sends less where less is asked says nothing
            return False
    return False


class _Listing:
    """A list as far as it was read."""

    def __init__(self, ask: Ask, registry: str, about: str) -> None:
        self._ask, self._progress = ask, Progress(registry, about)
        self.rows: dict[str, None] = {}
        self.new = False  # whether the last reading brought rows that were not known
        self.linked = False  # whether the server has sent a Link

    def read(self, query: Query, *, refusable: Sequence[int] = ()) -> Page | None:
        """The last page of those that Links lead to from this query; None: no such list, or a status of `refusable`."""
        self._progress.begin(repr(query))
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
            if following is None or (refusable and not self.new):  # known pages lead to known ones
                break
            self._progress.turn(repr(following), new=len(self.rows) > known)
            page = self._ask(following)
            if page is None:
                what = f"the next page, {str(following)[:100]}, is not there"
                raise BadResponseError(what, self._progress.registry, f"GET {self._progress.about}")
        return page
