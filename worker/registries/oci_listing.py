"""A repository whole: its tags, what they name, and what only an index or a subject leads to.

An OCI registry lists tags and nothing else. Children of indexes and referrers are looked for by their digests.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET

from policies.image import Image
from worker.registries import docker
from worker.registries.interface import (
    Manifest,
    Manifests,
    PermissionDeniedError,
    RateLimitedError,
    RegistryError,
    SignInError,
)
from worker.registries.manifests import read_through
from worker.registries.messages import Answer
from worker.registries.oci_client import Client

HOPELESS = (SignInError, PermissionDeniedError, RateLimitedError)  # no other manifest could be read either


class Listing:
    """One repository as it is being listed."""

    def __init__(self, client: Client, manifests: Manifests, host: str, name: str) -> None:
        self._client = client
        self._memory = manifests
        self._host, self._name = host, name
        self._tags: defaultdict[str, list[str]] = defaultdict(list)  # digest -> tags
        self._read: dict[str, Manifest | None] = {}  # digest -> what its manifest says; None: it could not be read

    def images(self, tags: Sequence[str]) -> tuple[Image, ...]:
        """Every image that these tags, all of the repository's, lead to. Raises RegistryError."""
        named = self._client.each(lambda tag: self._client.look(self._name, tag), tags)
        for tag, found in named.items():
            if found is not None:  # else listed, and its manifest gone: nothing that could be kept or deleted
                self._tags[found.digest].append(tag)
        level = list(self._tags)
        while level:
            self._read |= self._manifests(level)
            level = self._further(level)
        return tuple(self._image(digest) for digest in self._read)

    def _further(self, level: Iterable[str]) -> list[str]:
        """What is there of what these lead to, and was not known."""
        children = {child for digest in level for child in (self._known(digest).children or ())}
        there = self._client.each(lambda digest: self._client.look(self._name, digest), children - self._read.keys())
        return sorted(digest for digest, found in there.items() if found is not None)

    def _known(self, digest: str) -> Manifest:
        return self._read.get(digest) or Manifest(digest, "", None)

    def _manifests(self, digests: Sequence[str]) -> Mapping[str, Manifest | None]:
        def read(unknown: Sequence[str]) -> Mapping[str, Manifest | RegistryError]:
            return self._client.each(self._manifest, unknown)

        found = read_through(self._memory, digests, read)
        return {digest: found.get(digest) for digest in digests}

    def _manifest(self, digest: str) -> Manifest | RegistryError:
        try:
            found = self._client.fetch(self._name, digest)
            return docker.manifest(Answer(200, {"content-type": found.media_type}, found.body), digest)
        except HOPELESS:
            raise
        except RegistryError as error:
            return error

    def _image(self, digest: str) -> Image:
        manifest = self._read[digest]
        name, tags = f"{self._host}/{self._name}", tuple(self._tags.get(digest, ()))
        if manifest is None:
            return Image(digest=digest, name=name, tags=tags, children=None)
        return Image(
            digest=digest,
            name=name,
            tags=tags,
            compressed_size=size_of(manifest),
            config=manifest.config,
            layers=manifest.layers,
            children=UNSET if manifest.children is None else manifest.children,
            subject=UNSET if manifest.subject is None else manifest.subject,
            media_type=manifest.media_type,
        )


def size_of(manifest: Manifest) -> int | None:
    """Bytes of config and layers, each once, as the pusher wrote them; None: it names none."""
    blobs = (*((manifest.config,) if manifest.config else ()), *manifest.layers)
    return sum({blob.digest: blob.size for blob in blobs}.values()) if blobs else None
