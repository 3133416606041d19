"""What images that were pushed since a plan need: an index over an image is reason enough to leave that image alone."""

from policies.image import Image
from policies.references import subjects_of
from worker.registries import docker
from worker.registries import oci_protocol as protocol
from worker.registries.interface import Manifest, Manifests, NotFoundError, RegistryError
from worker.registries.manifests import read_through
from worker.registries.messages import Answer
from worker.registries.oci_client import Client

MOST = 10_000  # manifests below one index


class Needs:
    """Who needs whom in one repository. What a manifest says never changes, so each is looked at once."""

    def __init__(self, client: Client, manifests: Manifests, repository: str) -> None:
        self._client, self._memory, self._repository = client, manifests, repository
        self._below: dict[str, frozenset[str]] = {}
        self._read: dict[str, Manifest] = {}

    def lists(self, tag: str, digest: str, wanted: str) -> bool:
        """Whether what this tag names lists a digest, however deep; a listing of referrers needs none of them.

        Raises RegistryError: it cannot be known.
        """
        return protocol.subject_of_tag(tag) is None and wanted in self.below(digest)

    def refers(self, tag: str, digest: str, wanted: str) -> bool:
        """Whether what this tag names is a signature or another referrer of a digest. Raises RegistryError."""
        if wanted in subjects_of(Image(digest=digest, tags=(tag,))):
            return True
        beginning = protocol.subject_of_tag(tag)
        if beginning is not None:
            return wanted.startswith(beginning)
        return self._manifest(digest).subject == wanted

    def below(self, digest: str) -> frozenset[str]:
        """What an image lists, however deep. Raises RegistryError: it cannot be known."""
        if digest not in self._below:
            found: dict[str, None] = {}
            level = [digest]
            while level and len(found) < MOST:
                children = [child for one in level for child in self._children(one) if child not in found]
                found |= dict.fromkeys(children)
                level = list(dict.fromkeys(children))
            self._below[digest] = frozenset(found)
        return self._below[digest]

    def _children(self, digest: str) -> tuple[str, ...]:
        try:
            return self._manifest(digest).children or ()
        except NotFoundError:
            return ()  # nothing can be pulled by it

    def _manifest(self, digest: str) -> Manifest:
        refused: list[RegistryError] = []

        def read(digests: object) -> dict[str, Manifest | RegistryError]:  # noqa: ARG001 - it is the one
            try:
                found = self._client.fetch(self._repository, digest)
                return {digest: docker.manifest(Answer(200, {"content-type": found.media_type}, found.body), digest)}
            except RegistryError as error:
                refused.append(error)
                return {digest: error}

        if digest not in self._read:
            self._read |= read_through(self._memory, [digest], read)
        if digest not in self._read:
            raise refused[0]
        return self._read[digest]
