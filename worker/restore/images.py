"""Restores images of one repository, one at a time, and verifies that the registry really has them.

`worker.restore.restore` selects the images. An accepted push proves nothing: the manifest is read back and hashed, and
a byte of every blob is fetched.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from worker.registries.docker.manifests import IMAGE_TYPES, INDEX_TYPES
from worker.registries.errors import BlobsMissingError, NotFoundError, PermissionDeniedError, RegistryError
from worker.registries.interface import Restores, SavedManifest
from worker.store.undo import UndoRecord

RestoreAnswer = Literal["whole", "partly", "lost", "unfinished"]
Sources = Callable[[str], Sequence[str]]  # a blob's digest -> repositories that may have it, the most likely first

DIGEST = re.compile("sha256:[0-9a-f]{64}")
BLOBS_DELETED = "the registry has deleted blobs of the image; only pushing the image again restores them"
MANIFEST_CACHED = (
    "the registry accepted the manifest and does not have it: it caches what its garbage collector has deleted; "
    "restart the registry, then restore again"
)


@dataclass(frozen=True, slots=True)
class MovedTag:
    """A tag that names another image now: somebody has pushed it since."""

    tag: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredImage:
    """The result of restoring one deleted image; its JSON has these keys.

    whole: the registry has the manifest, all blobs, and all images of an index; partly: it has the manifest, but not
    all of these, or not every tag; lost: it does not have the manifest; unfinished: unknown, the registry failed.
    """

    repository: str
    digest: str
    run: str
    answer: RestoreAnswer
    tags: tuple[str, ...] = ()  # of its old tags, those that name it now
    left: tuple[MovedTag, ...] = ()  # of its old tags, those that name another image now
    missing: tuple[str, ...] = ()  # blobs, and listed manifests, that the registry does not have
    message: str = ""

    @classmethod
    def of(cls, undo: UndoRecord, answer: RestoreAnswer, **more: Any) -> Self:
        """The result for an image of the store; `more`: the other fields."""
        return cls(run=undo.run_id, repository=undo.repository, digest=undo.manifest.digest, answer=answer, **more)


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image to restore. `tagged`: with its tags; else only an index needs it."""

    undo: UndoRecord
    tagged: bool = True


class _Descriptor(Struct, rename="camel"):
    digest: str = ""
    media_type: str = ""
    urls: list[str] | None = None


class _Manifest(Struct):
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """The blobs and manifests that a manifest needs in its repository, each digest once."""

    blobs: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


def needs_of(saved: SavedManifest) -> Needs:
    """The blobs and manifests that a manifest needs. Leaves out foreign layers, and children of unknown types."""
    try:
        manifest = msgspec.json.decode(saved.body, type=_Manifest)
    except (ValueError, RecursionError):
        return Needs()
    parts = filter(None, (manifest.config, *(manifest.layers or ())))
    blobs = [blob.digest for blob in parts if blob.digest and not blob.urls]
    types = ("", *IMAGE_TYPES, *INDEX_TYPES)
    listed = [child.digest for child in manifest.manifests or () if child.media_type in types]
    return Needs(tuple(dict.fromkeys(blobs)), tuple(dict.fromkeys(filter(None, listed))))


@dataclass(slots=True)
class _TagResults:
    """The results of restoring an image's tags."""

    restored: list[str] = field(default_factory=list)
    moved: list[MovedTag] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # why the other tags are missing


@dataclass(slots=True)
class ImageRestorer:
    """Restores images of one repository, in the order in which the caller passes them."""

    registry: Restores
    path: str
    sources: Sources
    partly: bool = False  # restore the tags of an index even if listed images are missing
    answers: dict[str, RestoreAnswer] = field(default_factory=dict)  # by digest
    _present: dict[str, bool] = field(default_factory=dict)  # by digest, of listed manifests not restored here
    _fetched: set[str] = field(default_factory=set)  # blobs that were fetched while a manifest protected them

    def restore(self, wanted: WantedImage) -> RestoredImage:
        """Restore one image. Raises RegistryError if it is systemic: the next image would fail alike."""
        try:
            result = self._attempt(wanted.undo, wanted.undo.image.tags if wanted.tagged else ())
        except RegistryError as error:
            if error.systemic:
                raise
            result = RestoredImage.of(wanted.undo, "unfinished", message=str(error))
        self.answers[result.digest] = result.answer
        return result

    def _attempt(self, undo: UndoRecord, tags: Sequence[str]) -> RestoredImage:
        needs = needs_of(undo.manifest)
        present = self._has_manifest(undo.manifest.digest)
        lost = self._missing_after_mount(needs.blobs)
        if lost:  # no manifest is pushed over missing blobs: some registries would list a tag without an image
            return RestoredImage.of(undo, "partly" if present else "lost", missing=lost, message=BLOBS_DELETED)
        if not present:
            try:  # by digest first: a tag may only name a manifest that the registry certainly has
                self.registry.push_manifest(self.path, undo.manifest)
            except BlobsMissingError as error:
                missing = tuple(dict.fromkeys(DIGEST.findall(error.message))) or self._absent(needs.manifests)
                return RestoredImage.of(undo, "lost", missing=missing, message=str(error))
            if not self._has_manifest(undo.manifest.digest):
                return RestoredImage.of(undo, "lost", message=MANIFEST_CACHED)
        may_push = self.partly or not self._absent(needs.manifests)
        return self._verify(undo, needs, self._restore_tags(undo.manifest, tags, may_push=may_push))

    def _verify(self, undo: UndoRecord, needs: Needs, tags: _TagResults) -> RestoredImage:
        """The result for an image whose manifest was read back."""
        lost = self.registry.missing_blobs(self.path, [blob for blob in needs.blobs if blob not in self._fetched])
        self._fetched.update(set(needs.blobs).difference(lost))
        absent = self._absent(needs.manifests)
        messages = [BLOBS_DELETED] if lost else []
        messages += [f"listed images are not whole: {', '.join(absent)}"] if absent else []
        messages += tags.refused
        whole = not messages
        messages += [f"{moved.tag} was pushed since, and is left as it is" for moved in tags.moved]
        return RestoredImage.of(
            undo,
            "whole" if whole else "partly",
            tags=tuple(tags.restored),
            left=tuple(tags.moved),
            missing=(*lost, *absent),
            message="; ".join(messages),
        )

    def _has_manifest(self, digest: str) -> bool:
        """Whether the registry returns the manifest, with the right hash."""
        try:
            self.registry.save(self.path, digest)
        except NotFoundError:
            return False
        return True

    def _missing_after_mount(self, blobs: Iterable[str]) -> tuple[str, ...]:
        """The blobs that the repository lacks, and that cannot be mounted from another repository."""
        unverified = [blob for blob in blobs if blob not in self._fetched]
        lost = self.registry.missing_blobs(self.path, unverified) if unverified else ()
        mounted = [blob for blob in lost if self._mount(blob)]
        still_missing = self.registry.missing_blobs(self.path, mounted) if mounted else ()
        return tuple(blob for blob in lost if blob not in mounted or blob in still_missing)

    def _mount(self, blob: str) -> bool:
        for source in self.sources(blob):
            if source == self.path:
                continue
            try:
                if self.registry.mount(self.path, blob, source):
                    return True
            except RegistryError as error:
                if error.systemic and not isinstance(error, PermissionDeniedError):  # only this source is forbidden
                    raise
        return False

    def _absent(self, manifests: Iterable[str]) -> tuple[str, ...]:
        """The listed manifests that the registry does not have, or that were not restored as whole images."""
        absent = []
        for digest in manifests:
            if digest not in self.answers and digest not in self._present:
                self._present[digest] = self._has_manifest(digest)
            if not (self.answers[digest] == "whole" if digest in self.answers else self._present[digest]):
                absent.append(digest)
        return tuple(absent)

    def _restore_tags(self, saved: SavedManifest, tags: Sequence[str], *, may_push: bool) -> _TagResults:
        """Restore the tags that name no other image now. Without `may_push` no missing tag is pushed."""
        results = _TagResults()
        for tag in tags:
            try:
                current = self.registry.resolve_tag(self.path, tag)
                if current is None and not may_push:
                    results.refused.append(f"the tag {tag} of an incomplete index was not restored; --partly does it")
                    continue
                if current is None:
                    self.registry.push_manifest(self.path, saved, tag)
                    current = self.registry.resolve_tag(self.path, tag)
            except RegistryError as error:
                if error.systemic:
                    raise
                results.refused.append(f"the tag {tag} could not be restored: {error}")
                continue
            if current == saved.digest:
                results.restored.append(tag)
            elif current is None:
                results.refused.append(f"the registry accepted the tag {tag} and does not have it")
            else:
                results.moved.append(MovedTag(tag, current))
        return results


def restore_order(
    wanted: Collection[WantedImage], needs: Mapping[str, Sequence[str]], subjects: Mapping[str, Sequence[str]]
) -> list[WantedImage]:
    """Sort images: each after the images that it lists (`needs`), and after its subjects unless these form a cycle.

    The input order makes no difference. Both maps are from digests to digests.
    """
    by_digest = {image.undo.manifest.digest: image for image in wanted}
    listed_and_subjects = {digest: (*needs.get(digest, ()), *subjects.get(digest, ())) for digest in by_digest}
    order = _order_after(sorted(by_digest), listed_and_subjects)
    order = _order_after(order, needs)  # registries require listed images first, not subjects
    return [by_digest[digest] for digest in order]


def _order_after(digests: Sequence[str], before: Mapping[str, Sequence[str]]) -> list[str]:
    """The digests in their order, but each after the digests that `before` has for it, except in a cycle."""
    known, done = set(digests), dict[str, None]()
    for first in digests:
        path, entered = [first], set()  # each digest of the path waits for digests after it
        while path:
            waits_for = [other for other in before.get(path[-1], ()) if other in known and other not in done]
            if path[-1] in entered or not waits_for:
                done.setdefault(path.pop())
            else:
                entered.add(path[-1])
                path += reversed(waits_for)
    return list(done)
