"""Any registry that speaks the OCI distribution specification: lists, reads, deletes and puts back images.

This adapter puts together what the other modules `oci_*` know.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

from msgspec.structs import replace

from policies.image import Image
from policies.patterns import Patterns
from worker.config import RegistrySettings
from worker.registries import oci_protocol as protocol
from worker.registries.answers import one_line
from worker.registries.http import Patience
from worker.registries.interface import (
    BadAnswerError,
    Deletion,
    Manifests,
    NotFoundError,
    RegistryError,
    UnavailableError,
    Usage,
)
from worker.registries.limiter import Limiter
from worker.registries.oci_client import Client
from worker.registries.oci_listing import Listing

DELETE_SECONDS = 25.0  # one DELETE reads every tag of its repository


def open_driver(settings: RegistrySettings, limiter: Limiter, patience: Patience, manifests: Manifests) -> "Oci":
    """A registry of this kind; nothing is sent yet."""
    return Oci(settings, limiter, patience, manifests)


class Oci:
    """One registry, by its url. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, limiter: Limiter, patience: Patience, manifests: Manifests) -> None:
        self._settings = settings
        self._host = urlsplit(settings.url).netloc
        self._manifests = manifests
        self._client = Client(settings, limiter, patience)

    def __enter__(self) -> "Oci":
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.http.close()

    def usage(self) -> Usage:
        return self._client.http.usage()

    def clock(self) -> datetime:
        return self._client.time()

    def repositories(self) -> Iterator[str]:
        globs = self._settings.repositories
        paths = self._client.catalog()
        if paths is None:
            raise NotFoundError("the registry lists no repositories")
        match = Patterns(globs or ("**",), paths=True).match
        found = sorted(path for path in paths if match(path) is not None)
        for path in found:
            if not protocol.is_name(path):
                raise BadAnswerError(f"a repository with an impossible name: {one_line(path)!r}")
        yield from found

    def images(self, repository: str) -> tuple[Image, ...]:
        tags = self._client.tags(repository)
        return Listing(self._client, self._manifests, self._host, repository).images(tags or ())

    def get(self, repository: str, image: Image, known_tags: frozenset[str] = frozenset()) -> Image:
        if self._client.look(repository, image.digest) is None:
            raise NotFoundError("there is no such manifest", self._client.http.registry)
        others = frozenset(self._client.tags(repository) or ()) - known_tags
        now = self._client.each(
            lambda tag: self._client.look(repository, tag, seen=True), sorted({*image.tags, *others})
        )
        return replace(image, tags=tuple(tag for tag, found in now.items() if found and found.digest == image.digest))

    def delete(
        self,
        repository: str,
        image: Image,
        idempotency_key: str,  # noqa: ARG002 - a digest deleted twice is deleted once
        *,
        not_after: float | None = None,
    ) -> Deletion:
        operation = f"{repository}@{image.digest}"
        try:
            self._client.delete(repository, image.digest, DELETE_SECONDS, not_after)
        except UnavailableError as error:
            if not error.maybe_done or not self._is_gone(repository, image.digest):
                raise
        return Deletion(operation, self._is_gone(repository, image.digest))

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        repository, _, digest = deletion.operation_id.partition("@")
        while not deletion.done:
            deletion = Deletion(deletion.operation_id, self._is_gone(repository, digest))
            if time.monotonic() >= deadline:
                break
        return deletion

    def _is_gone(self, repository: str, digest: str) -> bool:
        try:
            return self._client.look(repository, digest, seen=True) is None
        except RegistryError:
            return False
