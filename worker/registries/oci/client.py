"""Talks to one OCI registry: each call is one question, with its pages, its repeat as GET and its sign-in.

What the answers mean for images is in `listing`, what goes over the wire in `protocol`, `blobs` and `deletion`.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

from worker.config.settings import RegistrySettings, api_of, namespace_of
from worker.registries.docker import manifests
from worker.registries.docker.tokens import host_and_port
from worker.registries.errors import BadResponseError, NotFoundError, PermissionDeniedError, RegistryError, SignInError
from worker.registries.http.client import Http
from worker.registries.http.loops import each
from worker.registries.http.messages import BrokenBodyError, Request, Response, Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.interface import Manifest
from worker.registries.oci import blobs, protocol
from worker.registries.oci.pages import PageSize, whole_list
from worker.registries.oci.protocol import Page, ResolvedManifest
from worker.registries.oci.referrers import Referrers
from worker.registries.oci.sign_in import CATALOG, NO_SCOPE, OciSigner, OciSignIn, SignIns

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

REDIRECTS = 3
REFERRERS_SECONDS = 10.0  # of silence, where nobody knows whether there is such an API


class Client:
    """One registry. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, limiter: Limiter, retries: Retries) -> None:
        self.root, self.api = settings.url, api_of(settings.url)
        self.namespace = namespace_of(settings.url)
        self.http = Http(settings.name, limiter, settings.rate.concurrency, retries, settings)
        self._threads = settings.rate.concurrency
        self.sign_ins = SignIns(settings, self.http)
        self._catalog_pages, self._tags_pages = PageSize(), PageSize()
        self.referrers = Referrers(self._referrers_page, settings.name, settings.key)
        self.refused: dict[str, SignInError] = {}  # glob of credentials that were refused when they asked for the list

    def time(self) -> datetime:
        """The registry's own, by whichever credentials it accepts. Raises RegistryError."""
        refused: RegistryError | None = None
        for sign_in in self.sign_ins.all:
            try:
                return self._time(sign_in)
            except (SignInError, PermissionDeniedError) as error:
                refused = refused or error
        raise refused or BadResponseError("there are no credentials")

    def _time(self, sign_in: OciSignIn) -> datetime:
        try:
            request = protocol.ping(self.api)
            return self._signed(
                request, lambda response: protocol.time_of(response, self.api), OciSigner(sign_in, NO_SCOPE)
            )
        except NotFoundError:
            if not self.namespace:
                raise
        api = self.api.removesuffix(f"/{self.namespace}")  # most registries answer there alone
        return self._signed(
            protocol.ping(api), lambda response: protocol.time_of(response, api), OciSigner(sign_in, NO_SCOPE)
        )

    def catalog(self) -> tuple[str, ...] | None:
        """Every repository that the registry lists, to any of our users; None: it lists none. Raises RegistryError."""
        self.refused.clear()
        lists, above = [], f"{self.namespace}/"
        for sign_in in self.sign_ins.all:
            listed = self._catalog_at(self.api, sign_in)
            if listed is None and self.namespace:
                whole = self._catalog_at(self.api.removesuffix(f"/{self.namespace}"), sign_in)
                listed = whole and tuple(name.removeprefix(above) for name in whole if name.startswith(above))
            if listed is not None:
                lists.append(listed)
        return tuple(dict.fromkeys(name for names in lists for name in names)) if lists else None

    def _catalog_at(self, api: str, sign_in: OciSignIn) -> tuple[str, ...] | None:
        def ask(query: Mapping[str, str]) -> Page | None:
            request = protocol.list_repositories(api, query)
            return self._signed(request, protocol.repositories_page, OciSigner(sign_in, CATALOG))

        try:
            size = self._catalog_pages
            return whole_list(ask, self.http.registry, "/v2/_catalog", size, none_may_mean_refused=True)
        except PermissionDeniedError:  # as it is for most users of a registry
            return None
        except SignInError:
            try:
                self._time(sign_in)  # where signing in works for everything else, it is the catalog that is refused
            except SignInError as error:
                if not error.partial:
                    raise
                self.refused |= dict.fromkeys(sign_in.globs, error)
            return None

    def tags(self, name: str) -> tuple[str, ...] | None:
        """Every tag of a repository, sorted; None: the registry does not know the repository.

        Raises BadResponseError where the list may be cut, and any other RegistryError.
        """

        def ask(query: Mapping[str, str]) -> Page | None:
            request = protocol.list_tags(self.api, name, query)
            return self.call(request, lambda response: protocol.tags_page(response, name), name)

        found = whole_list(ask, self.http.registry, name, self._tags_pages)
        return None if found is None else tuple(sorted(found))

    def _referrers_page(self, name: str, digest: str, query: Mapping[str, str], known: bool) -> Page | None:
        request = protocol.list_referrers(self.api, name, digest, query)
        if not known:  # there may be no such API, and the path be nobody's
            request = replace(request, attempts=2, timeout=REFERRERS_SECONDS)
        return self.call(request, lambda response: protocol.referrers_page(response, name, digest), name)

    def resolve(
        self, name: str, reference: str, *, seen: bool = False, accept: str = manifests.ACCEPT
    ) -> ResolvedManifest | None:
        """What a tag or digest names now, without its body unless need be; None: it is not there.

        `seen`: it was there with the types that we accept, so that a HEAD's 404 is believed. Raises RegistryError.
        """
        request = manifests.read_manifest("HEAD", self.api, name, reference, accept)
        found = self.call(request, lambda response: protocol.head(response, reference), name)
        if isinstance(found, ResolvedManifest):
            return found
        if seen and found == 404:
            return None
        try:
            return self.fetch(name, reference, accept)
        except NotFoundError:
            return None

    def tag_digests(self, name: str, tags: Iterable[str]) -> dict[str, str]:
        """Tag -> the digest that it names now; left out: a tag that is gone. Raises RegistryError."""
        found = self.each(lambda tag: self.resolve(name, tag, seen=True), tags)
        return {tag: one.digest for tag, one in found.items() if one is not None}

    def resolve_listed(self, name: str, tags: Iterable[str]) -> dict[str, ResolvedManifest]:
        """What each of these listed tags names; left out: one that a second list no longer has.

        Raises BadResponseError for a tag that is listed, and whose manifest is not there: it may have been an
        index over anything. Raises any other RegistryError.
        """
        found = self.each(lambda tag: self.resolve(name, tag), tags)
        if lost := [tag for tag, one in found.items() if one is None]:
            listed = frozenset(self.tags(name) or ())
            found |= self.each(lambda tag: self.resolve(name, tag), [tag for tag in lost if tag in listed])
            if broken := [tag for tag in lost if tag in listed and found[tag] is None]:
                more = f" (and {len(broken) - 1:,} more)" if len(broken) > 1 else ""
                what = f"the tag {broken[0]}{more} is listed, but its manifest is not there; delete or push the tag"
                raise BadResponseError(
                    f"HTTP 404: {what}", self.http.registry, f"GET {manifests.about(name, broken[0])}"
                )
        return {tag: one for tag, one in found.items() if one is not None}

    def fetch(self, name: str, reference: str, accept: str = manifests.ACCEPT) -> ResolvedManifest:
        """A manifest as it is, hashed. Raises NotFoundError and any other RegistryError."""
        request = manifests.read_manifest("GET", self.api, name, reference, accept)
        return self.call(request, lambda response: protocol.fetched(response, reference), name)

    def manifest(self, name: str, digest: str, accept: str = manifests.ACCEPT) -> Manifest:
        """What a manifest says. Raises NotFoundError and any other RegistryError."""
        found = self.fetch(name, digest, accept)
        return manifests.parsed(found.body, found.media_type, digest)

    def config(self, name: str, digest: str) -> bytes:
        """An image's config, hashed. Raises RegistryError."""
        body = self._blob(blobs.read_blob("GET", self.api, name, digest), name).body
        if not manifests.names(digest, body):
            raise BrokenBodyError(f"a blob that is not the one that {digest} names", self.http.registry)
        return body

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether a registry says that it has a blob, or where. Raises RegistryError."""
        request = blobs.read_blob("HEAD", self.api, name, digest)
        return self.call(request, lambda response: response.status != 404 and bool(blobs.blob(response)), name)

    def serves_blob(self, name: str, digest: str) -> bool:
        """Whether a blob's first byte can be fetched; asked twice, as a connection may break. Raises RegistryError."""
        request = blobs.read_blob("GET", self.api, name, digest, first_bytes=1)
        try:
            # A server may tell of a blob, and have nothing to send. Of nothing none comes.
            return any(self._blob(request, name).body or digest in blobs.NOTHING for _ in range(2))
        except NotFoundError:
            return False

    def each(self, ask: Callable[[K], T], about: Iterable[K]) -> dict[K, T]:
        """The answers by what was asked about, side by side. Raises what the first failure raises, and asks no more."""
        return each(ask, about, self._threads)

    def _blob(self, request: Request, name: str) -> Response:
        """A blob, from wherever it is served: credentials stay with the registry. Raises RegistryError."""
        for _ in range(REDIRECTS + 1):
            at_home = host_and_port(urlsplit(request.url)) == host_and_port(urlsplit(self.root))
            response = self._signed(request, blobs.blob, self.sign_ins.of(name, "pull") if at_home else None)
            if isinstance(response, Response):
                return response
            request = blobs.redirected(request, response)
        raise BadResponseError(f"more than {REDIRECTS} redirects", self.http.registry, request.label)

    def call(
        self, request: Request, read: Callable[[Response], T], name: str, actions: str = "pull", source: str = ""
    ) -> T:
        """What `read` makes of the answer, signed in as `SignIns.of` says. Raises RegistryError."""
        try:
            signer = self.sign_ins.of(name, actions, source)
        except RegistryError as error:
            error.registry, error.request = self.http.registry, request.label
            raise
        return self._signed(request, read, signer)

    def _signed(self, request: Request, read: Callable[[Response], T], signer: OciSigner | None) -> T:
        def read_hidden(response: Response) -> T:
            try:
                return read(self.sign_ins.masked(response))
            except RegistryError as error:
                raise self.sign_ins.hidden(error, response) from None

        try:
            return self.http.call(request, read_hidden, signer)
        except RegistryError as error:
            if isinstance(error, SignInError) and signer is not None and signer.sign_in.name:
                error.message, error.partial = f"{signer.sign_in.name}: {error.message}", True
            raise self.sign_ins.hidden(error) from None
