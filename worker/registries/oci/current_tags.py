"""The current tags of a repository during its deletions, and what the images that were pushed since the plan need.

An image that a new index lists is not deleted.
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

FRESH = 1.0  # seconds for which threads share a list of tags
MAX_DESCENDANTS = 10_000  # of one index


class CurrentTags:
    """The tags of one repository. All threads of one second share a list of tags; each manifest is read once.

    `few`: up to so many tags are all resolved again; of more tags only those that the caller does not know.
    """

    def __init__(self, client: Client, manifests: ManifestCache, repository: str, few: int) -> None:
        self._client, self._cache, self._repository, self._few = client, manifests, repository, few
        self._lock = threading.Lock()  # for the tags; manifests never change
        self._asked_at = float("-inf")  # time.monotonic() when the last list of tags was requested
        self._tags: tuple[str, ...] = ()
        self._digests: Mapping[str, str] = {}
        self._below: dict[str, frozenset[str]] = {}
        self._read: dict[str, Manifest] = {}

    def tag_digests(self, known: frozenset[str]) -> Mapping[str, str]:
        """Tag -> digest of every tag that is not in `known`, or of all tags if they are few.

        Raises BadResponseError: a listed tag that is not in `known` has no manifest, so it may need any image. Raises
        any other RegistryError.
        """
        now = time.monotonic()
        with self._lock:
            self._list(now - FRESH)
            wanted = [tag for tag in self._tags if len(self._tags) <= self._few or tag not in known]
            unresolved = [tag for tag in wanted if tag not in self._digests]
            named = self._client.tag_digests(self._repository, unresolved)
            missing = [tag for tag in unresolved if tag not in named and tag not in known]
            resolved = self._client.resolve_listed(self._repository, missing)
            self._digests = {**self._digests, **named, **{tag: read.digest for tag, read in resolved.items()}}
            return {tag: self._digests[tag] for tag in wanted if tag in self._digests}

    def last(self) -> frozenset[str]:
        """The tags of the last list. Empty as well before the first list. Sends no request, but waits while another
        thread reads tags.
        """
        with self._lock:
            return frozenset(self._tags)

    def since(self, moment: float) -> frozenset[str]:
        """The tags of a list that was requested at `moment` (time.monotonic()) or later. Raises RegistryError. Empty as
        well if the registry does not know the repository. BadResponseError: the list may be truncated.
        """
        with self._lock:
            self._list(moment)
            return frozenset(self._tags)

    def _list(self, moment: float) -> None:
        if self._asked_at < moment:
            asked_at = time.monotonic()
            self._tags, self._digests = self._client.tags(self._repository) or (), {}
            self._asked_at = asked_at

    def refers(self, tag: str, digest: str, wanted: str) -> bool:
        """Whether the image of a tag is a signature or another referrer of `wanted`. Raises RegistryError."""
        if wanted in subjects_of(Image(digest=digest, tags=(tag,))):
            return True
        about = listed_subject((tag,))
        if about is not None and wanted.startswith(about):
            return True  # perhaps a fallback list of its referrers
        return self._tagged_manifest(digest).subject == wanted

    def below(self, digest: str) -> frozenset[str]:
        """All descendants of an index. Raises RegistryError: they cannot be read."""
        if digest not in self._below:
            below = set[str]()
            level = [self._tagged_manifest(digest)]
            while level:
                children = {child: index for index in level for child in index.children or () if child not in below}
                below |= children.keys()
                if len(below) > MAX_DESCENDANTS:
                    raise self._unknown(f"lists more than {MAX_DESCENDANTS:,} manifests", digest)
                read = [self._child(child, child in index.unknown_types) for child, index in children.items()]
                level = [manifest for manifest in read if manifest is not None]
            self._below[digest] = frozenset(below)
        return self._below[digest]

    def _tagged_manifest(self, digest: str) -> Manifest:
        """The manifest of a tag. If it was deleted meanwhile, what it needed is unknown."""
        try:
            return self._manifest(digest)
        except NotFoundError:
            raise self._unknown("had a tag a moment ago and does not exist", digest) from None

    def _child(self, digest: str, unknown_type: bool) -> Manifest | None:
        """A child of an index; None: a blob, or it does not exist."""
        if unknown_type and self._client.has_blob(self._repository, digest):
            return None
        try:
            return self._manifest(digest, f"{manifests.ACCEPT}, */*" if unknown_type else manifests.ACCEPT)
        except NotFoundError:
            return None

    def _manifest(self, digest: str, accept: str = manifests.ACCEPT) -> Manifest:
        if digest not in self._read:
            cached = dict(self._cache.load([digest]))
            if digest not in cached or manifests.is_unknown_type(cached[digest].media_type):
                cached = {digest: self._client.manifest(self._repository, digest, accept)}
                self._cache.save(cached)
            self._read |= cached
        manifest = self._read[digest]
        if manifests.is_unknown_type(manifest.media_type):
            raise self._unknown(f"has the unknown type {one_line(manifest.media_type, 80)!r}", digest)
        return manifest

    def _unknown(self, reason: str, digest: str) -> BadResponseError:
        message = f"{digest}, pushed since the plan, {reason}, so it may need any image"
        return BadResponseError(message, self._client.http.registry, f"GET {manifests.about(self._repository, digest)}")
