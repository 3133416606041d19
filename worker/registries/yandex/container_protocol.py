"""Yandex Container Registry's REST protocol as plain functions that build requests and parse responses. No I/O.

Source: the vendor's API definitions (containerregistry.v1). Absent, null and default mean the same, except that an
absent `compressedSize` is unknown.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta, Struct

from policies.image import Image
from worker.registries.http.messages import Request, Response
from worker.registries.http.responses import IMAGE_DIGEST, TAG, bad
from worker.registries.yandex.api import (
    IDENTIFIER,
    PATH,
    ListingPage,
    WireBlob,
    delete,
    get,
    instant,
    int64,
    listing,
    page_token,
    parse_blob,
    parse_body,
)

# Wire formats. Every field may be absent or null.


class WireImage(Struct, rename="camel"):
    id: str | None = None
    name: str | None = None
    digest: str | None = None
    compressed_size: int | str | None = None
    config: WireBlob | None = None
    layers: list[WireBlob] | None = None
    tags: list[str] | None = None
    created_at: Annotated[datetime, Meta(tz=True)] | None = None


class WireImages(Struct, rename="camel"):
    images: list[WireImage] | None = None
    next_page_token: str | None = None


class WireRepository(Struct, rename="camel"):
    name: str | None = None


class WireRepositories(Struct, rename="camel"):
    repositories: list[WireRepository] | None = None
    next_page_token: str | None = None


# Requests.


def list_repositories(root: str, registry_id: str, token: str = "") -> Request:
    url = f"{root}/container-registry/v1/repositories"
    return listing(url, "repositories", {"registryId": registry_id}, token)


def list_images(root: str, name: str, about: str, token: str = "") -> Request:
    return listing(f"{root}/container-registry/v1/images", about, {"repositoryName": name}, token)


def get_image(root: str, image_id: str, about: str) -> Request:
    return get(f"{root}/container-registry/v1/images/{quote(image_id, safe='')}", about)


def delete_image(root: str, image_id: str, about: str, idempotency_key: str, not_after: float | None = None) -> Request:
    return delete(f"{root}/container-registry/v1/images/{quote(image_id, safe='')}", about, idempotency_key, not_after)


# Responses.


def images_page(response: Response, name: str) -> ListingPage:
    """A page of the images of the repository with this full name. Raises RegistryError. BadResponseError: a single
    invalid row is enough. Rows with the same digest are not merged.
    """
    page = parse_body(response, WireImages)
    return ListingPage([image_of(row, name) for row in page.images or ()], page_token(page.next_page_token))


def repositories_page(response: Response, registry_id: str) -> ListingPage:
    """A page of repository paths, without the registry's id. Raises RegistryError."""
    page = parse_body(response, WireRepositories)
    paths = (repository_path(row.name or "", registry_id) for row in page.repositories or ())
    return ListingPage([path for path in paths if path], page_token(page.next_page_token))


def image(response: Response, name: str) -> Image:
    """One image of the repository with this full name. Raises RegistryError."""
    return image_of(parse_body(response, WireImage), name)


def repository_path(name: str, registry_id: str) -> str:
    """The path without the registry's id; empty for the registry itself. Raises BadResponseError."""
    if name == registry_id:
        return ""
    prefix, _, path = name.partition("/")
    if prefix != registry_id:
        bad(f"expected a repository of registry {registry_id}, got {name!r}")
    if not PATH.fullmatch(path) or len(path) > 256:
        bad(f"a repository with an invalid name: {name!r}")
    return path


def image_of(wire: WireImage, name: str) -> Image:
    """The checked record of an image. Raises BadResponseError."""
    if not IMAGE_DIGEST.fullmatch(wire.digest or ""):
        bad(f"an image with the digest {wire.digest!r}")
    if not IDENTIFIER.fullmatch(wire.id or ""):
        bad(f"an image with the id {wire.id!r} ({wire.digest})")
    if wire.name != name:
        bad(f"expected images of {name!r}, got {wire.id} of {wire.name!r}")
    config = parse_blob(wire.config) if wire.config and wire.config.digest else None
    layers = tuple(parse_blob(layer) for layer in wire.layers or ())
    size = None if wire.compressed_size is None else int64(wire.compressed_size, "compressedSize")
    if size == 0 and config is None and not layers:
        size = None  # a printed default, not a fact: an index may look like this
    return Image(
        digest=wire.digest or "",
        id=wire.id or "",
        name=name,
        compressed_size=size,
        config=config,
        layers=layers,
        tags=tags_of(wire.tags or (), wire.digest or ""),
        created_at=instant(wire.created_at),
    )


def tags_of(tags: Iterable[str], digest: str) -> tuple[str, ...]:
    """Each tag once. Raises BadResponseError for an invalid tag: a keep rule may need the real one."""
    unique = tuple(dict.fromkeys(tags))
    if "" in unique:
        bad(f"an empty tag ({digest})")
    for tag in unique:
        if not TAG.fullmatch(tag):
            bad(f"the invalid tag {tag[:80]!r} ({digest})")
    return unique
