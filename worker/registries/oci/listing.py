"""Lists a repository completely: its tagged images, and the images that only an index or a subject leads to.

An OCI registry lists only tags. Children of indexes and referrers are requested by digest.
"""

from collections import ChainMap, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from msgspec import UNSET
from msgspec.structs import replace

from policies.image import Image
from policies.subjects import fallback_list, listed_subject, subjects_of
from worker.registries.docker import manifests
from worker.registries.docker.manifest_cache import read_through, size_of
from worker.registries.errors import PermissionDeniedError, RateLimitedError, RegistryError, SignInError
from worker.registries.interface import Manifest, ManifestCache
from worker.registries.oci.client import Client
from worker.text import one_line

SYSTEMIC = (SignInError, PermissionDeniedError, RateLimitedError)  # no other manifest could be read, either
LAST_FAKE_YEAR = 1980  # reproducible builds have 1970 or 1980, some tools the year 1
CLOCK_SKEW = timedelta(minutes=5)  # how far the clock of a build machine may be ahead of ours


class Listing:
    """One listing of one repository. `configs`: read the configs of the images, too.

    `known`: images by digest. Only their tags are read again.
    """

    def __init__(
        self,
        client: Client,
        manifests: ManifestCache,
        host: str,
        name: str,
        *,
        configs: bool,
        known: Mapping[str, Image] = MappingProxyType({}),
    ) -> None:
        self._client = client
        self._cache = manifests
        self._host, self._name = host, name
        self._configs = configs
        self._tags: defaultdict[str, list[str]] = defaultdict(list)  # digest -> tags
        self._read: dict[str, Manifest | None] = {}  # by digest; None: the manifest could not be read
        self.read_errors: dict[str, str] = {}  # digest -> why the manifest could not be read
        self._subjects: dict[str, str] = {}  # digest -> its subject, by the referrers API
        self._unknown_types: set[str] = set()  # digests with an unknown media type in an index
        self._unreadable_types: dict[str, str] = {}  # digest of a manifest of an unknown type -> its type
        self._blobs: set[str] = set()  # those of `_unknown_types` that are blobs
        self._missing_layers: set[str] = set()  # digests of foreign layers that the registry does not store
        self._known = known
        self._known_referrers = referrers_by_subject(known.values())

    def images(self, tags: Sequence[str]) -> tuple[Image, ...]:
        """Every image that these tags, which are all tags of the repository, lead to. Raises RegistryError."""
        for tag, manifest in self._client.resolve_listed(self._name, tags).items():
            self._tags[manifest.digest].append(tag)
        level = list(self._tags)
        while level:
            self._read |= self._manifests(level)
            level = self._further(level)
        foreign = {layer for read in self._read.values() if read is not None for layer in read.foreign_layers}
        stored = self._client.call_in_threads(lambda digest: self._client.has_blob(self._name, digest), sorted(foreign))
        self._missing_layers = {digest for digest, is_stored in stored.items() if not is_stored}
        fallback_lists = {digest for digest in self._read if listed_subject(self._tags.get(digest, ())) is not None}
        children = {child for digest in self._read if digest not in fallback_lists for child in self._children(digest)}
        images = {digest: self._image(digest, is_child=digest in children) for digest in self._read}
        for digest in fallback_lists:
            images |= self._artifacts_of(images[digest], images, children)
        return tuple(images.values())

    def _artifacts_of(self, index: Image, images: dict[str, Image], children: Container[str]) -> Mapping[str, Image]:
        """The untagged artifacts without a subject of their own that a fallback list of referrers names, with the
        subject of the list; empty if the index is no fallback list. `children`: of the other indexes.
        """
        about = listed_subject(index.tags)
        if about is None or not manifests.is_digest(about):
            return {}
        listed = {child for child in self._children(index.digest) if self._is_artifact(child) and child not in children}
        artifacts = {
            digest: replace(images[digest], subject=about)
            for digest in listed
            if images[digest].subject is UNSET and not images[digest].tags
        }
        referrers = fallback_list(index, ChainMap(artifacts, images)) if artifacts else None
        return {} if referrers is None else artifacts

    def _further(self, level: Sequence[str]) -> list[str]:
        """The digests that exist, that these lead to, and that were not read before."""
        new = [digest for digest in level if digest not in self._known]
        referrers = self._client.call_in_threads(lambda digest: self._client.referrers.of(self._name, digest), new)
        for digest in new:
            for referrer in referrers[digest]:
                self._subjects.setdefault(referrer, digest)
        read = [manifest for digest in level if (manifest := self._read[digest]) is not None]
        unknown = {digest for manifest in read for digest in manifest.unknown_types} - self._unknown_types
        self._unknown_types |= unknown
        stored = self._client.call_in_threads(lambda digest: self._client.has_blob(self._name, digest), sorted(unknown))
        self._blobs.update(digest for digest, is_blob in stored.items() if is_blob)
        wanted = {child for manifest in read for child in manifest.children or ()} - self._blobs
        wanted |= {referrer for listed in referrers.values() for referrer in listed}
        wanted |= {subject for digest in level for subject in self._subjects_of(digest)}
        wanted |= {referrer for digest in level for referrer in self._known_referrers.get(digest, ())}

        def exists(digest: str) -> bool:
            known = self._known.get(digest)
            if known is not None and not known.tags:  # a tagged image may have been deleted with its tags
                return True
            return self._client.resolve(self._name, digest, accept=self._accept(digest)) is not None

        existing = self._client.call_in_threads(exists, sorted(wanted - self._read.keys()))
        return [digest for digest, is_there in existing.items() if is_there]

    def _subjects_of(self, digest: str) -> tuple[str, ...]:
        """The subjects of an image, for example the image that a signature signs, which may be untagged."""
        manifest, tags = self._read[digest], tuple(self._tags.get(digest, ()))
        subjects = {*subjects_of(Image(digest=digest, tags=tags)), None if manifest is None else manifest.subject}
        subjects.add(listed_subject(tags))  # it may not exist; a tag contains only the beginning of a long digest
        return tuple(sorted(subject for subject in subjects if subject is not None and manifests.is_digest(subject)))

    def _children(self, digest: str) -> tuple[str, ...]:
        manifest = self._read[digest]
        return () if manifest is None else self._listed_by(manifest)

    def _listed_by(self, index: Manifest) -> tuple[str, ...]:
        """The manifests that an index lists, without blobs."""
        return tuple(child for child in index.children or () if child not in self._blobs)

    def _accept(self, digest: str) -> str:
        return f"{manifests.ACCEPT}, */*" if digest in self._unknown_types else manifests.ACCEPT

    def _manifests(self, digests: Sequence[str]) -> Mapping[str, Manifest | None]:
        def read(unknown: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
            return self._client.call_in_threads(self._manifest, unknown)

        results: dict[str, Manifest | None] = {}
        unknown = [digest for digest in digests if digest not in self._known]
        read_now = read_through(self._cache, unknown, read, self._is_complete)
        for digest in digests:
            manifest = manifest_of(self._known[digest]) if digest in self._known else read_now.get(digest)
            if manifest is not None and digest in read_now and manifests.is_unknown_type(manifest.media_type):
                self._unreadable_types[digest] = manifest.media_type
                manifest = None
            results[digest] = manifest
        return results

    def _is_complete(self, cached: Manifest) -> bool:
        """False: read it again. An earlier version of registry-gc may not have parsed all of the manifest."""
        understood = not manifests.is_unknown_type(cached.media_type) and (not cached.unknown_types or cached.layers)
        return bool(understood) and (cached.config_read or not self._configs)

    def _manifest(self, digest: str) -> Manifest | RegistryError:
        try:
            manifest = self._client.manifest(self._name, digest, self._accept(digest))
        except SYSTEMIC:
            raise
        except RegistryError as error:
            self.read_errors[digest] = one_line(error.message, 200)
            return error
        return self._with_config(manifest) if self._configs else manifest

    def _with_config(self, manifest: Manifest) -> Manifest:
        """The manifest with the facts of the config. If the config cannot be read, the next scan tries again."""
        if manifest.children is not None:
            return replace(manifest, config_read=True)
        if manifest.config is None or manifest.artifact_type:
            return replace(manifest, labels={}, config_read=True)
        try:
            created, labels = manifests.config_facts(self._client.config(self._name, manifest.config.digest))
        except RegistryError:
            return replace(manifest, created=None)
        return replace(manifest, created=created, labels=labels, config_read=True)

    def _image(self, digest: str, *, is_child: bool) -> Image:
        manifest = self._read[digest]
        name, tags = f"{self._host}/{self._name}", tuple(self._tags.get(digest, ()))
        if digest in self._known:
            return replace(self._known[digest], tags=tags)
        if manifest is None:
            return Image(
                digest=digest, name=name, tags=tags, children=None, media_type=self._unreadable_types.get(digest, "")
            )
        subject = manifest.subject
        if subject is None and not tags and not is_child:
            subject = self._subjects.get(digest)
        not_stored = self._missing_layers.intersection(manifest.foreign_layers)
        not_stored |= {*manifest.unknown_types} - self._blobs
        layers = tuple(layer for layer in manifest.layers if layer.digest not in not_stored)
        return Image(
            digest=digest,
            name=name,
            tags=tags,
            compressed_size=None if manifest.unsized else size_of(manifest.config, layers),
            config=manifest.config,
            layers=layers,
            created_at=self._build_time(digest, datetime.now(UTC)) if self._configs else None,
            children=UNSET if manifest.children is None else self._listed_by(manifest),
            subject=UNSET if subject is None else subject,
            media_type=manifest.media_type,
            labels=manifest.labels,
        )

    def _build_time(self, digest: str, now: datetime) -> datetime | None:
        """When an image was built; for an index without a build time, that of its newest image; None: unknown."""
        manifest = self._read.get(digest)
        if manifest is None:
            return None
        if digest in self._known:
            return self._known[digest].created_at
        if manifest.children is None or manifest.created is not None:
            return plausible(manifest.created, now)
        times = [self._build_time(child, now) for child in self._listed_by(manifest) if not self._is_artifact(child)]
        known = [time for time in times if time is not None]
        return max(known) if known and len(known) == len(times) else None

    def _is_artifact(self, digest: str) -> bool:
        """Whether a digest is an artifact, such as a build attestation, and not an image."""
        manifest = self._read.get(digest)
        return manifest is not None and bool(manifest.artifact_type)


def referrers_by_subject(images: Iterable[Image]) -> Mapping[str, Sequence[str]]:
    """The digests of the referrers, by the digest of their subject. An image without a subject, or with an unreported
    one, is left out.
    """
    referrers: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        if isinstance(image.subject, str):
            referrers[image.subject].append(image.digest)
    return referrers


def manifest_of(image: Image) -> Manifest | None:
    """The manifest of an image of an earlier listing; None: it could not be read. Without config, layers and labels, so
    it must not be cached.
    """
    if image.children is None:
        return None
    children = image.children if isinstance(image.children, tuple) else None
    subject = image.subject if isinstance(image.subject, str) else None
    return Manifest(image.digest, image.media_type, children, subject)


def plausible(build_time: datetime | None, now: datetime) -> datetime | None:
    """The build time; None if it is impossible. Impossible: in LAST_FAKE_YEAR or before, or more than CLOCK_SKEW after
    `now`. Both times are aware.
    """
    if build_time is None or build_time.year <= LAST_FAKE_YEAR or build_time > now + CLOCK_SKEW:
        return None
    return build_time
