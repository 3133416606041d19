"""Yandex Container Registry: lists, reads and deletes images by the REST API, reads manifests by the Docker API.

The driver only sends: `container_protocol` and `docker/` build requests and parse responses.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from policies.graph import merge_rows
from policies.image import Image
from worker.config.settings import RegistrySettings
from worker.registries.docker.manifest_cache import (
    read_through,
    resolved,
    with_known_subjects,
)
from worker.registries.docker.manifests import about
from worker.registries.http.messages import Response, Retries
from worker.registries.http.rate_limit import Limiter
from worker.registries.http.responses import bad, server_time
from worker.registries.interface import Deletion, ManifestCache, Registry
from worker.registries.yandex import api
from worker.registries.yandex import container_protocol as protocol
from worker.registries.yandex.client import YandexRegistry


def open_driver(settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache) -> Registry:
    """A registry of this kind. Sends nothing."""
    return YandexContainerRegistry(settings, limiter, retries, manifests)


class YandexContainerRegistry(YandexRegistry):
    """One registry. Safe to use from several threads."""

    def __init__(
        self, settings: RegistrySettings, limiter: Limiter, retries: Retries, manifests: ManifestCache
    ) -> None:
        super().__init__(settings, limiter, retries, manifests)
        self._root = settings.endpoints.container_registry

    def clock(self) -> datetime:
        def read(response: Response) -> datetime:
            api.registry(response, self._id)
            return server_time(response)

        registries = f"{self._root}/container-registry/v1/registries"
        return self.call(api.get_registry(registries, self._id), read)

    def repositories(self) -> Iterator[str]:
        pages: Iterable[Sequence[str]] = self.pages(
            lambda token: protocol.list_repositories(self._root, self._id, token),
            lambda response: protocol.repositories_page(response, self._id),
            str,
        )
        yield from sorted({path for paths in pages for path in paths})

    def images(self, repository: str) -> tuple[Image, ...]:
        name = self._full_name(repository)
        pages: Iterable[Sequence[Image]] = self.pages(
            lambda token: protocol.list_images(self._root, name, repository, token),
            lambda response: protocol.images_page(response, name),
            lambda image: image.id,
        )
        rows = {image.id: image for page in pages for image in page}
        images = merge_rows(tuple(rows.values()))  # rows with the same digest are one image, with the tags of all
        without_config = [image.digest for image in images if image.config is None]  # indexes, as a rule
        known = read_through(self._manifests, without_config, self._manifest_reader(repository))
        images = tuple(
            resolved(image, known.get(image.digest)) if image.config is None else replace(image, subject=None)
            for image in images
        )
        return with_known_subjects(self._manifests, images, self._manifest_reader(repository))

    def get(self, repository: str, image: Image, _known_tags: Mapping[str, str] | None = None) -> Image:
        def read(response: Response) -> Image:
            parsed = protocol.image(response, self._full_name(repository))
            if parsed.id != image.id:
                bad(f"expected the image {image.id}, got {parsed.id}")
            return parsed

        current = self.call(protocol.get_image(self._root, image.id, about(repository, image.digest)), read)
        return replace(current, subject=image.subject)

    def delete(
        self, repository: str, image: Image, idempotency_key: str, *, not_after: float | None = None
    ) -> Deletion:
        label = about(repository, image.digest)
        request = protocol.delete_image(self._root, image.id, label, idempotency_key, not_after)
        operation = self.start_deletion(request, image.id)
        return self._outcome(operation, request.label) if operation.done else Deletion(operation.id or "", done=False)

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        if deletion.done:
            return deletion
        operation = self.wait_for_operation(deletion.operation_id, deadline)
        return self._outcome(operation, f"GET operation {deletion.operation_id}") if operation else deletion

    def _outcome(self, operation: api.Operation, label: str) -> Deletion:
        """The outcome of an ended operation. Raises its error."""
        if (error := self.operation_failure(operation, label)) is not None:
            raise error
        return Deletion(operation.id or "", done=bool(operation.done))
