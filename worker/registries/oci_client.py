"""Talks to one OCI registry: each call is one question, with its pages, its repeat as GET and its sign-in.

What the answers mean for images is in `oci_listing`, what goes over the wire in `oci_protocol`.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from worker.config import RegistrySettings
from worker.registries import oci_protocol as protocol
from worker.registries.http import Http, Patience
from worker.registries.interface import BadAnswerError, NotFoundError
from worker.registries.limiter import Limiter
from worker.registries.messages import Answer, Request
from worker.registries.oci_protocol import Found, Page

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

MAX_PAGES = 5000  # of one listing; with full pages that is five million rows
EMPTY_PAGES = 10  # in a row, with a further page


class Client:
    """One registry. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, limiter: Limiter, patience: Patience) -> None:
        self.root = settings.url
        self.http = Http(settings.name, limiter, settings.rate.concurrency, patience)
        self._threads = settings.rate.concurrency
        self._no_referrers = False  # the registry has no such listing: learnt once

    def time(self) -> datetime:
        """The registry's own. Raises RegistryError."""
        return self._call(protocol.ping(self.root), lambda answer: protocol.time_of(answer, self.root))

    def catalog(self) -> tuple[str, ...] | None:
        """Every repository that the registry lists; None: it lists none. Raises RegistryError."""

        def ask(query: Mapping[str, str]) -> Page | None:
            return self._call(protocol.list_repositories(self.root, query), protocol.repositories_page)

        return self._all_pages(ask, "/v2/_catalog")

    def tags(self, name: str) -> tuple[str, ...] | None:
        """Every tag of a repository, sorted; None: the registry does not know the repository. Raises RegistryError."""

        def read(answer: Answer) -> Page | None:
            return None if protocol.is_no_such_repository(answer) else protocol.tags_page(answer, name)

        found = self._all_pages(lambda query: self._call(protocol.list_tags(self.root, name, query), read), name)
        return None if found is None else tuple(sorted(found))

    def referrers(self, name: str, digest: str) -> tuple[str, ...]:
        """What the registry lists as referring to a digest. Raises RegistryError."""
        if self._no_referrers:
            return ()

        def ask(query: Mapping[str, str]) -> Page | None:
            request = protocol.list_referrers(self.root, name, digest, query)
            return self._call(request, lambda answer: protocol.referrers_page(answer, name, digest))

        found = self._all_pages(ask, protocol.about(name, digest), first={})
        self._no_referrers |= found is None
        return found or ()

    def look(self, name: str, reference: str, *, seen: bool = False) -> Found | None:
        """What a tag or digest names now, without its body unless need be; None: it is not there.

        `seen`: it was there with the types that we accept, so that a HEAD's 404 is believed. Raises RegistryError.
        """
        request = protocol.head_manifest(self.root, name, reference)
        found = self._call(request, lambda answer: protocol.head(answer, reference))
        if isinstance(found, Found):
            return found
        if seen and found == 404:
            return None
        try:
            return self.fetch(name, reference)
        except NotFoundError:
            return None

    def fetch(self, name: str, reference: str) -> Found:
        """A manifest as it is, hashed. Raises NotFoundError and any other RegistryError."""
        request = protocol.get_manifest(self.root, name, reference)
        return self._call(request, lambda answer: protocol.fetched(answer, reference))

    def delete(self, name: str, digest: str, seconds: float, not_after: float | None) -> None:
        """Ask for a deletion. Raises RegistryError."""
        request = protocol.delete_manifest(self.root, name, digest, seconds, not_after)
        self._call(request, protocol.deletion_begun)

    def each(self, ask: Callable[[K], T], about: Iterable[K]) -> dict[K, T]:
        """The answers by what was asked about, side by side. Raises what the first failure raises, and asks no more."""
        wanted = list(dict.fromkeys(about))
        if not wanted:
            return {}
        pool = ThreadPoolExecutor(min(len(wanted), self._threads), "oci")
        try:
            return dict(zip(wanted, pool.map(ask, wanted), strict=True))
        finally:
            pool.shutdown(cancel_futures=True)

    def _all_pages(
        self, ask: Callable[[Mapping[str, str]], Page | None], about: str, first: Mapping[str, str] | None = None
    ) -> tuple[str, ...] | None:
        """Every row once; None: there is no such listing. A listing that does not get on is an error."""
        query: Mapping[str, str] | None = {"n": str(protocol.PAGE_SIZE)} if first is None else first
        rows: dict[str, None] = {}
        asked, empty = set[str](), 0
        while query is not None:
            page = ask(query)
            if page is None:
                return None
            known = len(rows)
            rows |= dict.fromkeys(page.rows)
            empty = 0 if len(rows) > known else empty + 1
            asked.add(repr(query))
            query = page.following
            if query is not None and (repr(query) in asked or empty > EMPTY_PAGES or len(asked) >= MAX_PAGES):
                raise BadAnswerError(
                    f"the listing never ends: page {len(asked):,} leads to {str(query)[:100]}",
                    self.http.registry,
                    f"GET {about}",
                )
        return tuple(rows)

    def _call(self, request: Request, read: Callable[[Answer], T], total: float | None = None) -> T:
        return self.http.call(request, read, None, total)
