"""The model's records as the vendor's JSON: proto3's mapping, int64 as strings, in both styles of empty fields."""

from datetime import datetime
from typing import Any

import orjson

from tests.support.simulator.operations import SimulatedOperation
from tests.support.simulator.registry import DEFAULT_FOLDER, Blob, Image, Registry, Repository
from tests.support.simulator.status import status_body
from tests.support.simulator.switches import Switches

ACCOUNT = "aje334oo634h1rdhiiku"


def timestamp(at: datetime, digits: int) -> str:
    """RFC 3339 in UTC. With 9 digits the last three are made up: Python's clock has none."""
    whole = at.strftime("%Y-%m-%dT%H:%M:%S")
    if digits == 0 or (digits == 3 and at.microsecond < 1_000):
        return f"{whole}Z"
    fraction = f"{at.microsecond:06d}" + f"{(at.microsecond * 7919) % 999 + 1:03d}"
    return f"{whole}.{fraction[:digits]}Z"


def dressed(message: dict[str, Any], switches: Switches) -> dict[str, Any]:
    """The message with its empty fields left out, or as they are. None is an absent message: never printed."""
    if switches.empty_fields == "printed":
        return {key: value for key, value in message.items() if value is not None}
    return {key: value for key, value in message.items() if value not in ("", "0", [], {}, False, None)}


def blob(held: Blob, switches: Switches) -> dict[str, Any]:
    return dressed({"id": held.id, "digest": held.digest, "size": str(held.size), "urls": []}, switches)


def image(held: Image, repository: Repository, switches: Switches) -> bytes:
    """Its JSON, remembered with the image until its tags change."""
    if held.rendered is None:
        size = sum(layer.size for layer in held.layers) + (held.config.size if held.config else 0)
        if held.is_index and switches.index_fields == "sum":
            size = sum(part.size for part in blobs_below(held, repository))
        message = {
            "id": held.id,
            "name": held.name,
            "digest": held.digest,
            "compressedSize": str(size),
            "config": blob(held.config, switches) if held.config else None,
            "layers": [blob(layer, switches) for layer in held.layers],
            "tags": list(held.tags),
            "createdAt": timestamp(held.created_at, switches.timestamp_digits),
        }
        held.rendered = orjson.dumps(dressed(message, switches))
    return held.rendered


def blobs_below(held: Image, repository: Repository) -> set[Blob]:
    blobs = set(held.blobs)
    for digest in held.children:
        if digest in repository.images:
            blobs |= blobs_below(repository.images[digest], repository)
    return blobs


def listing(field: str, rows: list[bytes], next_token: str, switches: Switches) -> bytes:
    """One page; an empty last page is `{}` where empty fields are left out."""
    printed = switches.empty_fields == "printed"
    parts = [b'"%s":[%s]' % (field.encode(), b",".join(rows))] if rows or printed else []
    if next_token or printed:
        parts.append(b'"nextPageToken":"%s"' % next_token.encode())
    return b"{" + b",".join(parts) + b"}"


def repository(held: Repository, switches: Switches) -> bytes:
    return orjson.dumps(dressed({"name": held.name, "id": held.id}, switches))


def registry(held: Registry, switches: Switches) -> bytes:
    message = {
        "id": held.id,
        "folderId": DEFAULT_FOLDER,
        "name": held.name,
        "status": "ACTIVE",
        "createdAt": timestamp(held.created_at, switches.timestamp_digits),
        "labels": {"team": "platform"},
    }
    return orjson.dumps(dressed(message, switches))


def operation(held: SimulatedOperation, switches: Switches) -> bytes:
    """`metadata` and `response` are of the type Any, so they name theirs."""
    message: dict[str, Any] = {
        "id": held.id,
        "description": held.deletion.description,
        "createdAt": timestamp(held.created_at, switches.timestamp_digits),
        "createdBy": ACCOUNT,
        "modifiedAt": timestamp(held.modified_at, switches.timestamp_digits),
        "done": held.done,
        "metadata": held.deletion.metadata,
    }
    if held.error is not None:
        message["error"] = status_body(*held.error)
    elif held.done:
        message["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}
    return orjson.dumps(dressed(message, switches))
