"""A repository whole: its tags, what they name, and what only an index or a subject leads to.

An OCI registry lists tags and nothing else. Children of indexes and referrers are looked for by their digests.
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

HOPELESS = (SignInError, PermissionDeniedError, RateLimitedError)  # no other manifest could be read either
LAST_MADE_UP_YEAR = 1980  # reproducible builds say 1970 or 1980, some tools the year 1
AHEAD = timedelta(minutes=5)  # what a maker's clock may differ from ours


class Listing:
    """One repository as it is being listed. `configs`: the images' configs are read too.

    `known`: images by digest that are believed as they are, but for their tags; nothing is asked to learn about them.
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
        self._memory = manifests
        self._host, self._name = host, name
        self._configs = configs
        self._tags: defaultdict[str, list[str]] = defaultdict(list)  # digest -> tags
        self._read: dict[str, Manifest | None] = {}  # digest -> what its manifest says; None: it could not be read
        self.read_errors: dict[str, str] = {}  # digest -> why its manifest could not be read
        self._subjects: dict[str, str] = {}  # digest -> what it refers to, by a listing of referrers
        self._strange: set[str] = set()  # digests that an index names as of a type that nobody knows
        self._strange_types: dict[str, str] = {}  # digest of a manifest of which nobody knows what it names -> its type
        self._blobs: set[str] = set()  # those of them that are blobs here, and no manifests
        self._away: set[str] = set()  # digests of layers that are not here: none of the registry's bytes
        self._known = known
        self._known_referrers = referrers_by_subject(known.values())

    def images(self, tags: Sequence[str]) -> tuple[Image, ...]:
        """Every image that these tags, all of the repository's, lead to. Raises RegistryError."""
        for tag, found in self._client.resolve_listed(self._name, tags).items():
            self._tags[found.digest].append(tag)
        level = list(self._tags)
        while level:
            self._read |= self._manifests(level)
            level = self._further(level)
        # What this repository does not store of the layers that manifests say to be elsewhere
        told = {layer for manifest in self._read.values() if manifest is not None for layer in manifest.foreign_layers}
        stored = self._client.each(lambda digest: self._client.has_blob(self._name, digest), sorted(told))
        self._away = {digest for digest, there in stored.items() if not there}
        perhaps = {digest for digest in self._read if listed_subject(self._tags.get(digest, ())) is not None}
        children = {child for digest in self._read if digest not in perhaps for child in self._children(digest)}
        images = {digest: self._image(digest, is_child=digest in children) for digest in self._read}
        for digest in perhaps:
            images |= self._artifacts_of(images[digest], images, children)
        return tuple(images.values())

    def _artifacts_of(self, index: Image, images: dict[str, Image], children: Container[str]) -> Mapping[str, Image]:
        """The untagged artifacts that a fallback list of referrers names and that do not say what they are about, with
        the list's subject; none where the index is no such list. `children`: what other indexes list.
        """
        about = listed_subject(index.tags)
        if about is None or not manifests.is_digest(about):
            return {}
        silent = {one for one in self._children(index.digest) if self._is_artifact(one) and one not in children}
        artifacts = {
            digest: replace(images[digest], subject=about)
            for digest in silent
            if images[digest].subject is UNSET and not images[digest].tags
        }
        listed = fallback_list(index, ChainMap(artifacts, images)) if artifacts else None
        return {} if listed is None else artifacts

    def _further(self, level: Sequence[str]) -> list[str]:
        """What is there of what these lead to, and was not known."""
        unknown = [digest for digest in level if digest not in self._known]
        referrers = self._client.each(lambda digest: self._client.referrers.of(self._name, digest), unknown)
        for digest in unknown:
            for referrer in referrers[digest]:
                self._subjects.setdefault(referrer, digest)
        known = [manifest for digest in level if (manifest := self._read[digest]) is not None]
        strange = {digest for manifest in known for digest in manifest.unknown_types} - self._strange
        self._strange |= strange
        is_blob = self._client.each(lambda digest: self._client.has_blob(self._name, digest), sorted(strange))
        self._blobs.update(digest for digest, is_one in is_blob.items() if is_one)
        wanted = {child for manifest in known for child in manifest.children or ()} - self._blobs
        wanted |= {one for listed in referrers.values() for one in listed}
        wanted |= {subject for digest in level for subject in self._subjects_of(digest)}
        wanted |= {referrer for digest in level for referrer in self._known_referrers.get(digest, ())}

        def is_there(digest: str) -> bool:
            known = self._known.get(digest)
            if known is not None and not known.tags:  # else it has lost its tags, and may have gone with them
                return True
            return self._client.resolve(self._name, digest, accept=self._accept(digest)) is not None

        there = self._client.each(is_there, sorted(wanted - self._read.keys()))
        return [digest for digest, found in there.items() if found]

    def _subjects_of(self, digest: str) -> tuple[str, ...]:
        """What an image is about: a signature leads to what it signs, which may have lost its tag."""
        manifest, tags = self._read[digest], tuple(self._tags.get(digest, ()))
        subjects = {*subjects_of(Image(digest=digest, tags=tags)), None if manifest is None else manifest.subject}
        subjects.add(listed_subject(tags))  # it need not be there; of a longer digest the tag has only the beginning
        return tuple(sorted(subject for subject in subjects if subject is not None and manifests.is_digest(subject)))

    def _children(self, digest: str) -> tuple[str, ...]:
        manifest = self._read[digest]
        return () if manifest is None else self._listed_by(manifest)

    def _listed_by(self, index: Manifest) -> tuple[str, ...]:
        """The manifests that an index lists: blobs may be among its entries."""
        children = index.children or ()
        return children if self._blobs.isdisjoint(children) else tuple(c for c in children if c not in self._blobs)

    def _accept(self, digest: str) -> str:
        return f"{manifests.ACCEPT}, */*" if digest in self._strange else manifests.ACCEPT

    def _manifests(self, digests: Sequence[str]) -> Mapping[str, Manifest | None]:
        def read(unknown: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
            return self._client.each(self._manifest, unknown)

        unknown = [digest for digest in digests if digest not in self._known]
        found = read_through(self._memory, unknown, read, self._says_enough)
        strange = {digest: one.media_type for digest, one in found.items() if manifests.is_unknown_type(one.media_type)}
        self._strange_types |= strange
        readable = {digest: one for digest, one in found.items() if digest not in strange}
        return {
            digest: said_by(self._known[digest]) if digest in self._known else readable.get(digest)
            for digest in digests
        }

    def _says_enough(self, remembered: Manifest) -> bool:
        """Whether it need not be read again; an earlier version of this program may have understood less of it."""
        understood = not manifests.is_unknown_type(remembered.media_type) and (
            not remembered.unknown_types or remembered.layers
        )
        return bool(understood) and (remembered.config_read or not self._configs)

    def _manifest(self, digest: str) -> Manifest | RegistryError:
        try:
            manifest = self._client.manifest(self._name, digest, self._accept(digest))
        except HOPELESS:
            raise
        except RegistryError as error:
            self.read_errors[digest] = one_line(error.message, 200)
            return error
        return self._with_config(manifest) if self._configs else manifest

    def _with_config(self, manifest: Manifest) -> Manifest:
        """With what the config of an image says. One that cannot be read tells nothing, and is asked for again."""
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
                digest=digest, name=name, tags=tags, children=None, media_type=self._strange_types.get(digest, "")
            )
        subject = manifest.subject
        if subject is None and not tags and not is_child:
            subject = self._subjects.get(digest)
        none_of_ours = self._away.intersection(manifest.foreign_layers) | ({*manifest.unknown_types} - self._blobs)
        if none_of_ours:
            manifest = replace(manifest, layers=tuple(one for one in manifest.layers if one.digest not in none_of_ours))
        return Image(
            digest=digest,
            name=name,
            tags=tags,
            compressed_size=None if manifest.unsized else size_of(manifest.config, manifest.layers),
            config=manifest.config,
            layers=manifest.layers,
            created_at=self._made(digest, datetime.now(UTC)) if self._configs else None,
            children=UNSET if manifest.children is None else self._listed_by(manifest),
            subject=UNSET if subject is None else subject,
            media_type=manifest.media_type,
            labels=manifest.labels,
        )

    def _made(self, digest: str, now: datetime) -> datetime | None:
        """When an image was made, as its maker says; an index that does not say: with the last of its images."""
        manifest = self._read.get(digest)
        if manifest is None:
            return None
        if digest in self._known:
            return self._known[digest].created_at
        if manifest.children is None or manifest.created is not None:
            return believed(manifest.created, now)
        times = [self._made(child, now) for child in self._listed_by(manifest) if not self._is_artifact(child)]
        known = [time for time in times if time is not None]
        return max(known) if known and len(known) == len(times) else None

    def _is_artifact(self, digest: str) -> bool:
        """Whether it is something beside images, such as an attestation of how they were built."""
        manifest = self._read.get(digest)
        return manifest is not None and bool(manifest.artifact_type)


def referrers_by_subject(images: Iterable[Image]) -> Mapping[str, Sequence[str]]:
    """The digests of those that say what they are about, by the digest of that."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        if isinstance(image.subject, str):
            found[image.subject].append(image.digest)
    return found


def said_by(image: Image) -> Manifest | None:
    """What an image's manifest says of others, by an earlier listing; None: it could not be read."""
    if image.children is None:
        return None
    children = image.children if isinstance(image.children, tuple) else None
    subject = image.subject if isinstance(image.subject, str) else None
    return Manifest(image.digest, image.media_type, children, subject)


def believed(made: datetime | None, now: datetime) -> datetime | None:
    """The same, unless nobody can have made it then."""
    if made is None or made.year <= LAST_MADE_UP_YEAR or made > now + AHEAD:
        return None
    return made
