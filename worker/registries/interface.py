"""What the rest of the program asks of a registry, whatever its kind.

A driver translates one registry's protocol into these calls and the errors of `worker.registries.errors`. Every driver
is synchronous and safe to use from several threads of one process.
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
    """Where a deletion stands. `done` is the registry's word that the image is gone."""

    operation_id: str  # empty where a registry deletes at once
    done: bool
    raced: tuple[str, ...] = ()  # tags the image had that name another by now: they were pushed while it was deleted
    collateral_tags: tuple[
        str, ...
    ] = ()  # tags (untagged: digests) of others that went with it: see whether they were planned
    target: tuple[str, Image] | None = None  # repository and image, for `follow`: another process may have begun it
    failing: RegistryError | None = None  # why it will hardly ever be done


class Manifest(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"foreign_layers": "elsewhere", "unknown_types": "strange"},  # as stores have them
):
    """What an image's manifest says; a digest's manifest never changes, so this may be kept for ever.

    `created` and `labels` stand in the image's config, which a driver reads only where somebody asks for them.
    """

    digest: str
    media_type: str
    children: tuple[str, ...] | None  # digests; None: it is no index
    subject: str | None = None  # a digest; None: it has none
    config: Blob | None = None
    layers: tuple[Blob, ...] = ()  # in manifest order; of an index: the blobs that it lists
    artifact_type: str = ""
    created: datetime | None = None  # when the image was made, as its maker says
    labels: dict[str, str] | None = None  # None: not read
    config_read: bool = False
    foreign_layers: tuple[str, ...] = ()  # digests of those layers that it says to fetch from another place
    unknown_types: tuple[
        str, ...
    ] = ()  # those of its children whose type nobody knows: in `layers` too, in case of a blob
    unsized: bool = False  # it tells no size, or an impossible one, of one of its blobs: that has 0 above


class ManifestCache(Protocol):
    """What is known of manifests, and where what was read is remembered."""

    def load(self, digests: Iterable[str], /) -> Mapping[str, Manifest]: ...

    def save(self, manifests: Mapping[str, Manifest]) -> None: ...


class NoManifestCache:
    """Knows nothing and remembers nothing."""

    def load(self, _digests: Iterable[str]) -> Mapping[str, Manifest]:
        return {}

    def save(self, manifests: Mapping[str, Manifest]) -> None: ...


@dataclass(frozen=True, slots=True)
class SavedManifest:
    """A manifest as it was, byte for byte: what is needed to put it back."""

    digest: str
    media_type: str
    body: bytes = field(repr=False)


@dataclass(slots=True)
class Usage:
    """What talking to a registry has cost since it was last asked: for the metrics."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)  # (method, status code or "error") -> count
    rate_wait_seconds: float = 0.0


class Registry(Protocol):
    """One registry, signed in. A context manager: leaving it closes its connections."""

    def __enter__(self) -> "Registry": ...
    def __exit__(self, *exc: object) -> None: ...

    def clock(self) -> datetime:
        """The registry's own time (aware, UTC), from the `Date` of a cheap answer.

        Raises UnavailableError, SignInError, PermissionDeniedError, NotFoundError (no such registry).
        """

    def repositories(self) -> Iterator[str]:
        """The paths of all repositories, without the registry's id, each once, sorted.

        Raises any RegistryError: without this list there is no plan.
        """

    def images(self, repository: str) -> tuple[Image, ...]:
        """Every image of a repository that can be found, each digest once, with what its manifest says of others.

        What a listing does not show and an index or a subject leads to is among them, if it is there. An image whose
        manifest could not be read has `children` None. `created_at` is None where the registry tells no push time.
        Raises any RegistryError, or NotFoundError when the repository is not there: nothing partial is ever returned.
        """

    def get(self, repository: str, image: Image, known_tags: Mapping[str, str] | None = None, /) -> Image:
        """This image as it is now, its tags too, without reading manifests. A fact the registry cannot tell stays.

        `known_tags`: of the repository, and the digests that they named when it was last listed; where an image's own
        tags cannot be asked for, the
        others are looked at. Raises NotFoundError and any other RegistryError.
        """

    def delete(
        self, repository: str, image: Image, idempotency_key: str, /, *, not_after: float | None = None
    ) -> Deletion:
        """Ask for the deletion of an image and all its tags; the same key never deletes twice.

        Nothing is sent once `time.monotonic()` has reached `not_after`: a wait for the rate, a pause that the registry
        asked for or a repeat may have made what the caller read before too old. Raises TooLateError (this call did
        nothing), NotFoundError, UsedByImageListsError, ProtectedError, ReadOnlyError and any other RegistryError, with
        `maybe_done`.
        """

    def follow(self, deletion: Deletion, deadline: float) -> Deletion:
        """Ask about a deletion until it is done or `time.monotonic()` reaches `deadline`; it may be unfinished then.

        Asks at least once. Raises, as the operation's own error: NotFoundError (the image was not there),
        UsedByImageListsError, ProtectedError, PermissionDeniedError, ReadOnlyError, OperationFailedError: it ended
        without a deletion.
        Raises, as an answer to the question: OperationUnknownError, and any other RegistryError, with `maybe_done`:
        how it ended is not known.
        """

    def usage(self) -> Usage:
        """What was spent since the last call; the count starts again."""


@runtime_checkable
class FindsByDigest(Registry, Protocol):
    """A registry that can be asked for an image by its digest alone, whatever its listing shows."""

    def existing(self, repository: str, digests: Iterable[str]) -> frozenset[str]:
        """Those of these digests that are there now, each asked for by itself. Raises any RegistryError."""


@runtime_checkable
class ListsTagsOnly(FindsByDigest, Protocol):
    """A registry that does not list what has no tag: such an image can only be asked for by its digest."""

    def relist(self, repository: str, known: Mapping[str, Image]) -> tuple[Image, ...]:
        """Like `images`, of a repository of which these are known, by digest: a request a tag, more for what is new.

        What is known is returned as it is, with its tags of now: its children, config and referrers are not asked for.
        A known image without a tag is believed to be there where one leads to it that is: leave out of `known` what
        may have been deleted since. Raises as `images` does.
        """


@runtime_checkable
class HasSeveralCredentials(Registry, Protocol):
    """A registry that may be read by several credentials, each for some repositories."""

    def share_credentials(self, first: str, second: str) -> bool:
        """Whether the same credentials are for both repositories. Asks nothing of the registry."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The images of a repository after some of their manifests were read, and why the reading ended early."""

    images: tuple[Image, ...]
    refusal: RegistryError | None = None  # the first; None: every manifest that was asked for was read in time


@runtime_checkable
class ReadsSubjects(Registry, Protocol):
    """A registry that does not list what an image refers to: only the image's manifest says so."""

    def read_subjects(
        self, repository: str, images: Sequence[Image], digests: Sequence[str], not_after: float
    ) -> Subjects:
        """These images of a repository, after the manifests of those digests among them were read, each once, ever.

        `subject` stays None where the manifest could not be read, or not before `time.monotonic()` reached `not_after`.
        A subject that no listing shows and that is there is added. What is refused is returned, not raised.
        """


@runtime_checkable
class ListsFolders(Registry, Protocol):
    """A registry whose plain listing tells less than `images`, for fewer requests."""

    def plain_listing(self, repository: str, since: float) -> tuple[Image, ...]:
        """The images that the listing itself shows, begun at `since` (`time.monotonic()`) or later.

        Nothing is asked about what they lead to. Raises as `images` does.
        """


@runtime_checkable
class ReportsDeletionSupport(Registry, Protocol):
    """A registry that may say that it is read-only before anything is deleted."""

    def allows_deletion(self, repository: str, digest: str) -> bool | None:
        """False: it is read-only now; None: it does not say so, which is no promise. Raises any RegistryError."""


@runtime_checkable
class ReportsReadErrors(Registry, Protocol):
    """A registry that notes what was wrong with the manifests that it could not read."""

    unread: Mapping[str, str]  # digest -> why, in one line; one of them may have been read since


@runtime_checkable
class ReportsChallenges(Registry, Protocol):
    """A registry that may answer requests without wanting to know who sends them."""

    def was_challenged(self) -> bool:
        """Whether it has refused a request of this client that came without them."""


@runtime_checkable
class DeletesByParts(Registry, Protocol):
    """A registry that deletes an image tag by tag: one whose deletion was begun may be left with some of its tags."""

    by_parts: Literal[True]


@runtime_checkable
class Restores(Registry, Protocol):
    """A registry that takes a deleted manifest back while it still has the blobs."""

    def save(self, repository: str, digest: str) -> SavedManifest:
        """The manifest as it is, checked against its digest. Raises NotFoundError and any other RegistryError."""

    def resolve_tag(self, repository: str, tag: str) -> str | None:
        """The digest that a tag names; None: there is no such tag. Raises RegistryError."""

    def push_manifest(self, repository: str, manifest: SavedManifest, tag: str = "") -> None:
        """Push a saved manifest by its tag, or by its digest. Only `save` proves that it is there.

        Raises BlobsMissingError, and any other RegistryError.
        """

    def missing_blobs(self, repository: str, digests: Iterable[str]) -> tuple[str, ...]:
        """Those of these blobs that cannot be fetched: a byte of each is. Raises RegistryError."""

    def mount(self, repository: str, blob: str, source: str) -> bool:
        """Have the registry take a blob over from another of its repositories; whether it did. Raises RegistryError."""
