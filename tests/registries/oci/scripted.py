"""A server that answers as a test's function says: for responses that none of our registries sends."""

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import zip_longest
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.oci.manifests import IMAGE, INDEX, LAYER, digest_of
from tests.support.servers import Loopback


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    scopes: tuple[str, ...]  # of a token
    headers: Mapping[str, str]  # names in lower case


@dataclass(frozen=True, slots=True)
class Reply:
    """`cut`: the connection ends after the headers. `headers` replace those that the body gives."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


def error(status: int, code: str, message: str = "", **headers: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def document(content: Any, **headers: str) -> Reply:
    return Reply(200, json.dumps(content).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def manifest(body: bytes, media_type: str = IMAGE) -> Reply:
    return Reply(200, body, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(body)})


def an_image(text: str, **more: Any) -> bytes:
    """A manifest of one layer, and no config."""
    layer = {"mediaType": LAYER, "digest": digest_of(text.encode()), "size": len(text)}
    return json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "layers": [layer], **more}).encode()


def an_index(*children: bytes, types: Sequence[str] = (), **more: Any) -> bytes:
    entries = [
        {"mediaType": kind, "digest": digest_of(child), "size": len(child)}
        for child, kind in zip_longest(children, types, fillvalue=IMAGE)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, **more}).encode()


UNKNOWN = error(404, "MANIFEST_UNKNOWN", "manifest unknown")
NO_PAGE = Reply(404, b"404 page not found", {"Content-Type": "text/plain"})


class Scripted(Loopback):
    """Listens on loopback while its block runs. `asked`: every request in order."""

    def __init__(self, response: Callable[[Asked], Reply]) -> None:
        super().__init__(_handler(self))
        self.response = response
        self.asked: list[Asked] = []

    def lines(self, *methods: str) -> list[str]:
        """ "GET /v2/", in order."""
        return [
            f"{request.method} {request.path}" for request in self.asked if not methods or request.method in methods
        ]


class ScriptedRepository:
    """One repository, `a`, in memory: manifests by digest, tags. `before`: asked first; None: as a registry would."""

    def __init__(self) -> None:
        self.manifests: dict[str, Reply] = {}
        self.tags: dict[str, str] = {}
        self.before: Callable[[Asked], Reply | None] = lambda _asked: None

    def put(self, body: bytes, *tags: str, media_type: str = "application/vnd.oci.image.manifest.v1+json") -> str:
        digest = digest_of(body)
        self.manifests[digest] = manifest(body, media_type)
        self.tags |= dict.fromkeys(tags, digest)
        return digest

    def remove(self, digest: str) -> None:
        del self.manifests[digest]
        self.tags = {tag: named for tag, named in self.tags.items() if named != digest}

    def __call__(self, asked: Asked) -> Reply:
        return self.before(asked) or self._usual(asked)

    def _usual(self, asked: Asked) -> Reply:
        if asked.path == "/v2/a/tags/list":
            return document({"name": "a", "tags": list(self.tags)})
        if not asked.path.startswith("/v2/a/manifests/"):
            return NO_PAGE
        reference = asked.path.rpartition("/")[2]
        digest = self.tags.get(reference, reference)
        if digest not in self.manifests:
            return UNKNOWN
        if asked.method == "DELETE":
            self.remove(digest)
            return Reply(202)
        return self.manifests[digest]


def _handler(scripted: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            pairs = parse_qsl(parts.query, keep_blank_values=True)
            asked = Asked(
                self.command,
                unquote(parts.path),
                dict(pairs),
                tuple(value for name, value in pairs if name == "scope"),
                {name.lower(): value for name, value in self.headers.items()},
            )
            scripted.asked.append(asked)
            reply = scripted.response(asked)
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if reply.cut:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
            elif self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_DELETE = do_PUT = do_POST = _any  # noqa: N815 - http.server looks these names up

        def log_message(self, *_: object) -> None:
            """Stay silent: `asked` has it all."""

    return Handler


class Guarded:
    """Asks for a token in the words of `challenge` unless one that `takes` accepts is shown."""

    def __init__(self, stored: ScriptedRepository, challenge: str, takes: Callable[[str], bool]) -> None:
        self.challenge, self.takes = challenge, takes
        self.tokens = 0
        stored.before = self

    def __call__(self, asked: Asked) -> Reply | None:
        if asked.path == "/token":
            self.tokens += 1
            return document({"access_token": f"{self.tokens}:{' '.join(asked.scopes)}"})
        if self.takes(asked.headers.get("authorization", "")):
            return None
        return Reply(401, b"no", {"Www-Authenticate": self.challenge})
