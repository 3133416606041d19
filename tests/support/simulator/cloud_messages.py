"""Cloud Registry's messages as the vendor's JSON."""

from typing import Any

import orjson

from tests.support.simulator.cloud_artifacts import Artifact
from tests.support.simulator.messages import ACCOUNT, dressed, timestamp
from tests.support.simulator.registry import DEFAULT_FOLDER, Image, Registry
from tests.support.simulator.switches import Switches


def artifact(held: Artifact, status: str, switches: Switches) -> bytes:
    """Its JSON under that status, remembered with it."""
    if held.rendered is None or held.rendered[0] != status:
        message = {
            "id": held.id,
            "path": path_of(held, switches),
            "name": held.name,
            "kind": held.kind,
            "status": status,
            "createdAt": timestamp(held.created_at, switches.timestamp_digits),
            "createdBy": ACCOUNT,
            "modifiedAt": timestamp(held.modified_at, switches.timestamp_digits),
            "modifiedBy": ACCOUNT,
            "properties": held.properties,
            "content": {"docker": docker_content(held.image, switches)} if held.image else None,
            "registryId": held.registry,
        }
        held.rendered = (status, orjson.dumps(dressed(message, switches)))
    return held.rendered[1]


def path_of(held: Artifact, switches: Switches) -> str:
    """`/shop/api/1.4.2` or its parent; a folder at the root has none, as the documentation's listing shows it."""
    place = held.place if switches.artifact_path == "full" and (held.folder or held.kind != "FOLDER") else held.folder
    return f"/{place}" if place else ""


def docker_content(image: Image, switches: Switches) -> dict[str, Any]:
    """The digest and the contents of the manifest. The arm of the oneof is there even if it holds nothing."""
    if image.is_index:
        entries = orjson.loads(image.manifest)["manifests"]
        arm = (
            "manifestList",
            dressed({"manifests": [platform_manifest(entry, switches) for entry in entries]}, switches),
        )
    else:
        layers = [descriptor(layer.digest, layer.size, switches) for layer in image.layers]
        config = descriptor(image.config.digest, image.config.size, switches) if image.config else None
        arm = ("imageManifest", dressed({"config": config, "layers": layers}, switches))
    return {"manifestDigest": image.digest, arm[0]: arm[1]}


def platform_manifest(entry: dict[str, Any], switches: Switches) -> dict[str, Any]:
    platform = entry["platform"]
    shown = {
        "architecture": platform["architecture"],
        "os": platform["os"],
        "osVersion": platform.get("os.version", ""),
        "variant": platform.get("variant", ""),
    }
    return {
        "manifestDescriptor": descriptor(entry["digest"], entry["size"], switches),
        "platform": dressed(shown, switches),
    }


def descriptor(digest: str, size: int, switches: Switches) -> dict[str, Any]:
    return dressed({"digest": digest, "size": str(size)}, switches)


def registry(held: Registry, switches: Switches) -> bytes:
    created_at = timestamp(held.created_at, switches.timestamp_digits)
    message = {
        "id": held.id,
        "folderId": DEFAULT_FOLDER,
        "name": held.name,
        "description": "",
        "kind": held.kind,
        "type": held.type,
        "status": held.status,
        "labels": {"team": "platform"},
        "properties": {},
        "createdAt": created_at,
        "modifiedAt": created_at,
    }
    return orjson.dumps(dressed(message, switches))
