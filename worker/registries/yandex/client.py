"""What the drivers of the vendor's registries share: signed calls, whole listings, operations, manifests by digest."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar
from urllib.parse import quote

from policies.image import Image
from worker.config.settings import RegistrySettings
from worker.registries.docker import manifests
from worker.registries.docker.manifest_cache import Read, read_in_time, with_subjects
from worker.registries.docker.manifests import about
from worker.registries.docker.tokens import DockerSignIn, ScopeSigner, pull
from worker.registries.errors import (
    BadResponseError,
    NotFoundError,
    OperationUnknownError,
    RegistryError,
    TooLateError,
    UnavailableError,
)
from worker.registries.http.client import Http, HttpDriver
from worker.registries.http.loops import Progress, each, polls
from worker.registries.http.messages import Request, Response, Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.http.responses import succeeded
from worker.registries.http.tokens import Basic, Bearer
from worker.registries.interface import Manifest, ManifestCache, Subjects
from worker.registries.yandex import api
from worker.registries.yandex.sign_in import open_tokens

T = TypeVar("T")


class YandexRegistry(HttpDriver):
    """One registry of either kind, by its id: its services, signed in. Safe to use from several threads."""

    def __init__(
        self, settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache
    ) -> None:
        self._id, self._manifests, self._concurrency = settings.id, manifests, settings.rate.concurrency
        self._operations = f"{settings.endpoints.operation}/operations"
        super().__init__(Http(settings.name, limiter, self._concurrency, retries, settings))
        self.tokens = open_tokens(settings, self.http)
        self.bearer = Bearer(self.tokens)
        docker = settings.endpoints.docker
        self._api = f"{docker}/v2"
        self._sign_in = DockerSignIn(self.http, docker, Basic(self.tokens, "iam"), account="iam")

    def call(self, request: Request, read: Callable[[Response], T], total: float | None = None) -> T:
        """What `read` makes of the answer. Raises RegistryError."""
        return self.http.call(request, read, self.bearer, total)

    def pages(
        self, request: Callable[[str], Request], read: Callable[[Response], api.ListingPage], key: Callable[[T], str]
    ) -> Iterator[Sequence[T]]:
        """The rows of a listing, page by page. A row that comes twice is normal, a listing that does not get on is not.

        Of a row that comes twice the later one counts: the listing may be long, and it is the fresher.
        `request`: for the page that a token leads to, "" to the first; `key`: which row it is.
        """
        known: set[str] = set()
        token, asked = "", request("")
        progress = Progress(self.http.registry, asked.about)
        progress.begin(token)
        while True:
            page, before = self.call(asked, read), len(known)
            known.update(key(row) for row in page.rows)
            if token := page.token:
                new = len(known) > before
                progress.turn(token, new=new, repeated=bool(page.rows) and not new)
            yield page.rows
            if not token:
                return
            asked = request(token)

    def deletion(self, request: Request, subject: str) -> api.Operation:
        """The operation that a deletion begins; it must be of what was asked for, by its id. Raises RegistryError."""

        def read(response: Response) -> api.Operation:
            operation = api.operation(response)
            told = operation.metadata and (operation.metadata.image_id or operation.metadata.artifact_id)
            if told and told != subject:
                raise BadResponseError(f"asked to delete {subject}, told of the deletion of {told}")
            return operation

        return self.call(request, read)

    def ended(self, operation_id: str, deadline: float) -> api.Operation | None:
        """An operation at its end; None: it goes on when `time.monotonic()` has reached `deadline`. Asks at least once.

        Raises OperationUnknownError and any other RegistryError, with `maybe_done`: how it ended is not known.
        """
        request = api.get(f"{self._operations}/{quote(operation_id, safe='')}", f"operation {operation_id}")
        for last in polls(deadline):
            try:
                operation = self.call(request, api.operation, total=max(1.0, deadline - time.monotonic()))
            except NotFoundError as error:
                what = (error.message, error.registry, error.request, error.status)
                raise OperationUnknownError(*what, maybe_done=True) from error
            except RegistryError as error:
                if isinstance(error, UnavailableError) and time.monotonic() >= deadline:
                    return None
                error.maybe_done = True
                raise
            # An error may be told while the service is still rolling back: final only with `done`, or when time is up.
            if operation.done or (operation.error and last):
                return operation
        return None

    def failure(self, operation: api.Operation, label: str) -> RegistryError | None:
        """What an operation that has ended did not do; None: it did what it was to do."""
        if operation.error is None:
            return None
        error = api.operation_error(operation.error)
        error.registry, error.request = self.http.registry, label
        return error

    def manifests(
        self, repository: str, digests: Sequence[str], not_after: float | None = None
    ) -> Mapping[str, Manifest | RegistryError]:
        """The manifests of these digests, read side by side by the Docker API.

        Each answer stands alone, an error never spreads. No request begins once `time.monotonic()` is `not_after`.
        """

        def ask(digest: str) -> Manifest | RegistryError:
            if not_after is not None and time.monotonic() >= not_after:
                return TooLateError("not read: the time for reading was over")
            try:
                return self._docker(
                    "GET", repository, digest, lambda response: manifests.manifest(response, digest), not_after
                )
            except RegistryError as error:
                return error

        return self._each(ask, digests)

    def existing(self, repository: str, digests: Iterable[str]) -> frozenset[str]:
        def is_there(digest: str) -> bool:
            try:
                self._insist_that_it_is_there(repository, digest)
            except NotFoundError:
                return False
            return True

        return frozenset(digest for digest, found in self._each(is_there, digests).items() if found)

    def read_subjects(
        self, repository: str, images: Sequence[Image], digests: Sequence[str], not_after: float
    ) -> Subjects:
        found, refusal = read_in_time(self._manifests, digests, self._read(repository, not_after), not_after)
        listed = with_subjects(images, found)
        return Subjects((*listed, *self._unlisted(repository, listed)), refusal)

    def _unlisted(self, _repository: str, _images: Sequence[Image]) -> Sequence[Image]:
        """What children and subjects lead to that no listing shows. Raises RegistryError."""
        return ()

    def _read(self, repository: str, not_after: float | None = None) -> Read:
        return lambda digests: self.manifests(repository, digests, not_after)

    def _insist_that_it_is_there(self, repository: str, digest: str) -> None:
        """Raises NotFoundError where the repository has no such manifest, or another error."""

        def read(response: Response) -> None:
            if not succeeded(response):
                raise manifests.refusal(response)

        self._docker("HEAD", repository, digest, read)

    def _docker(
        self,
        method: Literal["GET", "HEAD"],
        repository: str,
        digest: str,
        read: Callable[[Response], T],
        not_after: float | None = None,
    ) -> T:
        """A manifest by the Docker API. Raises RegistryError."""
        name, label = self._name(repository), about(repository, digest)
        request = manifests.read_manifest(method, self._api, name, digest, about=label, not_after=not_after)
        return self.http.call(request, read, ScopeSigner(self._sign_in, pull(name)))

    def _each(self, ask: Callable[[str], T], digests: Iterable[str]) -> Mapping[str, T]:
        """What `ask` says of each of these digests, asked side by side."""
        return each(ask, digests, self._concurrency)

    def _name(self, repository: str) -> str:
        return f"{self._id}/{repository}"
