"""The responses of a fake registry by call: those of distribution unless a switch changes them."""

import json
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from tests.support.oci import manifests as m
from tests.support.oci.fake_store import FakeRefusalError, FakeRepository, FakeStore
from tests.support.oci.fake_switches import FakeSwitches
from tests.support.oci.fake_wire import FakeRequest, FakeResponse
from tests.support.oci.manifests import Pushed

PART = r"[A-Za-z0-9]+(?:(?:\.|_|__|-+)[A-Za-z0-9]+)*"
NAME = rf"(?P<name>{PART}(?:/{PART})*)"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
DIGEST = r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+"
SHA256 = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
NO_PAGE = FakeResponse(404, b"404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})
READS = ("GET", "HEAD")
# GitLab's own tests require this status; the code and the message are invented here.
GITLAB = FakeRefusalError(409, "MANIFEST_REFERENCED_IN_LIST", "manifest referenced by a manifest list")
UNSUPPORTED = "The operation is unsupported."
LOCKED = {
    "harbor": FakeRefusalError(412, "PRECONDITION", "Failed to process request due to 'pr-1' configured as immutable."),
    "protected": FakeRefusalError(403, "DENIED", "the tag pr-1 is protected from deletion"),
    "forbidden": FakeRefusalError(403, "DENIED", "requested access to the resource is denied"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A request that is part of the protocol. `scopes`: the permissions that its token needs."""

    call: Callable[[FakeRequest, Mapping[str, str]], FakeResponse]
    groups: Mapping[str, str]
    scopes: tuple[str, ...]


@dataclass(slots=True)
class Routes:
    """The calls of one registry. The caller holds the lock."""

    store: FakeStore
    switches: FakeSwitches
    storage_url: Callable[[], str]
    uploads: dict[str, bytes] = field(default_factory=dict)
    late: list[tuple[str, str]] = field(default_factory=list)  # repository, digest: accepted, and not done yet
    tasks: deque[tuple[float, str, str]] = field(default_factory=deque)  # when it ends, repository, digest

    def settle(self) -> None:
        """Carry out the tasks whose time has come."""
        while self.tasks and self.tasks[0][0] <= time.monotonic():
            _, name, digest = self.tasks.popleft()
            if digest in self.store.stored(name).manifests:
                self.store.delete(name, digest)

    def _begin_task(self, name: str, digest: str) -> None:
        before = self.tasks[-1][0] if self.tasks else time.monotonic()
        self.tasks.append((before + self.switches.deletion_seconds, name, digest))

    def find(self, request: FakeRequest) -> Route | None:
        """Which call this is; None: none that a registry knows."""
        capitals = self.switches.capitals
        for methods, pattern, call, actions in self._table():
            if request.method in methods.split() and (match := re.fullmatch(pattern, request.path)):
                if match.groupdict().get("name", "").lower() != match.groupdict().get("name", "") and not capitals:
                    return Route(lambda _ask, _groups: NO_PAGE, match.groupdict(), ())
                return Route(call, match.groupdict(), _scopes(request, match.groupdict(), actions))
        return None

    def _table(self) -> Sequence[tuple[str, str, Callable[[FakeRequest, Mapping[str, str]], FakeResponse], str]]:
        manifest = rf"/v2/{NAME}/manifests/(?P<reference>{TAG}|{DIGEST})"
        blob = rf"/v2/{NAME}/blobs/(?P<digest>{DIGEST})"
        upload = rf"/v2/{NAME}/blobs/uploads/(?P<upload>[0-9a-f-]+)"
        return (
            ("GET HEAD", manifest, self._manifest, "pull"),
            ("DELETE", manifest, self._delete, "delete"),
            ("PUT", manifest, self._put, "pull,push"),
            ("OPTIONS", manifest, self._options, ""),
            ("GET", rf"/v2/{NAME}/tags/list", self._tags, "pull"),
            ("GET HEAD", blob, self._blob, "pull"),
            ("POST", rf"/v2/{NAME}/blobs/uploads/", self._begin, "pull,push"),
            ("PATCH", upload, self._patch, "pull,push"),
            ("PUT", upload, self._finish, "pull,push"),
            ("GET", r"/v2/_catalog", self._catalog, "*"),
            ("GET HEAD", r"/v2/", lambda _ask, _groups: FakeResponse(200, b"{}"), ""),
            ("GET", rf"/v2/{NAME}/referrers/(?P<digest>{DIGEST})", self._referrers, "pull"),
        )

    # Reading

    def _manifest(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        name, reference = groups["name"], groups["reference"]
        if ":" in reference and not self._may_name_a_manifest(name, reference):
            raise FakeRefusalError(500, "UNKNOWN", "unknown error", {})
        manifest = self._acceptable(name, reference, request.headers.get("accept", ""))
        if request.headers.get("if-none-match") == f'"{manifest.digest}"':
            return FakeResponse(304)
        headers = {"Content-Type": manifest.media_type, "Etag": f'"{manifest.digest}"'}
        return FakeResponse(200, manifest.body, headers | self._digest(manifest.digest))

    def _may_name_a_manifest(self, name: str, digest: str) -> bool:
        """Whether the digest is valid and not that of a blob without a manifest."""
        stored = self.store.repositories.get(name, FakeRepository())
        return bool(SHA256.fullmatch(digest)) and (digest in stored.manifests or digest not in stored.blobs)

    def _acceptable(self, name: str, reference: str, accept: str) -> Pushed:
        """The manifest of the reference, or the child that a registry serves to clients that do not accept its type."""
        manifest = self.store.find(name, reference)
        if not self.switches.strict_accept or manifest.media_type in accepted(accept):
            return manifest
        if manifest.media_type in (m.IMAGE, m.INDEX):
            word = "manifest" if manifest.media_type == m.IMAGE else "index"
            message = f"OCI {word} found, but accept header does not support OCI {word.replace('index', 'indexe')}s"
            raise FakeRefusalError(404, "MANIFEST_UNKNOWN", message)
        if ":" in reference:
            return manifest
        if manifest.media_type == m.DOCKER_INDEX and m.DOCKER_IMAGE in accepted(accept):
            return self.store.find(name, _for_linux(manifest))
        raise FakeRefusalError(400, "MANIFEST_INVALID", "manifest invalid")

    def _tags(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        name = groups["name"]
        stored = self.store.repositories.get(name)
        if stored is None or not stored.tagged_once:
            raise FakeRefusalError(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})
        if self.switches.tags_page is None:
            return _document({"name": name, "tags": list(stored.tags) or None})
        page = self.switches.tags_page
        if self.switches.tags_by_n:
            page = page if "n" in request.query else None
            if not request.query.get("n", "0").isdecimal():
                raise _invalid_number(request.query["n"])
        rows, link = self._page(request, sorted(stored.tags), page, self.switches.tags_most)
        return _document({"name": name, "tags": rows}, **link)

    def _catalog(self, request: FakeRequest, _groups: Mapping[str, str]) -> FakeResponse:
        if self.switches.catalog == 404:
            return NO_PAGE
        if self.switches.catalog != 200:
            code = "DENIED" if self.switches.catalog == 403 else "UNSUPPORTED"
            raise FakeRefusalError(self.switches.catalog, code, "the catalog is not for you")
        most = self.switches.catalog_most
        rows, link = self._page(request, sorted(self.store.repositories), self.switches.catalog_page, most)
        return _document({"repositories": rows}, **link)

    def _page(
        self, request: FakeRequest, rows: Sequence[str], page: int | None, most: int | None
    ) -> tuple[list[str], dict[str, str]]:
        """A page of a list, at most `page` rows of it. An `n` of more than `most` is refused."""
        wanted = number(request)
        if wanted is not None and most is not None and wanted > most:
            raise _invalid_number(wanted)
        if self.switches.last == "refused" and "last" in request.query:
            raise FakeRefusalError(400, "UNSUPPORTED", "unknown parameter last")
        if self.switches.last == "ignored":
            request = replace(request, pairs=tuple(pair for pair in request.pairs if pair[0] != "last"))
        shown, link = paged(request, rows, page)
        return shown, link if self.switches.links else {}

    def _referrers(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        rows = self.store.referrers(groups["name"], groups["digest"])
        kind = request.query.get("artifactType")
        if kind:
            rows = [row for row in rows if row.get("artifactType") == kind]
        by_digest = {row["digest"]: row for row in rows}
        shown, headers = paged(request, list(by_digest), self.switches.referrers_page)
        headers |= {"Content-Type": m.INDEX, **({"OCI-Filters-Applied": "artifactType"} if kind else {})}
        listed = [by_digest[digest] for digest in shown]
        return _document({"schemaVersion": 2, "mediaType": m.INDEX, "manifests": listed}, **headers)

    def _blob(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        digest = groups["digest"]
        stored = self.store.repositories.get(groups["name"], FakeRepository())
        if digest not in stored.blobs or not self.store.has_blob(digest):
            raise FakeRefusalError(404, "BLOB_UNKNOWN", "blob unknown to registry", digest)
        if self.switches.redirect:
            return FakeResponse(307, b"", {"Location": f"{self.storage_url()}/storage/{digest}?signature=x%2By"})
        return blob_bytes(self.store, request, digest) if request.method in READS else NO_PAGE

    # Changing

    def _delete(self, _ask: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        name, digest = groups["name"], groups["reference"]
        if self.switches.deletion in ("off", "off 400"):
            raise FakeRefusalError(405 if self.switches.deletion == "off" else 400, "UNSUPPORTED", UNSUPPORTED)
        if not SHA256.fullmatch(digest):
            return self._delete_tag(name, digest)
        if self.switches.protects and self.store.stored(name).parents.get(digest):
            message = "manifest is referenced by an index"
            raise FakeRefusalError(405, "DENIED", message) if self.switches.protects == "denied" else GITLAB
        tags = self.store.stored(name).tags_of.get(digest, ())
        if self.switches.locks and any(re.search(self.switches.locks, f"{name}:{tag}") for tag in tags):
            named = FakeRefusalError(403, "DENIED", f"robot may not delete in {name}")
            raise LOCKED.get(self.switches.locked_says, named)
        if self.switches.deletion_seconds and digest in self.store.stored(name).manifests:
            self._begin_task(name, digest)
        elif self.switches.deleted == "late" and digest in self.store.stored(name).manifests:
            self.late.append((name, digest))
        else:
            how = self.switches.deleted
            self.store.delete(
                name,
                digest,
                tags_stay=how == "tags listed",
                tags_answer=how == "tags answer",
                children_too=self.switches.cascades,
            )
            for digest in self.store.freed() if self.switches.frees_at_once else ():
                self.store.free(digest, cached=False)
        return FakeResponse(202)

    def _delete_tag(self, name: str, tag: str) -> FakeResponse:
        if ":" in tag or self.switches.by_tag == "refused":
            raise FakeRefusalError(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        if self.switches.by_tag == "unsupported":
            raise FakeRefusalError(405, "UNSUPPORTED", UNSUPPORTED)
        self.store.find(name, tag)
        self.store.stored(name).untag(tag)
        return FakeResponse(202)

    def _put(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        name = groups["name"]
        if ":" in groups["reference"] and not SHA256.fullmatch(groups["reference"]):
            raise FakeRefusalError(500, "UNKNOWN", "unknown error", {})
        before = self.store.stored(name).tags.get(groups["reference"])
        pushed = self.store.put(
            name,
            groups["reference"],
            request.body,
            request.headers.get("content-type", ""),
            takes_incomplete=self.switches.takes_incomplete,
        )
        if self.switches.forgets_untagged and before and not self.store.stored(name).tags_of[before]:
            self.store.stored(name).remove(before)
        headers = {"Location": f"/v2/{name}/manifests/{pushed.digest}", "Docker-Content-Digest": pushed.digest}
        if self.switches.referrers and pushed.subject:
            headers["OCI-Subject"] = pushed.subject
        return FakeResponse(201, b"", headers)

    def _options(self, _ask: FakeRequest, _groups: Mapping[str, str]) -> FakeResponse:
        return FakeResponse(
            200, b"", {"Allow": "GET, HEAD" if self.switches.deletion == "read-only" else "DELETE, GET, HEAD, PUT"}
        )

    def _begin(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        name, digest = groups["name"], request.query.get("mount", "")
        source = self.store.repositories.get(request.query.get("from", ""), FakeRepository())
        if digest and digest in source.blobs and self.store.has_blob(digest):
            self.store.stored(name).blobs.add(digest)
            return _created(name, digest)
        self.uploads[upload := str(uuid.uuid4())] = b""
        return FakeResponse(
            202, b"", {"Location": f"/v2/{name}/blobs/uploads/{upload}?_state=s%3D", "Docker-Upload-Uuid": upload}
        )

    def _patch(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        self.uploads[groups["upload"]] = self._so_far(groups["upload"]) + request.body
        return FakeResponse(
            202, b"", {"Location": request.path, "Range": f"0-{len(self.uploads[groups['upload']]) - 1}"}
        )

    def _finish(self, request: FakeRequest, groups: Mapping[str, str]) -> FakeResponse:
        data = self._so_far(groups["upload"]) + request.body
        if (digest := m.digest_of(data)) != request.query.get("digest"):
            raise FakeRefusalError(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        del self.uploads[groups["upload"]]
        self.store.add_blob(groups["name"], digest, data)
        return _created(groups["name"], digest)

    def _so_far(self, upload: str) -> bytes:
        if upload not in self.uploads:
            raise FakeRefusalError(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        return self.uploads[upload]

    def _digest(self, digest: str) -> dict[str, str]:
        return {"Docker-Content-Digest": digest} if self.switches.digest_header else {}


def blob_bytes(store: FakeStore, request: FakeRequest, digest: str) -> FakeResponse:
    """A blob, or the range of it that was asked for. One that is only a size has zeros, and is not to be had whole.

    For a blob that only a cache has, the headers are sent, and the connection closes.
    """
    held, size = store.blobs.get(digest, b""), store.size(digest)
    headers = {"Docker-Content-Digest": digest, "Etag": f'"{digest}"', "Accept-Ranges": "bytes"}
    headers["Content-Type"] = "application/octet-stream"
    asked = request.headers.get("range")
    if request.method != "HEAD" and digest not in store.blobs:
        return FakeResponse(200 if asked is None else 206, b"", headers, fate="half", length=size)
    if request.method == "HEAD" or (asked is None and not isinstance(held, int)):
        return FakeResponse(200, b"" if isinstance(held, int) else held, headers, length=size)
    if asked is None:
        raise FakeRefusalError(500, "UNKNOWN", "this layer has no bytes: clients should not request it")
    first, last = span(asked, size)
    if first > last:
        beyond = {"Content-Range": f"bytes */{size}"} if first >= size else {}
        return FakeResponse(416, b"", headers | {"Content-Type": "text/plain"} | beyond)
    part = bytes(last + 1 - first) if isinstance(held, int) else held[first : last + 1]
    return FakeResponse(206, part, headers | {"Content-Range": f"bytes {first}-{last}/{size}"})


def span(asked: str, size: int) -> tuple[int, int]:
    """The first and the last byte of one range: `bytes=0-9`, `bytes=9-`, `bytes=-9`. Nothing: the last is before."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if match is None or not (match[1] or match[2]):
        return 0, -1
    if not match[1]:
        return max(0, size - int(match[2])), size - 1
    return int(match[1]), min(int(match[2] or size), size - 1)


def accepted(header: str) -> frozenset[str]:
    """The types of an Accept header."""
    return frozenset(media_type.partition(";")[0].strip() for media_type in header.split(","))


def number(request: FakeRequest) -> int | None:
    """`n` of a listing; a value that is no number counts as absent."""
    text = request.query.get("n", "")
    return int(text) if text.isdecimal() else None


def paged(request: FakeRequest, rows: Sequence[str], most: int | None) -> tuple[list[str], dict[str, str]]:
    """A page of at most `n` rows, and the header with the link to the next page: relative, and encoded."""
    last, wanted = request.query.get("last"), number(request)
    if last in rows:
        rows = rows[rows.index(last) + 1 :]
    elif last is not None:
        rows = [row for row in rows if row > last]
    size = min(limit for limit in (wanted, most, len(rows)) if limit is not None)
    shown = list(rows[:size])
    if not shown or len(rows) == size:
        return shown, {}
    kept = [(name, value) for name, value in request.pairs if name not in ("last", "n")]
    query = urlencode([*kept, ("last", shown[-1]), ("n", str(wanted or most or size))])
    return shown, {"Link": f'<{request.path}?{query}>; rel="next"'}


def _invalid_number(wanted: int | str) -> FakeRefusalError:
    return FakeRefusalError(400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested", {"n": wanted})


def _scopes(request: FakeRequest, groups: Mapping[str, str], actions: str) -> tuple[str, ...]:
    if not actions:
        return ()
    if "name" not in groups:
        return ("registry:catalog:*",)
    scopes = [f"repository:{groups['name']}:{actions}"]
    if request.method == "POST" and request.query.get("from"):
        scopes.append(f"repository:{request.query['from']}:pull")
    return tuple(scopes)


def _for_linux(index: Pushed) -> str:
    """The child of a list that a client gets that knows no lists."""
    for child in json.loads(index.body)["manifests"]:
        if child.get("platform", {}).get("os", "linux") == "linux":
            return str(child["digest"])
    raise FakeRefusalError(404, "MANIFEST_UNKNOWN", "manifest unknown")


def _created(name: str, digest: str) -> FakeResponse:
    return FakeResponse(201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _document(content: Any, **headers: str) -> FakeResponse:
    return FakeResponse(200, json.dumps(content).encode() + b"\n", headers)
