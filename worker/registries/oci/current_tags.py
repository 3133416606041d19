"""What is around an image that is to be deleted: its repository's tags, and what images that were pushed since need.

An index over an image is reason enough to leave that image alone.
"""

import threading
import time
from collections.abc import Mapping

from policies.image import Image
from policies.subjects import listed_subject, subjects_of
from worker.registries.docker import manifests
from worker.registries.errors import BadResponseError, NotFoundError
from worker.registries.interface import Manifest, ManifestCache
from worker.registries.oci.client import Client
from worker.text import one_line

FRESH = 1.0  # seconds for which what one thread saw serves the others
MOST = 10_000  # manifests below one index


class CurrentTags:
    """One repository: its tags are asked for once for all the threads of one second, each manifest once.

    `few`: of so many tags or fewer all are read anew, of more only those that the caller does not know.
    """

    def __init__(self, client: Client, manifests: ManifestCache, repository: str, few: int) -> None:
        self._client, self._memory, self._repository, self._few = client, manifests, repository, few
        self._lock = threading.Lock()  # of the tags; what a manifest says never changes
        self._asked_at = float("-inf")  # time.monotonic(), when the asking for tags began
        self._tags: tuple[str, ...] = ()
        self._named: Mapping[str, str] = {}
        self._below: dict[str, frozenset[str]] = {}
        self._read: dict[str, Manifest] = {}

    def tag_digests(self, known: frozenset[str]) -> Mapping[str, str]:
        """Tag -> digest of every tag that is not among these, or of all if they are few.

        Raises BadResponseError for a tag that is not among these and whose manifest is not there, though it is listed:
        it may need anything. Raises any other RegistryError.
        """
        came = time.monotonic()
        with self._lock:
            self._ask(came - FRESH)
            wanted = [tag for tag in self._tags if len(self._tags) <= self._few or tag not in known]
            unseen = [tag for tag in wanted if tag not in self._named]
            named = self._client.tag_digests(self._repository, unseen)
            lost = [tag for tag in unseen if tag not in named and tag not in known]
            resolved = self._client.resolve_listed(self._repository, lost)
            self._named = {**self._named, **named, **{tag: one.digest for tag, one in resolved.items()}}
            return {tag: self._named[tag] for tag in wanted if tag in self._named}

    def last(self) -> frozenset[str]:
        """The tags as they were listed last."""
        with self._lock:
            return frozenset(self._tags)

    def since(self, moment: float) -> frozenset[str]:
        """The tags by a listing that began at `moment` (time.monotonic()) or later. Raises RegistryError."""
        with self._lock:
            self._ask(moment)
            return frozenset(self._tags)

    def _ask(self, moment: float) -> None:
        if self._asked_at < moment:
            asked_at = time.monotonic()
            self._tags, self._named = self._client.tags(self._repository) or (), {}
            self._asked_at = asked_at

    def refers(self, tag: str, digest: str, wanted: str) -> bool:
        """Whether what this tag names is a signature or another referrer of a digest. Raises RegistryError."""
        if wanted in subjects_of(Image(digest=digest, tags=(tag,))):
            return True
        about = listed_subject((tag,))
        if about is not None and wanted.startswith(about):
            return True  # perhaps a list of its referrers: what it lists need not be read to leave the image alone
        return self._just_named(digest).subject == wanted

    def below(self, digest: str) -> frozenset[str]:
        """What an image lists, however deep. Raises RegistryError: it cannot be known."""
        if digest not in self._below:
            found = set[str]()
            level = [self._just_named(digest)]
            while level:
                further = {child: one for one in level for child in one.children or () if child not in found}
                found |= further.keys()
                if len(found) > MOST:
                    raise self._unknown(f"lists more than {MOST:,} manifests", digest)
                read = [self._listed(child, strange=child in one.unknown_types) for child, one in further.items()]
                level = [one for one in read if one is not None]
            self._below[digest] = frozenset(found)
        return self._below[digest]

    def _just_named(self, digest: str) -> Manifest:
        """What a tag names; that it is gone by now says nothing of what it needs."""
        try:
            return self._manifest(digest)
        except NotFoundError:
            raise self._unknown("was named by a tag just now, and is not there", digest) from None

    def _listed(self, digest: str, *, strange: bool) -> Manifest | None:
        """What an index lists; None: it is a blob, or not there, and nothing can be pulled by it."""
        if strange and self._client.has_blob(self._repository, digest):
            return None
        try:
            return self._manifest(digest, f"{manifests.ACCEPT}, */*" if strange else manifests.ACCEPT)
        except NotFoundError:
            return None

    def _manifest(self, digest: str, accept: str = manifests.ACCEPT) -> Manifest:
        if digest not in self._read:
            found = dict(self._memory.load([digest]))
            if digest not in found or manifests.is_unknown_type(found[digest].media_type):
                found = {digest: self._client.manifest(self._repository, digest, accept)}
                self._memory.save(found)
            self._read |= found
        manifest = self._read[digest]
        if manifests.is_unknown_type(manifest.media_type):
            raise self._unknown(f"is of the type {one_line(manifest.media_type, 80)!r}", digest)
        return manifest

    def _unknown(self, what: str, digest: str) -> BadResponseError:
        message = f"{digest}, pushed since the plan, {what}: it may need anything"
        return BadResponseError(message, self._client.http.registry, f"GET {manifests.about(self._repository, digest)}")
