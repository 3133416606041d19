"""The client of one OCI registry: each method reads one fact, with its pages, its fallback to GET and its sign-in.

`listing` turns these facts into images; `protocol`, `blobs` and `deletion` build requests and read responses.
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
from worker.registries.http.loops import call_in_threads
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
REFERRERS_SECONDS = 10.0  # without a byte, as long as the API has never worked


class Client:
    """The client of one registry. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, limiter: Limiter, retries: Retries) -> None:
        self.root, self.api = settings.url, api_of(settings.url)
        self.namespace = namespace_of(settings.url)
        self.http = Http(settings.name, limiter, settings.rate.concurrency, retries, settings)
        self._threads = settings.rate.concurrency
        self.sign_ins = SignIns(settings, self.http)
        self._catalog_pages, self._tags_pages = PageSize(), PageSize()
        self.referrers = Referrers(self._referrers_page, settings.name, settings.key)
        self.refused: dict[str, SignInError] = {}  # glob of credentials -> their refusal for the catalog

    def time(self) -> datetime:
        """The time of the registry, with the first credentials that it accepts. Raises RegistryError."""
        refused: RegistryError | None = None
        for sign_in in self.sign_ins.all:
            try:
                return self._time(sign_in)
            except (SignInError, PermissionDeniedError) as error:
                refused = refused or error
        raise refused or BadResponseError("no credentials are configured")

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
        """All repositories that any of the credentials lists; None: no catalog. Raises RegistryError."""
        self.refused.clear()
        lists, prefix = [], f"{self.namespace}/"
        for sign_in in self.sign_ins.all:
            listed = self._catalog_at(self.api, sign_in)
            if listed is None and self.namespace:
                whole = self._catalog_at(self.api.removesuffix(f"/{self.namespace}"), sign_in)
                listed = whole and tuple(name.removeprefix(prefix) for name in whole if name.startswith(prefix))
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
        except PermissionDeniedError:  # as for most users of a registry
            return None
        except SignInError:
            try:
                self._time(sign_in)  # if this succeeds, only the catalog is refused
            except SignInError as error:
                if not error.partial:
                    raise
                self.refused |= dict.fromkeys(sign_in.globs, error)
            return None

    def tags(self, name: str) -> tuple[str, ...] | None:
        """All tags of a repository, sorted; None: no such repository.

        Raises BadResponseError: the list may be truncated. Raises any other RegistryError.
        """

        def ask(query: Mapping[str, str]) -> Page | None:
            request = protocol.list_tags(self.api, name, query)
            return self.call(request, lambda response: protocol.tags_page(response, name), name)

        tags = whole_list(ask, self.http.registry, name, self._tags_pages)
        return None if tags is None else tuple(sorted(tags))

    def _referrers_page(self, name: str, digest: str, query: Mapping[str, str], known: bool) -> Page | None:
        request = protocol.list_referrers(self.api, name, digest, query)
        if not known:  # the registry may not have this API
            request = replace(request, attempts=2, timeout=REFERRERS_SECONDS)
        return self.call(request, lambda response: protocol.referrers_page(response, name, digest), name)

    def resolve(
        self, name: str, reference: str, *, seen: bool = False, accept: str = manifests.ACCEPT
    ) -> ResolvedManifest | None:
        """The manifest that a tag or digest names now, by HEAD if possible; None: no such manifest.

        `seen`: it existed with a type that we accept, so a 404 of HEAD is final. Raises RegistryError.
        """
        request = manifests.read_manifest("HEAD", self.api, name, reference, accept)
        result = self.call(request, lambda response: protocol.head(response, reference), name)
        if isinstance(result, ResolvedManifest):
            return result
        if seen and result == 404:
            return None
        try:
            return self.fetch(name, reference, accept)
        except NotFoundError:
            return None

    def tag_digests(self, name: str, tags: Iterable[str]) -> dict[str, str]:
        """Tag -> current digest, without the tags that no longer exist. Raises RegistryError. One HEAD per tag, in
        parallel, and a GET where the HEAD names no digest; a 404 of the HEAD is final.
        """
        resolved = self.call_in_threads(lambda tag: self.resolve(name, tag, seen=True), tags)
        return {tag: manifest.digest for tag, manifest in resolved.items() if manifest is not None}

    def resolve_listed(self, name: str, tags: Iterable[str]) -> dict[str, ResolvedManifest]:
        """The manifest of each listed tag, without the tags that a second list no longer has.

        Raises BadResponseError: a tag is listed, but its manifest, perhaps an index, does not exist. Raises any other
        RegistryError.
        """
        resolved = self.call_in_threads(lambda tag: self.resolve(name, tag), tags)
        if lost := [tag for tag, manifest in resolved.items() if manifest is None]:
            listed = frozenset(self.tags(name) or ())
            resolved |= self.call_in_threads(
                lambda tag: self.resolve(name, tag), [tag for tag in lost if tag in listed]
            )
            if broken := [tag for tag in lost if tag in listed and resolved[tag] is None]:
                more = f" (and {len(broken) - 1:,} more)" if len(broken) > 1 else ""
                what = f"the tag {broken[0]}{more} is listed, but its manifest does not exist; delete or push the tag"
                raise BadResponseError(
                    f"HTTP 404: {what}", self.http.registry, f"GET {manifests.about(name, broken[0])}"
                )
        return {tag: manifest for tag, manifest in resolved.items() if manifest is not None}

    def fetch(self, name: str, reference: str, accept: str = manifests.ACCEPT) -> ResolvedManifest:
        """Download a manifest and check its digest. Raises NotFoundError and any other RegistryError. `reference`: a
        tag or a digest. BrokenBodyError: the body does not have the digest. Source: OCI distribution specification,
        "Pulling manifests".
        """
        request = manifests.read_manifest("GET", self.api, name, reference, accept)
        return self.call(request, lambda response: protocol.fetched(response, reference), name)

    def manifest(self, name: str, digest: str, accept: str = manifests.ACCEPT) -> Manifest:
        """Download and parse a manifest. Raises NotFoundError and any other RegistryError. An error of the parser, a
        BadResponseError, names neither the registry nor the request.
        """
        fetched = self.fetch(name, digest, accept)
        return manifests.parsed(fetched.body, fetched.media_type, digest)

    def config(self, name: str, digest: str) -> bytes:
        """Download the config of an image and check its digest. Raises RegistryError. NotFoundError: no such blob.
        BrokenBodyError: the blob has another digest. Follows up to REDIRECTS redirects.
        """
        body = self._blob(blobs.read_blob("GET", self.api, name, digest), name).body
        if not manifests.names(digest, body):
            raise BrokenBodyError(f"the blob does not have the digest {digest}", self.http.registry)
        return body

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether the registry reports a blob or redirects to it. Raises RegistryError. True does not prove that the
        blob can be downloaded: see `serves_blob`. A redirect is not followed.
        """
        request = blobs.read_blob("HEAD", self.api, name, digest)
        return self.call(
            request, lambda response: response.status != 404 and bool(blobs.blob_or_redirect(response)), name
        )

    def serves_blob(self, name: str, digest: str) -> bool:
        """Whether the first byte of a blob can be downloaded, in two attempts. Raises RegistryError."""
        request = blobs.read_blob("GET", self.api, name, digest, first_bytes=1)
        try:
            # A server may report a blob whose data is lost. An empty blob has no first byte.
            return any(self._blob(request, name).body or digest in blobs.EMPTY_DIGESTS for _ in range(2))
        except NotFoundError:
            return False

    def call_in_threads(self, ask: Callable[[K], T], about: Iterable[K]) -> dict[K, T]:
        """Call `ask` for each key in parallel threads: the results by key. Raises the first error."""
        return call_in_threads(ask, about, self._threads)

    def _blob(self, request: Request, name: str) -> Response:
        """A blob, perhaps from a redirect, to which no credentials are sent. Raises RegistryError."""
        for _ in range(REDIRECTS + 1):
            is_registry = host_and_port(urlsplit(request.url)) == host_and_port(urlsplit(self.root))
            response = self._signed(
                request, blobs.blob_or_redirect, self.sign_ins.of(name, "pull") if is_registry else None
            )
            if isinstance(response, Response):
                return response
            request = blobs.redirect_request(request, response)
        raise BadResponseError(f"more than {REDIRECTS} redirects", self.http.registry, request.label)

    def call(
        self, request: Request, read: Callable[[Response], T], name: str, actions: str = "pull", source: str = ""
    ) -> T:
        """Send a request with the credentials for a repository. Raises RegistryError."""
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
