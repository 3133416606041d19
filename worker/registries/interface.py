"""The calls that the program makes to a registry of any kind.

A driver translates the protocol of one registry into these calls and into the errors of `worker.registries.errors`.
Every driver is synchronous and safe to use from several threads of one process.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

import msgspec

from policies.image import Blob, Image
from worker.registries.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Deletion:
    """The state of a deletion. `done`: the registry confirms that the image is deleted."""

    operation_id: str  # empty if the registry deletes at once
    done: bool
    raced: tuple[str, ...] = ()  # tags of the image that name another image now: pushed during the deletion
    collateral_tags: tuple[str, ...] = ()  # deleted tags (untagged: digests) of other images; perhaps not planned
    target: tuple[str, Image] | None = None  # repository and image, for `follow` in a process that did not send it
    failing: RegistryError | None = None  # why the deletion is not expected to succeed


class Manifest(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"foreign_layers": "elsewhere", "unknown_types": "strange"},  # the keys in the store
):
    """The content of a manifest. The manifest of a digest never changes, so a cache never expires.

    `created` and `labels` come from the image's config, which a driver reads only on request.
    """

    digest: str
    media_type: str
    children: tuple[str, ...] | None  # digests; None: the manifest is not an index
    subject: str | None = None  # a digest; None: the manifest has no subject
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()  # in manifest order; of an index: the blobs that it lists
    artifact_type: str = ""
    created: datetime | None = None  # when the image was built, according to its config or annotation
    labels: dict[str, str] | None = None  # None: not read
    config_read: bool = False
    foreign_layers: tuple[str, ...] = ()  # digests of the layers that have `urls`
    unknown_types: tuple[str, ...] = ()  # children of an unknown media type; also in `layers`, as they may be blobs
    unsized: bool = False  # the size of a config or layer is missing or impossible; that blob has size 0 above


class ManifestCache(Protocol):
    """Manifests that were read before."""

    def load(self, digests: Iterable[str], /) -> Mapping[str, Manifest]: ...

    def save(self, manifests: Mapping[str, Manifest]) -> None: ...


class NoManifestCache:
    """A cache that is always empty."""

    def load(self, _digests: Iterable[str]) -> Mapping[str, Manifest]:
        return {}

    def save(self, manifests: Mapping[str, Manifest]) -> None: ...


@dataclass(frozen=True, slots=True)
class SavedManifest:
    """A manifest byte for byte, so that it can be restored."""

    digest: str
    media_type: str
    body: bytes = field(repr=False)


@dataclass(slots=True)
class Usage:
    """Requests and waiting time since the last report, for the metrics."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)  # (method, status code or "error") -> count
    rate_wait_seconds: float = 0.0


class Registry(Protocol):
    """A connection to one registry. As a context manager it closes its connections on exit."""

    def __enter__(self) -> "Registry": ...
    def __exit__(self, *exc: object) -> None: ...

    def clock(self) -> datetime:
        """The registry's time (aware, UTC), from the `Date` header of an inexpensive response.

        Raises UnavailableError, SignInError, PermissionDeniedError, NotFoundError (no such registry).
        """

    def repositories(self) -> Iterator[str]:
        """The paths of all repositories, without the registry's id, each once, sorted.

        Raises any RegistryError: without this list there is no plan.
        """

    def images(self, repository: str) -> tuple[Image, ...]:
        """Every image of a repository, each digest once, with children and subject from its manifest.

        An image that the listing omits is included if an index or a subject leads to it and it exists. `children` is
        None if the manifest could not be read. `created_at` is None if the registry does not report a push time.
        Raises NotFoundError (no such repository) and any other RegistryError; never returns a partial listing.
        """

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None, /) -> Image:
        """The current state of an image and its tags, without its manifest. A fact that cannot be read stays as it is.

        `known_tags`: the tags of the repository and their digests at the last listing. A registry that cannot report
        the tags of one image reads the other tags instead. Raises NotFoundError and any other RegistryError.
        """

    def delete(
        self, repository: str, image: Image, idempotency_key: str, /, *, not_after: float | None = None
    ) -> Deletion:
        """Delete an image and all its tags. The same key never deletes twice.

        The request is not sent once `time.monotonic()` reaches `not_after`: after a wait for the rate limit, a pause
        or a retry, the facts that the caller read may be outdated. Raises TooLateError (not sent), NotFoundError,
        UsedByImageListsError, ProtectedError, ReadOnlyError and any other RegistryError, with `maybe_done`.
        """

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        """Poll a deletion, at least once, until it is done or `time.monotonic()` reaches `deadline`.

        Raises the error of a deletion that failed: NotFoundError (the image did not exist), UsedByImageListsError,
        ProtectedError, PermissionDeniedError, ReadOnlyError, OperationFailedError. Raises the error of a poll that
        failed, with `maybe_done`, as the result is unknown: OperationUnknownError and any other RegistryError.
        """

    def usage(self) -> Usage:
        """Usage since the last call; resets the counters. Counts every attempt, also those of retries and of the sign-
        in.
        """


@runtime_checkable
class FindsByDigest(Registry, Protocol):
    """A registry that can find an image by its digest alone, whether it lists the image or not."""

    def existing(self, repository: str, digests: Iterable[str]) -> frozenset[str]:
        """The digests that exist now; one request each. Raises any RegistryError."""


@runtime_checkable
class ListsTagsOnly(FindsByDigest, Protocol):
    """A registry that does not list untagged images: they can only be found by digest."""

    def relist(self, repository: str, known: Mapping[str, Image]) -> tuple[Image, ...]:
        """List a repository again with one request per tag, and more only for images that are not in `known`.

        `known`: images by digest. They are returned with their current tags; their children, config and referrers are
        not read again. An untagged known image counts as existing if an existing image leads to it: leave out of
        `known` the images that may be deleted. Raises the errors of `images`.
        """


@runtime_checkable
class HasSeveralCredentials(Registry, Protocol):
    """A registry that may have several credentials, each for some repositories."""

    def share_credentials(self, first: str, second: str) -> bool:
        """Whether both repositories are read with the same credentials. Sends no request."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The images of a repository after some of their manifests were read."""

    images: tuple[Image, ...]
    refusal: RegistryError | None = None  # the first error; None: every requested manifest was read in time


@runtime_checkable
class ReadsSubjects(Registry, Protocol):
    """A registry that does not list subjects: only the manifest of an image names its subject."""

    def read_subjects(
        self, repository: str, images: Sequence[Image], digests: Sequence[str], not_after: float
    ) -> Subjects:
        """Read the manifests of `digests` among `images` and set their subjects. Each manifest is read only once ever.

        `subject` stays None if the manifest could not be read, or not before `time.monotonic()` reached `not_after`.
        A subject that the listing omits is added if it exists. Errors are returned, not raised.
        """


@runtime_checkable
class ListsFolders(Registry, Protocol):
    """A registry whose plain listing reports less than `images`, with fewer requests."""

    def plain_listing(self, repository: str, since: float) -> tuple[Image, ...]:
        """The images of a listing that began at `since` (`time.monotonic()`) or later.

        Children and subjects are not read. Raises the errors of `images`.
        """


@runtime_checkable
class ReportsDeletionSupport(Registry, Protocol):
    """A registry that may report that it is read-only, without a deletion."""

    def allows_deletion(self, repository: str, digest: str) -> bool | None:
        """False: the registry is read-only now; None: not reported, so deletions may fail. Raises any RegistryError."""


@runtime_checkable
class ReportsReadErrors(Registry, Protocol):
    """A registry that records why manifests could not be read."""

    read_errors: Mapping[str, str]  # digest -> the reason, in one line; a later attempt may have succeeded


@runtime_checkable
class ReportsChallenges(Registry, Protocol):
    """A registry that may answer requests without credentials."""

    def was_challenged(self) -> bool:
        """Whether the registry has refused a request of this client that had no credentials."""


@runtime_checkable
class DeletesByParts(Registry, Protocol):
    """A registry that deletes an image tag by tag: an interrupted deletion may leave some of the tags."""

    by_parts: Literal[True]


@runtime_checkable
class Restores(Registry, Protocol):
    """A registry that accepts a deleted manifest again while it still has the blobs."""

    def save(self, repository: str, digest: str) -> SavedManifest:
        """Read a manifest and check it against its digest. Raises NotFoundError and any other RegistryError."""

    def resolve_tag(self, repository: str, tag: str) -> str | None:
        """The digest that a tag names; None: no such tag. Raises RegistryError."""

    def push_manifest(self, repository: str, manifest: SavedManifest, tag: str = "") -> None:
        """Push a manifest by its tag, or else by its digest. Only `save` proves that the registry has it.

        Raises BlobsMissingError, and any other RegistryError.
        """

    def missing_blobs(self, repository: str, digests: Iterable[str]) -> tuple[str, ...]:
        """The blobs that cannot be downloaded: one byte of each is requested. Raises RegistryError."""

    def mount(self, repository: str, blob: str, source: str) -> bool:
        """Mount a blob of another repository of the registry; False: refused. Raises RegistryError."""
