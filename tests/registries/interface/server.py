"""The interface of a server for the suite: push and remove images, read the state, name the requests.

One adapter a server is in `servers/`. Faults are the business of the proxy before it, not the server's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.support.drivers import QUICK
from tests.support.http_fault_proxy import HttpFaultProxy, ProxyResponse, garbled, respond_with
from worker.config import kinds
from worker.config.settings import RegistrySettings
from worker.registries import open_registry
from worker.registries.interface import Manifest, ManifestCache, Registry

State = dict[str, dict[str, frozenset[str]]]
"""Repository -> digest -> its tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image or an index as it was pushed. Blobs: digest -> bytes, the config's first."""

    repository: str
    digest: str
    media_type: str
    tags: tuple[str, ...] = ()
    blobs: Mapping[str, int] | None = None  # None: an index
    children: tuple[str, ...] | None = None  # digests; None: an image
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Expressions for a kind's requests, found in "METHOD /path?query"."""

    repositories: str  # the listing of repositories
    images: str  # the listing of one repository's images, or of its tags
    image: str  # one image looked at again
    manifest: str  # manifests by digest; {digest} is replaced
    delete: str = "^DELETE "


class Server(ABC):
    """One server, empty before each case. `cannot`: case -> why it can have no answer here."""

    name: ClassVar[str]  # the column of the table
    kind: ClassVar[str]
    calls: ClassVar[Calls]
    cannot: ClassVar[Mapping[str, str]] = {}
    page: ClassVar[int] = 1000  # rows of a page, as the driver and the server have it
    requests_for_an_image: ClassVar[float] = 0.0  # of a listing, in addition to its pages
    names_may_be_no_tags: ClassVar[bool] = False  # an invalid tag is then another name, and no mistake
    secrets: tuple[str, ...] = ()  # that must never be shown
    proxy: HttpFaultProxy

    # Its life

    @contextmanager
    @abstractmethod
    def running(self, folder: Path) -> Iterator[None]:
        """Serves, with its `proxy` before it. `folder` is its own."""

    @abstractmethod
    def empty(self) -> None:
        """Nothing is there, and everything is allowed."""

    @abstractmethod
    def settings(self, url: str) -> RegistrySettings:
        """The entry of the file for this server, reached at `url`: its proxy's, as a rule."""

    def open(self, manifests: ManifestCache | None = None, *, straight: bool = False) -> Registry:
        """A driver as another process would open it; `straight`: without the proxy."""
        url = self.proxy.target if straight else self.proxy.url
        return open_registry(self.settings(url), retries=QUICK, manifests=manifests)

    @property
    def tells(self) -> kinds.Kind:
        return kinds.kind_of(self.kind)

    # Its contents

    @abstractmethod
    def push(self, repository: str, *tags: str, layers: Sequence[str] = ("own",), subject: str | None = None) -> Pushed:
        """An image; a layer's name is its content: the same names again are the same image."""

    @abstractmethod
    def push_index(self, repository: str, children: Sequence[str], *tags: str) -> Pushed:
        """An index over these digests of the repository."""

    @abstractmethod
    def tag(self, repository: str, digest: str, tag: str) -> None:
        """Somebody gives a tag to an image; another loses it."""

    @abstractmethod
    def untag(self, repository: str, tag: str) -> None:
        """Somebody takes a tag away."""

    @abstractmethod
    def remove(self, repository: str, digest: str) -> None:
        """Somebody else deletes an image with its tags."""

    @abstractmethod
    def fill(self, repository: str, count: int) -> Mapping[str, Manifest]:
        """Push many tagged images quickly. Returns the manifests that a store would have cached."""

    @abstractmethod
    def state(self) -> State:
        """The real contents. A repository without images may be missing."""

    def refused(self) -> Sequence[str]:
        """The requests to a strict server that no driver should send."""
        return ()

    # Abilities of some servers

    def hide_children(self) -> None:
        """From now on no listing contains untagged children of an index."""
        raise NotImplementedError

    def protect_children(self) -> None:
        """A child of an index is not deleted from now on."""
        raise NotImplementedError

    def lose_blob(self, digest: str) -> None:
        """The registry's own collector takes a blob."""
        raise NotImplementedError

    def unreadable(self, repository: str) -> Pushed:
        """Push an image or an index whose manifest has to be read, and let it be something else each time."""
        child = self.push(repository, layers=["readable"])
        pushed = self.push_index(repository, [child.digest], "unreadable")
        self.proxy.on(self.calls.manifest.format(digest=pushed.digest), garbled)
        return pushed

    # Refusals

    @abstractmethod
    def refusal(self, status: int, words: str) -> ProxyResponse:
        """An error of this status (403 or 429) in the form of this kind."""

    def forbid(self, calls: str) -> None:
        """The credentials are not allowed these calls."""
        self.proxy.on(calls, respond_with(self.refusal(403, "no permission for that")))

    def throttle(self, calls: str, seconds: int, times: int | None = None) -> None:
        """Refuse with 429 and `Retry-After` of this many seconds."""
        refused = self.refusal(429, "slow down")
        headers = (*refused.headers, ("Retry-After", str(seconds)))
        self.proxy.on(calls, respond_with(ProxyResponse(429, refused.body, headers)), times=times)
