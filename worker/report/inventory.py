"""An inventory as NDJSON: a head, then one image per line in the API's own JSON, grouped by repository."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from policies.image import Blob, Image, Unreadable
from worker.report.report import Report


class InventoryHead(msgspec.Struct, frozen=True, kw_only=True):
    """The registry, the time of the listing, and the repositories that could not be listed."""

    registry: str
    listed_at: datetime
    unreadable: tuple[Unreadable, ...]


def inventory_report(head: InventoryHead, images: Iterable[Image]) -> Report:
    """The head, then one image per line."""
    return Report(head=head, rows=images, row=image_json)


def image_json(image: Image) -> dict[str, Any]:
    """The API's own shape: int64 as a string, absent fields omitted. A null `children`: they could not be read."""
    document: dict[str, Any] = {"id": image.id, "name": image.name, "digest": image.digest}
    if image.compressed_size is not None:
        document["compressedSize"] = str(image.compressed_size)
    if image.config is not None:
        document["config"] = _blob(image.config)
    if image.layers:
        document["layers"] = [_blob(layer) for layer in image.layers]
    if image.tags:
        document["tags"] = image.tags
    if image.created_at is not None:
        document["createdAt"] = image.created_at
    for name, value in (("children", image.children), ("subject", image.subject), ("pulledAt", image.pulled_at)):
        if value is not msgspec.UNSET:
            document[name] = value
    for name, given in (("mediaType", image.media_type), ("labels", image.labels), ("locked", image.locked)):
        if given:
            document[name] = given
    return document


def _blob(blob: Blob) -> dict[str, str]:
    return {"digest": blob.digest, "size": str(blob.size)}
