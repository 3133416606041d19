"""The images and repositories of a registry as immutable records without behaviour.

A line of a saved inventory is the API's own JSON of the resource Image, and decodes directly into `Image`.
"""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

# A decoder rejects bytes outside of int64, an empty digest, and a time without its zone.
Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Digest = Annotated[str, Meta(min_length=1)]
Instant = Annotated[datetime, Meta(tz=True)]


class Blob(Struct, frozen=True, gc=False):
    """A config or a layer that an image's manifest names."""

    digest: Digest  # "sha256:…"
    size: Bytes = 0  # bytes


class Image(Struct, frozen=True, gc=False, kw_only=True, rename="camel"):
    """One image or index of a repository, as the registry reported it.

    Source: the registry API's resource Image; `children`, `subject`, `media_type`, `pulled_at`, `labels`, `locked`
    only from registries that report them.
    """

    digest: Digest  # "sha256:9f86…" of the manifest
    id: str = ""  # the registry's own id of this image
    name: str = ""  # "<registry id>/<repository path>"
    compressed_size: Bytes | None = None  # bytes of config and layers; None: not reported
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()  # in manifest order
    tags: tuple[str, ...] = ()  # empty: untagged
    created_at: Instant | None = None  # push time; aware, UTC; None: unknown
    children: tuple[str, ...] | UnsetType | None = UNSET  # digests; unset: not an index; None: could not be read
    subject: str | UnsetType | None = UNSET  # a digest; unset: none; None: not reported
    media_type: str = ""  # empty: not reported
    pulled_at: Instant | UnsetType | None = UNSET  # unset: not reported; None: never
    labels: dict[str, str] | None = None  # None: not reported
    locked: bool = False  # by the registry's own lock or immutability


class Unreadable(Struct, frozen=True, kw_only=True):
    """A repository that could not be listed whole. All its images are kept."""

    repository: str  # path without the registry's id
    reason: str


class UnreadableImage(Struct, frozen=True, kw_only=True):
    """An image whose manifest could not be read. It is kept, and so is every image that could be its child."""

    repository: str  # path without the registry's id
    digest: str
    reason: str


class Repository(Struct, frozen=True, kw_only=True):
    """All images of one repository at one instant. A registry is listed and decided repository by repository."""

    path: str  # without the registry's id: "shop/api"
    images: tuple[Image, ...] = ()
