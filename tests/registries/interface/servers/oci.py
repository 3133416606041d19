"""OCI registries: Debian's docker-registry, and a strict fake with the features that it lacks."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

from tests.registries.interface.server import Calls, Pushed, Server, State
from tests.support.drivers import with_defaults
from tests.support.http_fault_proxy import HttpFaultProxy, ProxyResponse
from tests.support.oci import manifests as m
from tests.support.oci.fake import BasicAuth, FakeRegistry, TokenAuth
from tests.support.oci.pusher import Pusher, basic
from tests.support.oci.server import DockerRegistry, HtpasswdAuth
from worker.config.settings import Credentials, RegistrySettings, Secret
from worker.registries.interface import Manifest

USER = HtpasswdAuth("anna", "not-to-be-shown-anywhere")
MEMORY = Path("/dev/shm")
WHOLE = "an image is deleted by one request"
CODES = {403: "DENIED", 429: "TOOMANYREQUESTS"}


class Oci(Server):
    """The common part of both: pushes and errors."""

    kind = "oci"
    calls = Calls(
        repositories="^GET /v2/_catalog",
        images="^GET /v2/.*/tags/list",
        image="^(GET|HEAD) /v2/.*/manifests/",
        manifest="^GET /v2/.*/manifests/{digest}",
    )
    requests_for_an_image = 1.0  # the digest of a tag
    secrets = (USER.password, basic(USER.user, USER.password).partition(" ")[2])

    def settings(self, url: str) -> RegistrySettings:
        return with_defaults(
            kind=self.kind, url=url, credentials=Credentials(username=USER.user, password=Secret(file=self.password))
        )

    def hide_children(self) -> None:
        """The protocol does not list untagged images anyway."""

    def refusal(self, status: int, words: str) -> ProxyResponse:
        body = json.dumps({"errors": [{"code": CODES[status], "message": words}]}).encode()
        return ProxyResponse(status, body, (("Content-Type", "application/json"),))

    def _serve(self, folder: Path) -> None:
        self.password = folder / "password"
        self.password.write_text(USER.password)


class DebianRegistry(Oci):
    """The suite reads and deletes blobs in its folder; it has no cache."""

    name = "oci: docker-registry 2.8"
    cannot: ClassVar[Mapping[str, str]] = {
        "lists_page_after_page": "all tags are in one response",
        "lists_many_images": "takes minutes to fill; the other server of this kind is used",
        "reports_that_an_index_needs_a_child": "the server deletes a child without a warning",
        "continues_a_deletion_that_was_interrupted": WHOLE,
    }

    @contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        self._serve(folder)
        memory = MEMORY if MEMORY.is_dir() else folder  # a disk takes most of a case's time
        with (
            tempfile.TemporaryDirectory(dir=memory) as root,
            DockerRegistry(auth=USER, root=Path(root) / "data") as self.registry,
            HttpFaultProxy(self.registry.url) as self.proxy,
        ):
            yield

    def empty(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        # A pusher does not push a blob again, so this takes a new pusher.
        self.pusher = Pusher(self.registry.url, authorization=basic(USER.user, USER.password))

    def push(self, repository: str, *tags: str, layers: Sequence[str] = ("own",), subject: str | None = None) -> Pushed:
        about = None if subject is None else self.pusher.read(repository, subject)
        made = self.pusher.image(repository, *tags, layers=[layer.encode() for layer in layers], subject=about)
        return pushed(made)

    def push_index(self, repository: str, children: Sequence[str], *tags: str) -> Pushed:
        held = [self.pusher.read(repository, child) for child in children]
        return pushed(self.pusher.index(repository, *tags, children=held))

    def tag(self, repository: str, digest: str, tag: str) -> None:
        self.pusher.tag(self.pusher.read(repository, digest), tag)

    def untag(self, repository: str, tag: str) -> None:
        shutil.rmtree(self._root / "repositories" / repository / "_manifests/tags" / tag)

    def remove(self, repository: str, digest: str) -> None:
        assert self.pusher.delete(repository, digest).status == 202

    def fill(self, repository: str, count: int) -> Mapping[str, Manifest]:
        raise NotImplementedError

    def state(self) -> State:
        state: State = {}
        for home in self._root.glob("repositories/**/_manifests"):
            repository = str(home.parent.relative_to(self._root / "repositories"))
            tags: dict[str, set[str]] = {}
            for link in home.glob("tags/*/current/link"):
                tags.setdefault(link.read_text(), set()).add(link.parent.parent.name)
            digests = [link.read_text() for link in home.glob("revisions/sha256/*/link")]
            state[repository] = {digest: frozenset(tags.get(digest, ())) for digest in digests}
        return state

    def lose_blob(self, digest: str) -> None:
        code = digest.removeprefix("sha256:")
        shutil.rmtree(self._root / f"blobs/sha256/{code[:2]}/{code}")

    @property
    def _root(self) -> Path:
        return self.registry.root / "docker/registry/v2"


class Fake(Oci):
    """In this process, another one for each case: with pages, the referrers API, protected children and tokens."""

    name = "oci: strict fake"
    page = 50
    cannot: ClassVar[Mapping[str, str]] = {"continues_a_deletion_that_was_interrupted": WHOLE}

    @contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        self._serve(folder)
        with ExitStack() as self.stack, HttpFaultProxy() as self.proxy:
            yield

    def empty(self) -> None:
        self.stack.close()
        made = FakeRegistry(TokenAuth(user=BasicAuth(USER.user, USER.password)), referrers=True, tags_page=self.page)
        self.registry = self.stack.enter_context(made)
        self.proxy.target = made.url

    def push(self, repository: str, *tags: str, layers: Sequence[str] = ("own",), subject: str | None = None) -> Pushed:
        return pushed(
            self.registry.push(repository, *tags, layers=[layer.encode() for layer in layers], subject=subject)
        )

    def push_index(self, repository: str, children: Sequence[str], *tags: str) -> Pushed:
        return pushed(self.registry.push_index(repository, *tags, children=children))

    def tag(self, repository: str, digest: str, tag: str) -> None:
        self.registry.move_tag(repository, tag, digest)

    def untag(self, repository: str, tag: str) -> None:
        self.registry.untag(repository, tag)

    def remove(self, repository: str, digest: str) -> None:
        self.registry.remove(repository, digest)

    def fill(self, repository: str, count: int) -> Mapping[str, Manifest]:
        self.registry.switches.referrers = False  # half of the requests, and nothing here refers to anything
        return {
            image.digest: Manifest(image.digest, image.media_type, None)
            for image in self.registry.fill(repository, count)
        }

    def state(self) -> State:
        state = self.registry.state()
        return {path: {digest: frozenset(tags) for digest, tags in held.items()} for path, held in state.items()}

    def refused(self) -> Sequence[str]:
        return self.registry.refused

    def protect_children(self) -> None:
        self.registry.switches.protects = "denied"

    def lose_blob(self, digest: str) -> None:
        with self.registry._lock:
            del self.registry._store.blobs[digest]
            for repository in self.registry._store.repositories.values():
                repository.blobs.discard(digest)


def pushed(made: m.Pushed) -> Pushed:
    """As the suite has it."""
    return Pushed(
        repository=made.repository,
        digest=made.digest,
        media_type=made.media_type,
        tags=made.tags,
        blobs={blob.digest: blob.size for blob in made.blobs} or None,
        children=tuple(child.digest for child in made.children) or None,
        subject=made.subject,
    )
