"""What commands of the control plane are given, and what they answer about an image."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.support.simulator.registry import DEFAULT_REGISTRY, Blob, Image, digest_of

if TYPE_CHECKING:
    from tests.support.simulator.server import Server

Command = Callable[["Server", dict[str, Any]], Any]


class ControlError(ValueError):
    """The control plane was asked for something it does not have."""


def blob_from(text: str | int | dict[str, Any], unique: str) -> Blob:
    """`1000`: a blob of its own of that size; `"base:29000000"`: the blob of that name; or `{digest, size}`."""
    if isinstance(text, dict):
        return Blob(text["digest"], int(text["size"]))
    if isinstance(text, int):
        return Blob(digest_of(f"own {unique}".encode()), text)
    name, _, size = text.rpartition(":")
    return Blob(digest_of(f"named {name}".encode()), int(size))


def created_at(server: "Server", arguments: dict[str, Any]) -> datetime:
    """`created_at` (RFC 3339), or `age` in seconds; in whole milliseconds, as the registry reports it."""
    if arguments.get("created_at"):
        at = datetime.fromisoformat(arguments["created_at"]).astimezone(UTC)
    else:
        at = server.state.now() - timedelta(seconds=float(arguments.get("age", 0)))
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def summary(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        "registry": image.registry,
        "repository": image.repository,
        "digest": image.digest,
        "tags": list(image.tags),
        "created_at": image.created_at.isoformat(),
        "children": list(image.children),
        "index": image.is_index,
        "size": sum(layer.size for layer in image.layers) + (image.config.size if image.config else 0),
        "softly_deleted": image.softly_deleted_at is not None,
        "blobs": {blob.digest: blob.size for blob in image.blobs},
    }


def image_of(server: "Server", arguments: dict[str, Any]) -> Image:
    """By `image` (an id), or by `repository` and `reference` (a tag or digest)."""
    cloud = server.state.cloud
    if arguments.get("image"):
        image = cloud.by_id.get(arguments["image"])
    else:
        image = cloud.find(arguments["repository"], arguments["reference"], arguments.get("registry", DEFAULT_REGISTRY))
    if image is None:
        raise ControlError(f"no such image: {arguments}")
    return image
