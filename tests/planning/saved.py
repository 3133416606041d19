"""Saved inventories: the lines of images, files of them, and their records."""

from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from policies.image import Image, Repository, Unreadable
from tests.support.builders import image, policy
from worker.planning.inventory_lines import decoder

EVERYTHING = policy({"name": "everything", "delete": {"all": True}})


def line(one: Image, path: str) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(one, name=f"crpvab5oob146rh73ilt/{path}"))


def lines(repositories: list[Repository]) -> list[bytes]:
    return [line(one, repository.path) for repository in repositories for one in repository.images]


def saved(folder: Path, found: list[bytes], unreadable: list[Unreadable] | None = None) -> Path:
    path = folder / "F.ndjson"
    head = [msgspec.json.encode({"registry": "production", "unreadable": unreadable})] if unreadable is not None else []
    path.write_bytes(b"".join(one + b"\n" for one in (*head, *found)))
    return path


def records(path: Path) -> list[Repository]:
    """By repositories; its lines stand in order of them."""
    images = groupby(decoder.decode_lines(path.read_bytes()), key=lambda one: one.name.partition("/")[2])
    return [Repository(path=name, images=tuple(some)) for name, some in images]


GOOD = line(image(1, "v1"), "shop/api")


def facts(**more: Any) -> bytes:
    """The good line with other facts."""
    return msgspec.json.encode(msgspec.json.decode(GOOD) | more)
