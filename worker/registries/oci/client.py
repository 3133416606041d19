"""Talks to one OCI registry: each call is one question, with its pages, its repeat as GET and its sign-in.

What the answers mean for images is in `listing`, what goes over the wire in `protocol`, `blobs` and `deletion`.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

from worker.config.settings import RegistrySettings, api_of, namespace_of
from worker.registries.docker import manifests
from worker.registries.docker.tokens import Scopes, place, pull
from worker.registries.errors import BadAnswerError, NotFoundError, PermissionDeniedError, RegistryError, SignInError
from worker.registries.http.client import Http
from worker.registries.http.loops import each
from worker.registries.http.messages import Answer, BrokenBodyError, Patience, Request
from worker.registries.http.rate_limit import Limiter
from worker.registries.interface import Kept, Manifest
from worker.registries.oci import blobs, deletion, protocol
from worker.registries.oci.pages import PageSize, whole_list
from worker.registries.oci.protocol import Found, Page
from worker.registries.oci.referrers import Referrers
from worker.registries.oci.sign_in import CATALOG, NO_SCOPE, OciSigner, OciSignIn, SignIns, delete, push, repository_of

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

REDIRECTS = 3
REFERRERS_SECONDS = 10.0  # of silence, where nobody knows whether there is such an API


class Client:
    """One registry. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, limiter: Limiter, patience: Patience) -> None:
        self.root, self._api = settings.url, api_of(settings.url)
        self._namespace = namespace_of(settings.url)
        self.http = Http(settings.name, limiter, settings.rate.concurrency, patience, settings.network)
        self._threads = settings.rate.concurrency
        self._sign_in = SignIns(settings, self.http)
        self._catalog_pages, self._tags_pages = PageSize(), PageSize()
        self._referrers = Referrers(self._referrers_page, settings.name, settings.key)
        self.refused: dict[str, SignInError] = {}  # glob of credentials that were refused when they asked for the list

    def has_asked_for_credentials(self) -> bool:
        return any(way.asked for way in self._sign_in.all)

    def are_read_alike(self, one: str, other: str) -> bool:
        """Whether the same credentials are for both repositories."""
        return self._sign_in.are_read_alike(one, other)

    def time(self) -> datetime:
        """The registry's own, by whichever credentials it accepts. Raises RegistryError."""
        refused: RegistryError | None = None
        for way in self._sign_in.all:
            try:
                return self._time(way)
            except (SignInError, PermissionDeniedError) as error:
                refused = refused or error
        raise refused or BadAnswerError("there are no credentials")

    def _time(self, way: OciSignIn) -> datetime:
        try:
            request = protocol.ping(self._api)
            return self._call(request, lambda answer: protocol.time_of(answer, self._api), NO_SCOPE, way)
        except NotFoundError:
            if not self._namespace:
                raise
        api = self._api.removesuffix(f"/{self._namespace}")  # most registries answer there alone
        return self._call(protocol.ping(api), lambda answer: protocol.time_of(answer, api), NO_SCOPE, way)

    def catalog(self) -> tuple[str, ...] | None:
        """Every repository that the registry lists, to any of our users; None: it lists none. Raises RegistryError."""
        self.refused.clear()
        listed = [found for way in self._sign_in.all if (found := self._catalog_for(way)) is not None]
        return tuple(dict.fromkeys(name for names in listed for name in names)) if listed else None

    def _catalog_for(self, way: OciSignIn) -> tuple[str, ...] | None:
        listed = self._catalog_at(self._api, way)
        if listed is not None or not self._namespace:
            return listed
        whole = self._catalog_at(self._api.removesuffix(f"/{self._namespace}"), way)
        above = f"{self._namespace}/"
        return whole and tuple(name.removeprefix(above) for name in whole if name.startswith(above))

    def _catalog_at(self, api: str, way: OciSignIn) -> tuple[str, ...] | None:
        def ask(query: Mapping[str, str]) -> Page | None:
            request = protocol.list_repositories(api, query)
            return self._call(request, protocol.repositories_page, CATALOG, way)

        try:
            size = self._catalog_pages
            return whole_list(ask, self.http.registry, "/v2/_catalog", size, none_may_mean_refused=True)
        except PermissionDeniedError:  # as it is for most users of a registry
            return None
        except SignInError:
            try:
                self._time(way)  # where signing in works for everything else, it is the catalog that is refused
            except SignInError as error:
                if not error.for_some:
                    raise
                self.refused |= dict.fromkeys(way.globs, error)
            return None

    def tags(self, name: str) -> tuple[str, ...] | None:
        """Every tag of a repository, sorted; None: the registry does not know the repository.

        Raises BadAnswerError where the list may be cut, and any other RegistryError.
        """

        def read(answer: Answer) -> Page | None:
            return None if protocol.is_no_such_repository(answer) else protocol.tags_page(answer, name)

        def ask(query: Mapping[str, str]) -> Page | None:
            return self._call(protocol.list_tags(self._api, name, query), read, pull(name))

        found = whole_list(ask, self.http.registry, name, self._tags_pages)
        return None if found is None else tuple(sorted(found))

    def referrers(self, name: str, digest: str) -> tuple[str, ...]:
        """What the registry lists as referring to a digest. Raises RegistryError."""
        return self._referrers.of(name, digest)

    def _referrers_page(self, name: str, digest: str, query: Mapping[str, str], known: bool) -> Page | None:
        request = protocol.list_referrers(self._api, name, digest, query)
        if not known:  # there may be no such API, and the path be nobody's
            request = replace(request, attempts=2, timeout=REFERRERS_SECONDS)
        return self._call(request, lambda answer: protocol.referrers_page(answer, name, digest), pull(name))

    def look(self, name: str, reference: str, *, seen: bool = False, accept: str = manifests.ACCEPT) -> Found | None:
        """What a tag or digest names now, without its body unless need be; None: it is not there.

        `seen`: it was there with the types that we accept, so that a HEAD's 404 is believed. Raises RegistryError.
        """
        request = manifests.read_manifest("HEAD", self._api, name, reference, accept)
        found = self._call(request, lambda answer: protocol.head(answer, reference), pull(name))
        if isinstance(found, Found):
            return found
        if seen and found == 404:
            return None
        try:
            return self.fetch(name, reference, accept)
        except NotFoundError:
            return None

    def named(self, name: str, tags: Iterable[str]) -> dict[str, str]:
        """Tag -> the digest that it names now; left out: a tag that is gone. Raises RegistryError."""
        found = self.each(lambda tag: self.look(name, tag, seen=True), tags)
        return {tag: one.digest for tag, one in found.items() if one is not None}

    def resolved(self, name: str, tags: Iterable[str]) -> dict[str, Found]:
        """What each of these listed tags names; left out: one that a second list no longer has.

        Raises BadAnswerError for a tag that is listed, and whose manifest is not there: it may have been an index over
        anything. Raises any other RegistryError.
        """
        found = self.each(lambda tag: self.look(name, tag), tags)
        if lost := [tag for tag, one in found.items() if one is None]:
            listed = frozenset(self.tags(name) or ())
            found |= self.each(lambda tag: self.look(name, tag), [tag for tag in lost if tag in listed])
            if broken := [tag for tag in lost if tag in listed and found[tag] is None]:
                more = f" (and {len(broken) - 1:,} more)" if len(broken) > 1 else ""
                what = f"the tag {broken[0]}{more} is listed, but its manifest is not there; delete or push the tag"
                raise BadAnswerError(f"HTTP 404: {what}", self.http.registry, f"GET {manifests.about(name, broken[0])}")
        return {tag: one for tag, one in found.items() if one is not None}

    def fetch(self, name: str, reference: str, accept: str = manifests.ACCEPT) -> Found:
        """A manifest as it is, hashed. Raises NotFoundError and any other RegistryError."""
        request = manifests.read_manifest("GET", self._api, name, reference, accept)
        return self._call(request, lambda answer: protocol.fetched(answer, reference), pull(name))

    def manifest(self, name: str, digest: str, accept: str = manifests.ACCEPT) -> Manifest:
        """What a manifest says. Raises NotFoundError and any other RegistryError."""
        found = self.fetch(name, digest, accept)
        return manifests.parsed(found.body, found.media_type, digest)

    def delete(self, name: str, digest: str, seconds: float, not_after: float | None, tags: Iterable[str] = ()) -> None:
        """Ask for a deletion; `tags`: the image's. Raises RegistryError, with `maybe_done`."""
        request = deletion.delete_manifest(self._api, name, digest, seconds, not_after)
        self._call(request, lambda answer: deletion.deletion_begun(answer, self.root, name, tags), delete(name))

    def allows_deletion(self, name: str, digest: str) -> bool | None:
        """False: the registry is read-only; None: it does not say so. Raises RegistryError."""
        request = deletion.ask_what_is_allowed(self._api, name, digest)
        return self._call(request, deletion.allows_deletion, pull(name))

    def put(self, name: str, kept: Kept, tag: str) -> None:
        """Raises BlobsMissingError and any other RegistryError."""
        request = blobs.put_manifest(self._api, name, tag or kept.digest, kept.media_type, kept.body)
        self._call(request, lambda answer: blobs.put_back(answer, kept.digest), push(name))

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Whether a blob was taken over from another repository. Raises RegistryError."""
        full = f"{self._namespace}/{source}" if self._namespace else source
        request = blobs.mount_blob(self._api, name, digest, full)

        def read(answer: Answer) -> tuple[bool, Request | None]:
            return blobs.mounted(answer), blobs.end_upload(request, answer)

        taken, ending = self._call(request, read, push(name, source))
        if ending is not None:
            with suppress(RegistryError):  # else the registry gives the upload up in its own time
                self._call(ending, blobs.ended, delete(name))
        return taken

    def config(self, name: str, digest: str) -> bytes:
        """An image's config, hashed. Raises RegistryError."""
        body = self._blob(blobs.get_blob(self._api, name, digest), name).body
        if not manifests.names(digest, body):
            raise BrokenBodyError(f"a blob that is not the one that {digest} names", self.http.registry)
        return body

    def tells_of(self, name: str, digest: str) -> bool:
        """Whether a registry says that it has a blob. Raises RegistryError."""
        return self._call(blobs.head_blob(self._api, name, digest), blobs.blob_is_told_of, pull(name))

    def has_a_byte(self, name: str, digest: str) -> bool:
        """Whether a blob's first byte can be fetched; asked twice, as a connection may break. Raises RegistryError."""
        request = blobs.get_blob(self._api, name, digest, first_bytes=1)
        try:
            return any(blobs.first_byte(self._blob(request, name), digest) for _ in range(2))
        except NotFoundError:
            return False

    def each(self, ask: Callable[[K], T], about: Iterable[K]) -> dict[K, T]:
        """The answers by what was asked about, side by side. Raises what the first failure raises, and asks no more."""
        return each(ask, about, self._threads)

    def _blob(self, request: Request, name: str) -> Answer:
        """A blob, from wherever it is served: credentials stay with the registry. Raises RegistryError."""
        for _ in range(REDIRECTS + 1):
            at_home = place(urlsplit(request.url)) == place(urlsplit(self.root))
            answer = self._call(request, blobs.blob, pull(name) if at_home else None)
            if isinstance(answer, Answer):
                return answer
            request = blobs.redirected(request, answer)
        raise BadAnswerError(f"more than {REDIRECTS} redirects", self.http.registry, request.label)

    def _call(
        self, request: Request, read: Callable[[Answer], T], scopes: Scopes | None, way: OciSignIn | None = None
    ) -> T:
        """`scopes` None: without credentials. `way`: to sign in; None: the one for the scopes' repository."""

        def read_hidden(answer: Answer) -> T:
            try:
                return read(self._sign_in.masked(answer))
            except RegistryError as error:
                raise self._sign_in.hidden(error, answer) from None

        try:
            if scopes is None:
                return self.http.call(request, read_hidden, None)
            way = way or self._sign_in.way(repository_of(scopes))
            return self.http.call(request, read_hidden, OciSigner(way, self._sign_in.full(scopes)))
        except RegistryError as error:
            if isinstance(error, SignInError) and way is not None and way.name:
                error.message, error.for_some = f"{way.name}: {error.message}", True
            error.registry, error.request = error.registry or self.http.registry, error.request or request.label
            raise self._sign_in.hidden(error) from None
