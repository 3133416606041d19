"""Yandex Container Registry: lists, reads and deletes images by its REST API, reads manifests by its Docker API.

This adapter only sends; what goes over the wire and what comes back is in `yandex_protocol` and `docker`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from policies.image import Image
from worker.config import RegistrySettings
from worker.registries import docker
from worker.registries import yandex_protocol as protocol
from worker.registries.http import Http, Patience
from worker.registries.interface import (
    BadAnswerError,
    Deletion,
    Manifest,
    Manifests,
    NotFoundError,
    OperationUnknownError,
    RegistryError,
    UnavailableError,
    Usage,
)
from worker.registries.limiter import Limiter
from worker.registries.manifests import read_through, resolved
from worker.registries.messages import Answer, Request
from worker.registries.yandex_sign_in import Basic, Bearer, open_tokens

T = TypeVar("T")

MAX_PAGES = 5000  # of one listing; with full pages that is five million images
EMPTY_PAGES = (
    10  # in a row with a further token: rows that were deleted meanwhile, or a server that goes round in circles
)
FIRST_POLL, LONGEST_POLL = 0.05, 2.0  # seconds between two looks at an operation, doubled each time


def open_driver(
    settings: RegistrySettings, limiter: Limiter, patience: Patience, manifests: Manifests
) -> "YandexContainerRegistry":
    """A registry of this kind; nothing is sent yet."""
    return YandexContainerRegistry(settings, limiter, patience, manifests)


class YandexContainerRegistry:
    """One registry, by its id. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, limiter: Limiter, patience: Patience, manifests: Manifests) -> None:
        self._manifests = manifests
        self._id = settings.id
        self._endpoints = settings.endpoints
        self._concurrency = settings.rate.concurrency
        self._http = Http(settings.name, limiter, settings.rate.concurrency, patience)
        self._tokens = open_tokens(settings, self._http)
        self._bearer = Bearer(self._tokens)
        self._docker = docker.DockerSignIn(self._http, self._endpoints.docker, Basic(self._tokens))

    def __enter__(self) -> "YandexContainerRegistry":
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def usage(self) -> Usage:
        return self._http.usage()

    def clock(self) -> datetime:
        def read(answer: Answer) -> datetime:
            found = protocol.accepted(answer, protocol.WireRegistry)
            if found.id != self._id:
                raise BadAnswerError(f"asked for registry {self._id}, told of {found.id!r}")
            if answer.date is None:
                raise BadAnswerError("an answer without a readable Date: the clocks cannot be compared")
            return answer.date

        return self._call(protocol.get_registry(self._endpoints.container_registry, self._id), read)

    def repositories(self) -> Iterator[str]:
        def ask(token: str) -> protocol.Page:
            request = protocol.list_repositories(self._endpoints.container_registry, self._id, token)
            return self._call(request, lambda answer: protocol.repositories_page(answer, self._id))

        yield from sorted(self._all_pages(ask, lambda path: path, "repositories").values())

    def images(self, repository: str) -> tuple[Image, ...]:
        name = f"{self._id}/{repository}"

        def ask(token: str) -> protocol.Page:
            request = protocol.list_images(self._endpoints.container_registry, name, repository, token)
            return self._call(request, lambda answer: protocol.images_page(answer, name))

        listed: dict[str, Image] = self._all_pages(ask, lambda image: image.digest, repository)
        images = tuple(listed.values())
        wanted = [image.digest for image in images if image.config is None]  # an index, or it cannot be known
        if not wanted:
            return images
        found = read_through(self._manifests, wanted, lambda digests: self.manifests(repository, digests))
        asked = set(wanted)
        return tuple(resolved(image, found.get(image.digest)) if image.digest in asked else image for image in images)

    def manifests(self, repository: str, digests: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
        """The manifests of these digests, read side by side; each answer stands alone, an error never spreads."""
        wanted = tuple(dict.fromkeys(digests))
        if not wanted:
            return {}
        with ThreadPoolExecutor(min(len(wanted), self._concurrency), "manifests") as pool:
            return dict(zip(wanted, pool.map(lambda digest: self._manifest(repository, digest), wanted), strict=True))

    def get(self, repository: str, image: Image, known_tags: frozenset[str] = frozenset()) -> Image:  # noqa: ARG002 - told with the image
        name, about = f"{self._id}/{repository}", _about(repository, image.digest)
        found = self._call(
            protocol.get_image(self._endpoints.container_registry, image.id, about),
            lambda answer: protocol.image(answer, name),
        )
        if found.id != image.id:
            raise self._bad(f"asked for the image {image.id}, told of {found.id}", f"GET {about}")
        return found

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        about, root = _about(repository, image.digest), self._endpoints.container_registry
        request = protocol.delete_image(root, image.id, about, idempotency_key, not_after)
        operation = self._call(request, protocol.operation)
        told = operation.metadata.image_id if operation.metadata else None
        if told and told != image.id:
            error = self._bad(f"asked to delete {image.id}, told of the deletion of {told}", request.label)
            error.maybe_done = True
            raise error
        return self._outcome(operation, request.label)

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        if deletion.done:
            return deletion
        request = protocol.get_operation(self._endpoints.operation, deletion.operation_id)
        wait = FIRST_POLL
        while True:
            time.sleep(max(0.0, min(wait, deadline - time.monotonic())))
            last = time.monotonic() >= deadline
            try:
                operation = self._ask(request, deadline)
            except UnavailableError:
                if time.monotonic() >= deadline:
                    return deletion
                raise
            # An error may be told while the service is still rolling back: final only with `done`, or when time is up.
            if operation.done or (operation.error and last):
                return self._outcome(operation, request.label, final=True)
            if last:
                return deletion
            wait = min(wait * 2, LONGEST_POLL)

    def _ask(self, request: Request, deadline: float) -> protocol.Operation:
        """Where an operation stands. An error here says nothing of how it ended: `maybe_done`."""
        try:
            return self._call(request, protocol.operation, total=max(1.0, deadline - time.monotonic()))
        except NotFoundError as error:
            unknown = OperationUnknownError(error.message, error.registry, error.request, error.status)
            unknown.maybe_done = True
            raise unknown from error
        except RegistryError as error:
            error.maybe_done = True
            raise

    def _manifest(self, repository: str, digest: str) -> Manifest | RegistryError:
        name = f"{self._id}/{repository}"
        request = docker.get_manifest(self._endpoints.docker, name, digest, _about(repository, digest))
        try:
            return self._http.call(request, lambda answer: docker.manifest(answer, digest), self._docker.of(name))
        except RegistryError as error:
            return error

    def _outcome(self, operation: protocol.Operation, label: str, final: bool = False) -> Deletion:
        if operation.error and (operation.done or final):
            error = protocol.operation_error(operation.error)
            error.registry, error.request = self._http.registry, label
            raise error
        return Deletion(operation.id or "", bool(operation.done))

    def _all_pages(self, ask: Callable[[str], protocol.Page], key: Callable[[T], str], about: str) -> dict[str, T]:
        """Every row of a listing by its key. A row that comes twice is normal, a listing that does not get on is not.

        Of a row that comes twice the later one counts: the listing may be long, and it is the fresher.
        """
        rows: dict[str, T] = {}
        token, tokens, empty = "", {""}, 0
        for _ in range(MAX_PAGES):
            page = ask(token)
            known = len(rows)
            rows |= {key(row): row for row in page.rows}
            token = page.token
            if not token:
                return rows
            empty = 0 if page.rows else empty + 1
            if token in tokens:
                raise self._bad(f"the listing never ends: the page token {token[:40]!r} came twice", f"GET {about}")
            if (page.rows and len(rows) == known) or empty > EMPTY_PAGES:
                raise self._bad("the listing never ends: a further page brought nothing new", f"GET {about}")
            tokens.add(token)
        raise self._bad(f"the listing never ends: more than {MAX_PAGES:,} pages", f"GET {about}")

    def _call(self, request: Request, read: Callable[[Answer], T], total: float | None = None) -> T:
        return self._http.call(request, read, self._bearer, total)

    def _bad(self, message: str, label: str) -> BadAnswerError:
        return BadAnswerError(message, self._http.registry, label)


def _about(repository: str, digest: str) -> str:
    return f"{repository}@{digest[:19]}…"
