"""The content of a fake registry: repositories of manifests, tags and blobs, and checks of pushes and deletions."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.oci import manifests as m
from tests.support.oci.manifests import Descriptor, Pushed

TYPES = (m.IMAGE, m.INDEX, m.DOCKER_IMAGE, m.DOCKER_INDEX)
MANIFEST_BYTES = 4 << 20


class FakeRefusalError(Exception):
    """An error of the protocol, as it is sent."""

    def __init__(self, status: int, code: str, message: str, *details: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details or (None,)

    def body(self) -> bytes:
        """One error for each detail."""
        errors = []
        for detail in self.details:
            error = {"code": self.code, "message": self.message}
            errors.append(error if detail is None else {**error, "detail": detail})
        return json.dumps({"errors": errors}).encode() + b"\n"


@dataclass(slots=True)
class FakeRepository:
    """One repository; its contents are in push order."""

    manifests: dict[str, Pushed] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    tags_of: dict[str, set[str]] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)  # linked here; a link outlives its manifests
    parents: dict[str, set[str]] = field(default_factory=dict)  # child -> the indexes here that list it
    referrers: dict[str, dict[str, None]] = field(default_factory=dict)  # subject -> who names it, in push order
    ghosts: dict[str, Pushed] = field(default_factory=dict)  # deleted manifests that their tags still serve
    tagged_once: bool = False  # its list of tags is null afterwards, and no error

    def put(self, pushed: Pushed) -> None:
        self.manifests[pushed.digest] = pushed
        for child in pushed.children:
            self.parents.setdefault(child.digest, set()).add(pushed.digest)
        if pushed.subject:
            self.referrers.setdefault(pushed.subject, {})[pushed.digest] = None

    def tag(self, tag: str, digest: str) -> None:
        self.untag(tag)
        self.tags[tag] = digest
        self.tags_of.setdefault(digest, set()).add(tag)
        self.tagged_once = True

    def untag(self, tag: str) -> None:
        if (digest := self.tags.pop(tag, None)) is not None:
            self.tags_of[digest].discard(tag)

    def remove(self, digest: str, *, tags_stay: bool = False, tags_answer: bool = False) -> None:
        """The manifest and all its tags, unless they stay in the list, or even go on answering."""
        gone = self.manifests.pop(digest)
        if tags_answer:
            self.ghosts[digest] = gone
        elif not tags_stay:
            for tag in self.tags_of.pop(digest, set()):
                del self.tags[tag]
        for child in gone.children:
            self.parents[child.digest].discard(digest)
        if gone.subject:
            self.referrers[gone.subject].pop(digest, None)


class FakeStore:
    """All repositories. Not safe for several threads: who has it has a lock."""

    def __init__(self) -> None:
        self.repositories: dict[str, FakeRepository] = {}
        self.blobs: dict[str, bytes | int] = {}  # int: the size of a layer without bytes
        self.cached: dict[str, int] = {}  # sizes of freed blobs that a cache still reports
        self.deleted: list[tuple[str, str]] = []

    def stored(self, repository: str) -> FakeRepository:
        """A repository, created if it does not exist; a repository is never deleted."""
        return self.repositories.setdefault(repository, FakeRepository())

    def size(self, blob: str) -> int:
        held = self.blobs[blob] if blob in self.blobs else self.cached[blob]
        return held if isinstance(held, int) else len(held)

    def has_blob(self, blob: str) -> bool:
        return blob in self.blobs or blob in self.cached

    def free(self, blob: str, *, cached: bool) -> None:
        """Delete the bytes of a blob and its links; with `cached` a cache goes on reporting it."""
        if cached:
            self.cached[blob] = self.size(blob)
        else:
            self.cached.pop(blob, None)
            for stored in self.repositories.values():
                stored.blobs.discard(blob)
        self.blobs.pop(blob, None)

    def add_blob(self, repository: str, digest: str, held: bytes | int) -> None:
        self.stored(repository).blobs.add(digest)
        if not isinstance(self.blobs.get(digest), bytes):
            self.blobs[digest] = held

    def find(self, repository: str, reference: str) -> Pushed:
        """The manifest that a tag or a digest names. Raises RefusalError."""
        stored = self.repositories.get(repository, FakeRepository())
        digest = stored.tags.get(reference, reference)
        manifest = stored.manifests.get(digest) or (None if digest == reference else stored.ghosts.get(digest))
        if manifest is None:
            detail = {"Name": repository, "Revision": reference} if ":" in reference else {"Tag": reference}
            raise FakeRefusalError(404, "MANIFEST_UNKNOWN", "manifest unknown", detail)
        return manifest

    def put(
        self, repository: str, reference: str, body: bytes, media_type: str, *, takes_incomplete: bool = False
    ) -> Pushed:
        """A manifest by tag or digest, checked as a registry does it. Raises RefusalError.

        `takes_incomplete`: children of an index may be missing.
        """
        pushed = _checked(repository, body, media_type)
        if ":" in reference and reference != pushed.digest:
            raise FakeRefusalError(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        stored = self.stored(repository)
        missing = dict.fromkeys(blob.digest for blob in pushed.blobs if blob.digest not in stored.blobs)
        if not takes_incomplete:
            missing |= dict.fromkeys(child.digest for child in pushed.children if child.digest not in stored.manifests)
        if missing:
            raise FakeRefusalError(
                400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", *({"digest": digest} for digest in missing)
            )
        stored.put(pushed)
        if ":" not in reference:
            stored.tag(reference, pushed.digest)
        return pushed

    def delete(
        self,
        repository: str,
        digest: str,
        *,
        tags_stay: bool = False,
        tags_answer: bool = False,
        children_too: bool = False,
    ) -> None:
        """Raises RefusalError where it is not there."""
        stored = self.repositories.get(repository)
        if stored is None or digest not in stored.manifests:
            raise FakeRefusalError(404, "MANIFEST_UNKNOWN", "manifest unknown")
        children = [child.digest for child in stored.manifests[digest].children] if children_too else []
        stored.remove(digest, tags_stay=tags_stay, tags_answer=tags_answer)
        self.deleted.append((repository, digest))
        for child in children:
            if child in stored.manifests:
                stored.remove(child)

    def untagged(self, *, spares_children: bool) -> Iterator[tuple[str, str]]:
        """Repository and digest of the manifests that a collector deletes if it deletes untagged ones."""
        for name, stored in self.repositories.items():
            kept = list(stored.tags.values())
            for digest in kept if spares_children else ():  # grows while it is read
                children = stored.manifests[digest].children if digest in stored.manifests else ()
                kept += [child.digest for child in children if child.digest not in kept]
            yield from [(name, digest) for digest in stored.manifests if digest not in kept]

    def state(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Repository -> digest -> its tags, sorted."""
        return {
            name: {digest: tuple(sorted(stored.tags_of.get(digest, ()))) for digest in stored.manifests}
            for name, stored in self.repositories.items()
        }

    def freed(self, gone: Collection[str] = ()) -> dict[str, int]:
        """Digest -> bytes of the configs and layers that a plain collector would remove, were these deleted too."""
        named = {blob.digest for pushed in self._all() if pushed.digest not in gone for blob in pushed.blobs}
        return {digest: self.size(digest) for digest in self.blobs if digest not in named}

    def _all(self) -> Iterator[Pushed]:
        for stored in self.repositories.values():
            yield from stored.manifests.values()

    def referrers(self, repository: str, subject: str) -> list[dict[str, Any]]:
        """The descriptors of those that name this subject, as the referrers API shows them."""
        stored = self.repositories.get(repository, FakeRepository())
        return [_shown(stored.manifests[digest]) for digest in stored.referrers.get(subject, ())]


def _checked(repository: str, body: bytes, media_type: str) -> Pushed:
    if len(body) > MANIFEST_BYTES:
        raise FakeRefusalError(400, "MANIFEST_INVALID", "manifest invalid", "http: request body too large")
    try:
        document = json.loads(body)
        pushed = m.parsed(repository, body, media_type)
        said = document.get("mediaType", media_type)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FakeRefusalError(400, "MANIFEST_INVALID", "manifest invalid", str(error)) from error
    if media_type not in TYPES or said != media_type:
        raise FakeRefusalError(400, "MANIFEST_INVALID", "manifest invalid", {"mediaType": media_type})
    return pushed


def _shown(pushed: Pushed) -> dict[str, Any]:
    document: Mapping[str, Any] = json.loads(pushed.body)
    shown = pushed.descriptor.document()
    kind = pushed.artifact_type or (pushed.config.media_type if pushed.config else None)
    more = {"artifactType": kind, "annotations": document.get("annotations")}
    return shown | {name: value for name, value in more.items() if value}


def sized(digest: str, size: int, *, docker: bool = False) -> Descriptor:
    """A layer by its digest and size, for those that have no bytes here."""
    return Descriptor(digest, size, m.DOCKER_LAYER if docker else m.LAYER)
