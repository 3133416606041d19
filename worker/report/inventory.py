"""An inventory as NDJSON: a head, then the API's own JSON of one image a line, grouped by repository."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from policies.image import Blob, Image, Unreadable
from worker.report.report import Report


class InventoryHead(msgspec.Struct, frozen=True, kw_only=True):
    """What was listed, when, and what could not be."""

    registry: str
    listed_at: datetime
    unreadable: tuple[Unreadable, ...]


def inventory_report(head: InventoryHead, images: Iterable[Image]) -> Report:
    """The head, then an image a line."""
    return Report(head=head, rows=images, row=image_json)


def image_json(image: Image) -> dict[str, Any]:
    """The API's own shape: int64 in a string, what is not there left out. A null `children` could not be read."""
    told: dict[str, Any] = {"id": image.id, "name": image.name, "digest": image.digest}
    if image.compressed_size is not None:
        told["compressedSize"] = str(image.compressed_size)
    if image.config is not None:
        told["config"] = _blob(image.config)
    if image.layers:
        told["layers"] = [_blob(layer) for layer in image.layers]
    if image.tags:
        told["tags"] = image.tags
    if image.created_at is not None:
        told["createdAt"] = image.created_at
    for name, value in (("children", image.children), ("subject", image.subject), ("pulledAt", image.pulled_at)):
        if value is not msgspec.UNSET:
            told[name] = value
    for name, given in (("mediaType", image.media_type), ("labels", image.labels), ("locked", image.locked)):
        if given:
            told[name] = given
    return told


def _blob(blob: Blob) -> dict[str, str]:
    return {"digest": blob.digest, "size": str(blob.size)}
