"""The shared client of both Yandex drivers: signed calls, complete listings, operations, manifests by digest."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar
from urllib.parse import quote

from policies.image import Image
from worker.config.settings import RegistrySettings
from worker.registries.docker import manifests
from worker.registries.docker.manifest_cache import Read, read_until, with_subjects
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
from worker.registries.http.loops import PageGuard, call_in_threads, polls
from worker.registries.http.messages import Request, Response, Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.http.responses import succeeded
from worker.registries.http.tokens import Basic, Bearer
from worker.registries.interface import Manifest, ManifestCache, Subjects
from worker.registries.yandex import api
from worker.registries.yandex.sign_in import open_tokens

T = TypeVar("T")


class YandexRegistry(HttpDriver):
    """One registry of either kind: its services, with sign-in. Safe to use from several threads."""

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
        """The result of `read` for the response. Raises RegistryError."""
        return self.http.call(request, read, self.bearer, total)

    def pages(
        self, request: Callable[[str], Request], read: Callable[[Response], api.ListingPage], key: Callable[[T], str]
    ) -> Iterator[Sequence[T]]:
        """The rows of a listing, page by page. Raises RegistryError, also for a listing that never ends.

        A listing may repeat a row while the registry changes; the later copy is newer and counts.
        `request`: builds the request of a page from its token, "" for the first page; `key`: identifies a row.
        """
        known: set[str] = set()
        token, page_request = "", request("")
        guard = PageGuard(self.http.registry, page_request.about)
        guard.first_page(token)
        while True:
            page, before = self.call(page_request, read), len(known)
            known.update(key(row) for row in page.rows)
            if token := page.token:
                new = len(known) > before
                guard.next_page(token, new=new, repeated=bool(page.rows) and not new)
            yield page.rows
            if not token:
                return
            page_request = request(token)

    def start_deletion(self, request: Request, subject: str) -> api.Operation:
        """Send a deletion; the operation must name `subject`, an image or artifact id. Raises RegistryError."""

        def read(response: Response) -> api.Operation:
            operation = api.operation(response)
            deleted = operation.metadata and (operation.metadata.image_id or operation.metadata.artifact_id)
            if deleted and deleted != subject:
                raise BadResponseError(f"expected the deletion of {subject}, got the deletion of {deleted}")
            return operation

        return self.call(request, read)

    def wait_for_operation(self, operation_id: str, deadline: float) -> api.Operation | None:
        """The operation when it has ended; None: it is unfinished at `deadline` (`time.monotonic()`).

        Sends at least one request. Raises OperationUnknownError and any other RegistryError, with `maybe_done`: the
        outcome of the operation is unknown.
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
            # An error may appear while the service rolls back: it is final with `done`, or at the deadline.
            if operation.done or (operation.error and last):
                return operation
        return None

    def operation_failure(self, operation: api.Operation, label: str) -> RegistryError | None:
        """The error of an ended operation; None: it succeeded. Returned, not raised: its kind is that of
        `api.operation_to_error`. `label`: the request, for its message.
        """
        if operation.error is None:
            return None
        error = api.operation_to_error(operation.error)
        error.registry, error.request = self.http.registry, label
        return error

    def manifests(
        self, repository: str, digests: Sequence[str], not_after: float | None = None
    ) -> Mapping[str, Manifest | RegistryError]:
        """The manifests of these digests, read in parallel by the Docker API, each with its own result or error.

        No request starts after `not_after` (`time.monotonic()`).
        """

        def read_one(digest: str) -> Manifest | RegistryError:
            if not_after is not None and time.monotonic() >= not_after:
                return TooLateError("not read: the time limit for reading manifests was reached")
            try:
                return self._docker_call(
                    "GET", repository, digest, lambda response: manifests.manifest(response, digest), not_after
                )
            except RegistryError as error:
                return error

        return call_in_threads(read_one, digests, self._concurrency)

    def existing(self, repository: str, digests: Iterable[str]) -> frozenset[str]:
        def exists(digest: str) -> bool:
            try:
                self._require_manifest(repository, digest)
            except NotFoundError:
                return False
            return True

        return frozenset(
            digest for digest, there in call_in_threads(exists, digests, self._concurrency).items() if there
        )

    def read_subjects(
        self, repository: str, images: Sequence[Image], digests: Sequence[str], not_after: float
    ) -> Subjects:
        read = self._manifest_reader(repository, not_after)
        known, refusal = read_until(self._manifests, digests, read, not_after)
        listed = with_subjects(images, known)
        return Subjects((*listed, *self._unlisted_images(repository, listed)), refusal)

    def _unlisted_images(self, _repository: str, _images: Sequence[Image]) -> Sequence[Image]:
        """Children and subjects of these images that the listing does not show. Raises RegistryError."""
        return ()

    def _manifest_reader(self, repository: str, not_after: float | None = None) -> Read:
        return lambda digests: self.manifests(repository, digests, not_after)

    def _require_manifest(self, repository: str, digest: str) -> None:
        """Raises NotFoundError if the repository has no such manifest, and any other RegistryError."""

        def read(response: Response) -> None:
            if not succeeded(response):
                raise manifests.refusal(response)

        self._docker_call("HEAD", repository, digest, read)

    def _docker_call(
        self,
        method: Literal["GET", "HEAD"],
        repository: str,
        digest: str,
        read: Callable[[Response], T],
        not_after: float | None = None,
    ) -> T:
        """Request a manifest by the Docker API. Raises RegistryError."""
        name, label = self._full_name(repository), about(repository, digest)
        request = manifests.read_manifest(method, self._api, name, digest, about=label, not_after=not_after)
        return self.http.call(request, read, ScopeSigner(self._sign_in, pull(name)))

    def _full_name(self, repository: str) -> str:
        return f"{self._id}/{repository}"
