"""Saved inventories: the lines of images, files of them, and their records."""

from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from policies.image import Image, Repository, Unreadable
from tests.support.builders import image, policy
from worker.planning.inventory_lines import decoder

EVERYTHING = policy({"name": "everything", "delete": {"all": True}})


def line(image: Image, path: str) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(image, name=f"crpvab5oob146rh73ilt/{path}"))


def lines(repositories: list[Repository]) -> list[bytes]:
    return [line(image, repository.path) for repository in repositories for image in repository.images]


def saved(folder: Path, lines: list[bytes], unreadable: list[Unreadable] | None = None) -> Path:
    path = folder / "F.ndjson"
    head = [msgspec.json.encode({"registry": "production", "unreadable": unreadable})] if unreadable is not None else []
    path.write_bytes(b"".join(line + b"\n" for line in (*head, *lines)))
    return path


def records(path: Path) -> list[Repository]:
    """The repositories of an inventory; its lines are in the order of repositories."""
    groups = groupby(decoder.decode_lines(path.read_bytes()), key=lambda image: image.name.partition("/")[2])
    return [Repository(path=name, images=tuple(images)) for name, images in groups]


GOOD = line(image(1, "v1"), "shop/api")


def facts(**more: Any) -> bytes:
    """The good line with other facts."""
    return msgspec.json.encode(msgspec.json.decode(GOOD) | more)
