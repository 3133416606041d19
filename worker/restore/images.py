"""Puts images of one repository back into a registry, one at a time, and finds out what really is there then.

What to put back, and in which order, is decided in `restore`. A registry's word that it took a manifest is not
believed: the manifest is read back and hashed, and a byte of every blob is fetched.
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

Answer = Literal["whole", "partly", "lost", "unfinished"]
Sources = Callable[[str], Sequence[str]]  # a blob's digest -> repositories that may have it, the likeliest first

DIGEST = re.compile("sha256:[0-9a-f]{64}")
COLLECTED = "the registry has freed what it names; only pushing it again brings that back"
CACHED = (
    "the registry took it and does not have it: it remembers what its collector has freed; "
    "restart the registry, then restore again"
)


@dataclass(frozen=True, slots=True)
class MovedTag:
    """A tag that names another image by now: somebody has pushed it since."""

    tag: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredImage:
    """What is there of one image that was deleted, now that it was tried to put it back; its JSON has these keys.

    whole: manifest, blobs, and all that an index lists; partly: its manifest, but not all of that, or not every tag;
    lost: not its manifest; unfinished: the registry did not say, so that nothing is known.
    """

    repository: str
    digest: str
    run: str
    answer: Answer
    tags: tuple[str, ...] = ()  # that name it now, of those it had
    left: tuple[MovedTag, ...] = ()
    missing: tuple[str, ...] = ()  # blobs, and manifests that it lists, which are not there
    message: str = ""

    @classmethod
    def of(cls, undo: UndoRecord, answer: Answer, **more: Any) -> Self:
        """The answer for an image of which that was kept; `more`: the other fields."""
        return cls(run=undo.run_id, repository=undo.repository, digest=undo.kept.digest, answer=answer, **more)


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image to put back. `tagged`: by its tags too; else an index needs it, and nobody has asked for more."""

    undo: UndoRecord
    tagged: bool = True


class _Descriptor(Struct, rename="camel"):
    digest: str = ""
    media_type: str = ""
    urls: list[str] | None = None


class _Names(Struct):
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be in the repository for a manifest to be whole, each digest once."""

    blobs: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


def needs_of(kept: SavedManifest) -> Needs:
    """What a manifest's own bytes name. Left out: layers that it says to be elsewhere, and what is no manifest."""
    try:
        names = msgspec.json.decode(kept.body, type=_Names)
    except (ValueError, RecursionError):
        return Needs()
    blobs = [one.digest for one in (names.config, *(names.layers or ())) if one and one.digest and not one.urls]
    listed = [one.digest for one in names.manifests or () if one.media_type in ("", *IMAGE_TYPES, *INDEX_TYPES)]
    return Needs(tuple(dict.fromkeys(blobs)), tuple(dict.fromkeys(filter(None, listed))))


@dataclass(slots=True)
class _Named:
    """What became of an image's tags."""

    have: list[str] = field(default_factory=list)
    left: list[MovedTag] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # why some tags are not there


@dataclass(slots=True)
class ImageRestorer:
    """One repository, into which images are put back in the order in which they are handed in."""

    registry: Restores
    path: str
    sources: Sources
    partly: bool = False  # an index gets its tags back, though images that it lists are not there
    answers: dict[str, Answer] = field(default_factory=dict)  # by digest
    _there: dict[str, bool] = field(default_factory=dict)  # by digest: what indexes list, and nobody has put back
    _fetched: set[str] = field(default_factory=set)  # blobs, while a manifest was there that keeps them there

    def restore(self, wanted: WantedImage) -> RestoredImage:
        """One image. Raises RegistryError: a systemic one, after which the next image would fare no better."""
        try:
            found = self._tried(wanted.undo, wanted.undo.image.tags if wanted.tagged else ())
        except RegistryError as error:
            if error.systemic:
                raise
            found = RestoredImage.of(wanted.undo, "unfinished", message=str(error))
        self.answers[found.digest] = found.answer
        return found

    def _tried(self, undo: UndoRecord, tags: Sequence[str]) -> RestoredImage:
        needs = needs_of(undo.kept)
        there = self._is_there(undo.kept.digest)
        lost = self._lost(needs.blobs)
        if lost:  # a manifest over lost blobs is not put: some registries would list its tag and have nothing
            return RestoredImage.of(undo, "partly" if there else "lost", missing=lost, message=COLLECTED)
        if not there:
            try:  # by its digest first: a tag is moved only to what is surely there
                self.registry.push_manifest(self.path, undo.kept)
            except BlobsMissingError as error:
                missing = tuple(dict.fromkeys(DIGEST.findall(error.message))) or self._absent(needs.manifests)
                return RestoredImage.of(undo, "lost", missing=missing, message=str(error))
            if not self._is_there(undo.kept.digest):
                return RestoredImage.of(undo, "lost", message=CACHED)
        complete = self.partly or not self._absent(needs.manifests)
        named = self._tag(undo.kept, tags, may_put=complete)
        return self._judged(undo, needs, named)

    def _judged(self, undo: UndoRecord, needs: Needs, named: _Named) -> RestoredImage:
        """What is there of an image whose manifest was read back."""
        lost = self.registry.missing_blobs(self.path, [one for one in needs.blobs if one not in self._fetched])
        self._fetched.update(set(needs.blobs).difference(lost))
        absent = self._absent(needs.manifests)
        words = [COLLECTED] if lost else []
        words += [f"not all that it lists is whole: {', '.join(absent)}"] if absent else []
        words += named.refused
        whole = not (lost or absent or named.refused)
        words += [f"{one.tag} was pushed since, and is left as it is" for one in named.left]
        return RestoredImage.of(
            undo,
            "whole" if whole else "partly",
            tags=tuple(named.have),
            left=tuple(named.left),
            missing=(*lost, *absent),
            message="; ".join(words),
        )

    def _is_there(self, digest: str) -> bool:
        """Whether a manifest can be read, hashed to its digest."""
        try:
            self.registry.save(self.path, digest)
        except NotFoundError:
            return False
        return True

    def _lost(self, blobs: Iterable[str]) -> tuple[str, ...]:
        """Those of these blobs that are neither here nor could be taken over from another repository."""
        unsure = [blob for blob in blobs if blob not in self._fetched]
        lost = self.registry.missing_blobs(self.path, unsure) if unsure else ()
        mounted = [blob for blob in lost if self._mount(blob)]
        still = self.registry.missing_blobs(self.path, mounted) if mounted else ()
        return tuple(blob for blob in lost if blob not in mounted or blob in still)

    def _mount(self, blob: str) -> bool:
        for source in self.sources(blob):
            if source == self.path:
                continue
            try:
                if self.registry.mount(self.path, blob, source):
                    return True
            except RegistryError as error:
                if error.systemic and not isinstance(error, PermissionDeniedError):  # that repository may be closed
                    raise
        return False

    def _absent(self, manifests: Iterable[str]) -> tuple[str, ...]:
        """Those of the manifests that an index lists which are not there whole."""
        absent = []
        for digest in manifests:
            if digest not in self.answers and digest not in self._there:
                self._there[digest] = self._is_there(digest)
            if not (self.answers[digest] == "whole" if digest in self.answers else self._there[digest]):
                absent.append(digest)
        return tuple(absent)

    def _tag(self, kept: SavedManifest, tags: Sequence[str], *, may_put: bool) -> _Named:
        """Give an image its tags back, but for those that name another by now. Without `may_put` none is put."""
        named = _Named()
        for tag in tags:
            try:
                now = self.registry.resolve_tag(self.path, tag)
                if now is None and not may_put:
                    named.refused.append(f"the tag {tag} was not put on an index that lacks images; --partly puts it")
                    continue
                if now is None:
                    self.registry.push_manifest(self.path, kept, tag)
                    now = self.registry.resolve_tag(self.path, tag)
            except RegistryError as error:
                if error.systemic:
                    raise
                named.refused.append(f"the tag {tag} could not be put: {error}")
                continue
            if now == kept.digest:
                named.have.append(tag)
            elif now is None:
                named.refused.append(f"the registry took the tag {tag} and does not have it")
            else:
                named.left.append(MovedTag(tag, now))
        return named


def in_order(
    wanted: Collection[WantedImage], needs: Mapping[str, Sequence[str]], subjects: Mapping[str, Sequence[str]]
) -> list[WantedImage]:
    """Each image after all that it lists (`needs`), however deep, and, where no circle forbids it, after its subjects.

    The order in which they come makes no difference. Both maps are from digests to digests.
    """
    by_digest = {one.undo.kept.digest: one for one in wanted}
    both = {digest: (*needs.get(digest, ()), *subjects.get(digest, ())) for digest in by_digest}
    order = _after(_after(sorted(by_digest), both), needs)  # what it lists is the registry's law, the subject is not
    return [by_digest[digest] for digest in order]


def _after(digests: Sequence[str], before: Mapping[str, Sequence[str]]) -> list[str]:
    """The digests in their order, but that each comes after those that `before` names for it; not within a circle."""
    known, done = set(digests), dict[str, None]()
    for first in digests:
        path, entered = [first], set()  # what waits, each for what is after it
        while path:
            waits_for = [other for other in before.get(path[-1], ()) if other in known and other not in done]
            if path[-1] in entered or not waits_for:
                done.setdefault(path.pop())
            else:
                entered.add(path[-1])
                path += reversed(waits_for)
    return list(done)
