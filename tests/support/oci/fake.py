"""A small, strict registry inside the test's process: for features that distribution 2.8 lacks, and for faults.

It answers as distribution does, by `Switches` as others do; `refused` lists requests that no driver of ours may send.

with FakeRegistry(**FLAVOURS["zot"]) as registry:       # or FakeRegistry(TokenAuth(), tags_page=2)
    image = registry.push("shop/api", "v1", layers=[b"base", 1000])
    registry.push_index("shop/api", "all", children=[image.digest])
    registry.fault("cut", "DELETE", carried_out=True)   # `fake_faults.py` has the kinds
    registry.before("HEAD", "/manifests/v1$", lambda: registry.untag("shop/api", "v1"), after=2)
    ...                                                 # talk to registry.url
    assert registry.deleted == [("shop/api", image.digest)]
    assert registry.freed() == {}                       # blobs that a plain collector would take
    assert registry.refused == []
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Self

from tests.support.oci import manifests as m
from tests.support.oci.fake_auth import BasicAuth, TokenAuth, UserListAuth, unauthorized
from tests.support.oci.fake_faults import BeforeResponse, FakeFault, FaultKind, RequestMatcher
from tests.support.oci.fake_routes import NO_PAGE, READS, Routes, accepted, blob_bytes
from tests.support.oci.fake_store import TYPES, FakeRefusalError, FakeStore, sized
from tests.support.oci.fake_switches import FLAVOURS, FakeSwitches
from tests.support.oci.fake_wire import FakeRequest, FakeResponse, Listener
from tests.support.oci.manifests import Descriptor, Pushed

__all__ = ["FLAVOURS", "BasicAuth", "FakeRegistry", "FakeSwitches", "RecordedRequest", "TokenAuth", "UserListAuth"]

Layer = bytes | int | tuple[str, int]
"""A layer by its bytes, by its size alone (another layer each time), or by its digest and size."""

READ_ONLY = FakeResponse(
    405, b"Method not allowed\n", {"Content-Type": "text/plain; charset=utf-8", "Allow": "GET, HEAD"}
)
CREATED = "2026-01-02T03:04:05Z"


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that was answered. `authorization`: "basic", the scopes of its token, or empty; `status` 0: cut off."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str
    status: int

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


class FakeRegistry:
    """Listens on loopback while its block runs. Every method is safe to call from any thread.

    `switches.deletion = "off"` and its like take effect with the next request.
    """

    def __init__(self, auth: BasicAuth | TokenAuth | UserListAuth | None = None, **switches: Any) -> None:
        self.auth = auth
        self.switches = FakeSwitches(**switches)
        self.requests: list[RecordedRequest] = []
        self.refused: list[str] = []
        self._store = FakeStore()
        self._lock = threading.RLock()
        self._hooks: list[BeforeResponse] = []
        self._faults: list[FakeFault] = []
        self.only_answer: FakeResponse | None = None  # to everything, where a test wants that
        self._listener, self._storage = Listener(self._answer), Listener(self._storage_answer)
        self._tokens = Listener(self._token_answer)
        self._routes = Routes(self._store, self.switches, lambda: f"http://{self._storage.host}")
        self._stack = ExitStack()
        self._numbers = count(1)

    def __enter__(self) -> Self:
        self._stack.enter_context(self._listener)
        self._stack.enter_context(self._storage)
        self._stack.enter_context(self._tokens)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def host(self) -> str:
        return self._listener.host

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def token_host(self) -> str:
        """Where tokens come from if that is elsewhere."""
        return self._tokens.host

    # Its contents

    def push(
        self,
        repository: str,
        *tags: str,
        layers: Sequence[Layer] = (b"layer",),
        created: str | None = CREATED,
        labels: Mapping[str, str] | None = None,
        docker: bool = False,
        subject: Descriptor | str | None = None,
        artifact_type: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pushed:
        """An image, a referrer or an artifact; without tags untagged. `subject` need not be there."""
        with self._lock:
            held = [self._layer(repository, layer, docker) for layer in layers]
            config = self._config(repository, held, created, labels, docker)
            body = m.image_body(
                config,
                held,
                docker=docker,
                subject=Descriptor(subject, 1, m.IMAGE) if isinstance(subject, str) else subject,
                artifact_type=artifact_type,
                annotations=annotations,
            )
            return self.put(repository, body, m.DOCKER_IMAGE if docker else m.IMAGE, *tags)

    def push_index(
        self,
        repository: str,
        *tags: str,
        children: Sequence[str],
        docker: bool = False,
        subject: Descriptor | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pushed:
        """An index of images in the repository, by digest."""
        with self._lock:
            entries = [self._store.find(repository, digest).descriptor.document() for digest in children]
            body = m.index_body(entries, docker=docker, subject=subject, annotations=annotations)
            return self.put(repository, body, m.DOCKER_INDEX if docker else m.INDEX, *tags)

    def put(self, repository: str, body: bytes, media_type: str, *tags: str) -> Pushed:
        """Any manifest, checked as a push is. Raises RefusalError."""
        with self._lock:
            for reference in tags or (m.digest_of(body),):
                pushed = self._store.put(repository, reference, body, media_type)
            return replace(pushed, tags=tags)

    def fill(self, repository: str, number: int, *, prefix: str = "t", created: str | None = CREATED) -> list[Pushed]:
        """Many tagged images, each with one own layer that is only a size; tags "t00000", "t00001", …."""
        return [
            self.push(repository, f"{prefix}{position:05d}", layers=[1000 + position], created=created)
            for position in range(number)
        ]

    def empty(self, repository: str) -> None:
        """A repository that never had a manifest."""
        with self._lock:
            self._store.stored(repository)

    def move_tag(self, repository: str, tag: str, digest: str) -> None:
        """A tag to a manifest that is there, from wherever it was."""
        with self._lock:
            self._store.stored(repository).tag(tag, self._store.find(repository, digest).digest)

    def untag(self, repository: str, tag: str) -> None:
        with self._lock:
            self._store.stored(repository).untag(tag)

    def remove(self, repository: str, digest: str) -> None:
        """As somebody else's deletion: not in `deleted`."""
        with self._lock:
            self._store.stored(repository).remove(digest)

    def delete(self, repository: str, digest: str) -> None:
        """As somebody else's deletion over the wire, by `switches.deleted`: not in `deleted`."""
        with self._lock:
            how = self.switches.deleted
            self._store.stored(repository).remove(
                digest, tags_stay=how == "tags listed", tags_answer=how == "tags answer"
            )

    def collect(self, *, untagged: bool = False) -> None:
        """Run the collector: delete blobs that no manifest names, with `untagged` also untagged manifests."""
        with self._lock:
            gone = self._store.untagged(spares_children=self.switches.spares_children) if untagged else ()
            for repository, digest in list(gone):
                self._store.stored(repository).remove(digest)
            for digest in self._store.freed():
                self._store.free(digest, cached=self.switches.blob_cache)

    def flush_cache(self) -> None:
        """Empty the cache: it no longer reports freed blobs."""
        with self._lock:
            for digest in list(self._store.cached):
                if digest not in self._store.blobs:
                    self._store.free(digest, cached=False)
            self._store.cached.clear()

    def finish_deletions(self) -> None:
        """Those that were accepted and are late."""
        with self._lock:
            for repository, digest in dict.fromkeys(self._routes.late):
                self._store.delete(repository, digest)
            self._routes.late.clear()

    def restart(self, seconds: float) -> None:
        """Accept no connections for this long, from now on; cut responses in progress."""
        self._listener.restart(seconds)

    def state(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Repository -> digest -> its tags, sorted."""
        with self._lock:
            return self._store.state()

    def freed(self, *gone: str) -> dict[str, int]:
        """Digest -> bytes of the configs and layers that a plain collector would remove, were these deleted too."""
        with self._lock:
            return self._store.freed(gone)

    @property
    def deleted(self) -> list[tuple[str, str]]:
        """Repository and digest of every deletion over the wire, in order."""
        with self._lock:
            return list(self._store.deleted)

    def lines(self, *methods: str) -> list[str]:
        """ "GET /v2/", in order."""
        with self._lock:
            return [request.line for request in self.requests if not methods or request.method in methods]

    # Faults and hooks

    def before(self, method: str, path: str, call: Callable[[], object], *, after: int = 0) -> None:
        """Call this once, right before the response to the first matching request, or to a later one."""
        with self._lock:
            self._hooks.append(BeforeResponse(RequestMatcher(method, path, after), call))

    def fault(self, kind: FaultKind, method: str = "", path: str = "", **options: Any) -> None:
        """Spoil matching answers: `times` (1; None: all), `after`, and of Fault status, code, headers, carried_out."""
        chosen = RequestMatcher(method, path, options.pop("after", 0), options.pop("times", 1))
        with self._lock:
            self._faults.append(FakeFault(kind, chosen, **options))

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()

    # Answering

    def _answer(self, request: FakeRequest) -> FakeResponse:
        if self.only_answer is not None:
            return self.only_answer
        if request.path != "/token" and self.switches.mounted != "/v2":
            if not request.path.startswith(f"{self.switches.mounted}/"):
                return NO_PAGE
            request = replace(request, path=f"/v2{request.path.removeprefix(self.switches.mounted)}")
        with self._lock:
            calls = [hook.call for hook in self._hooks if hook.chosen.take(request)]
            fault = next((fault for fault in self._faults if fault.chosen.take(request)), None)
        for call in calls:
            call()
        response = fault.spoil(lambda: self._carried_out(request)) if fault else self._carried_out(request)
        with self._lock:
            status = 0 if response.fate == "nothing" else response.status
            self.requests.append(
                RecordedRequest(request.method, request.path, request.query, self._authorization_of(request), status)
            )
        return response

    def _carried_out(self, request: FakeRequest) -> FakeResponse:
        with self._lock:
            self._routes.settle()
            self._note_refused(request)
            try:
                return self._routed(request)
            except FakeRefusalError as error:
                return FakeResponse(error.status, error.body())
            except Exception as error:  # noqa: BLE001 - a mistake of the fake's own must reach the test
                self.refused.append(f"{request.method} {request.path}: the fake failed: {error!r}")
                return FakeResponse(500, FakeRefusalError(500, "UNKNOWN", "unknown error").body())

    def _routed(self, request: FakeRequest) -> FakeResponse:
        if request.path == "/token" and isinstance(self.auth, TokenAuth) and not self.auth.elsewhere:
            return self.auth.issue(request) if request.method == "GET" or self.auth.identity else NO_PAGE
        if request.path == "/v2" and request.method == "GET":
            return FakeResponse(301, b"", {"Location": "/v2/"})
        route = self._routes.find(request)
        if route is not None and "/referrers/" in request.path and not self.switches.referrers:
            page = b"<html><body>Welcome</body></html>"
            return NO_PAGE if self.switches.no_referrers == 404 else FakeResponse(self.switches.no_referrers, page)
        if route is None:
            return NO_PAGE
        return self._access_refusal(request, route.scopes) or route.call(request, route.groups)

    def _access_refusal(self, request: FakeRequest, scopes: Sequence[str]) -> FakeResponse | None:
        """The refusal of a request that this user, or every user, may not send."""
        if self.auth is not None and (refusal := self.auth.allow(request, scopes, self._realm)) is not None:
            return refusal
        if request.path == "/v2/_catalog" and self.switches.catalog == 401:
            return unauthorized('Basic realm="fake"')
        if self.switches.deletion == "read-only" and request.method not in (*READS, "OPTIONS"):
            return READ_ONLY
        return None

    def _note_refused(self, request: FakeRequest) -> None:
        """Record a request that no driver of ours may send."""
        if request.path in ("/v2", "/token"):
            return
        route = self._routes.find(request)
        if route is None:
            self.refused.append(f"{request.method} {request.path}: no registry knows this request")
        elif request.method == "DELETE" and ":" not in route.groups["reference"]:
            self.refused.append(f"{request.method} {request.path}: a deletion by tag")
        elif request.method in READS and "reference" in route.groups:
            lacking = set(TYPES) - accepted(request.headers.get("accept", ""))
            if lacking:
                self.refused.append(f"{request.method} {request.path}: Accept lacks {', '.join(sorted(lacking))}")

    @property
    def _realm(self) -> str:
        return self.token_host if isinstance(self.auth, TokenAuth) and self.auth.elsewhere else self.host

    def _token_answer(self, request: FakeRequest) -> FakeResponse:
        """The answer of the port that has nothing but tokens."""
        with self._lock:
            if request.path == "/token" and request.method == "GET" and isinstance(self.auth, TokenAuth):
                return self.auth.issue(request)
            return NO_PAGE

    def _storage_answer(self, request: FakeRequest) -> FakeResponse:
        """The answer of the other port, where blobs are."""
        digest = request.path.removeprefix("/storage/")
        with self._lock:
            if request.headers.get("authorization"):
                self.refused.append(f"{request.method} {request.path}: signed in to where blobs are stored")
            if request.method not in READS or digest not in self._store.blobs or request.query != {"signature": "x+y"}:
                return NO_PAGE
            return blob_bytes(self._store, request, digest)

    def _authorization_of(self, request: FakeRequest) -> str:
        authorization = request.headers.get("authorization", "")
        if isinstance(self.auth, TokenAuth) and authorization.startswith("Bearer "):
            return self.auth.scopes_of(authorization)
        return authorization.partition(" ")[0].lower()

    def _layer(self, repository: str, layer: Layer, docker: bool) -> Descriptor:
        if isinstance(layer, bytes):
            digest, held = m.digest_of(layer), layer
            self._store.add_blob(repository, digest, held)
            return sized(digest, len(held), docker=docker)
        digest, size = layer if isinstance(layer, tuple) else (m.digest_of(b"%d" % next(self._numbers)), layer)
        self._store.add_blob(repository, digest, size)
        return sized(digest, size, docker=docker)

    def _config(
        self,
        repository: str,
        layers: Sequence[Descriptor],
        created: str | None,
        labels: Mapping[str, str] | None,
        docker: bool,
    ) -> Descriptor:
        body = m.encoded(
            {
                "created": created,
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": dict(labels)} if labels else {},
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            }
        )
        digest = m.digest_of(body)
        self._store.add_blob(repository, digest, body)
        return Descriptor(digest, len(body), m.DOCKER_CONFIG if docker else m.CONFIG)
