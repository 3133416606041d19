"""The example registry of docs/adding-a-registry.md: its listings hold every fact, and it deletes at once.

GET    /example/v1                                     {}, with the header Date, as everywhere
GET    /example/v1/repositories?after=NAME             {"rows": ["shop/api"], "next": "shop/api"}; the last: no `next`
GET    /example/v1/images?repository=NAME&after=DIGEST {"rows": [IMAGE], "next": "sha256:…"}
GET    /example/v1/images/DIGEST?repository=NAME       IMAGE
DELETE /example/v1/images/DIGEST?repository=NAME       204: the image and its tags are gone; 409: an index needs it

IMAGE: digest, tags, pushedAt, mediaType, config {digest, size}, layers, children (of an index), subject. Basic sign-in.
An error is {"error": MESSAGE}.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.servers import Loopback

PAGE = 50
ROOT = "/example/v1"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

Row = dict[str, Any]


class ExampleError(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class ExampleServer(Loopback):
    """Listens on loopback while its block runs. `repositories`: repository -> digest -> IMAGE."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(_handler(self))
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.repositories: dict[str, dict[str, Row]] = {}
        self._lock = threading.Lock()

    # Content

    def push(self, repository: str, tags: Sequence[str], **facts: Any) -> Row:
        """An image or an index: `config` and `layers`, or `children`; `subject`."""
        digest = digest_of(json.dumps(facts, sort_keys=True))
        with self._lock:
            images = self.repositories.setdefault(repository, {})
            media_type = INDEX if "children" in facts else IMAGE
            now = datetime.now(UTC).isoformat()
            row = images.setdefault(digest, {"digest": digest, "tags": [], "pushedAt": now, "mediaType": media_type})
            row.update(facts)
        for tag in tags:
            self.tag(repository, digest, tag)
        return row

    def tag(self, repository: str, digest: str, tag: str) -> None:
        self.untag(repository, tag)
        with self._lock:
            self.repositories[repository][digest]["tags"].append(tag)

    def untag(self, repository: str, tag: str) -> None:
        with self._lock:
            for row in self.repositories[repository].values():
                if tag in row["tags"]:
                    row["tags"].remove(tag)

    def remove(self, repository: str, digest: str) -> None:
        with self._lock:
            del self.repositories[repository][digest]

    # Responses

    def answer(self, method: str, target: str, authorization: str) -> tuple[int, Any]:
        """Status and JSON document of the response."""
        parts = urlsplit(target)
        path, query = unquote(parts.path).removeprefix(ROOT), dict(parse_qsl(parts.query))
        if authorization != self._authorization:
            return 401, {"error": "sign in"}
        try:
            with self._lock:
                return self._answer(method, path, query)
        except ExampleError as error:
            return error.status, {"error": str(error)}

    def _answer(self, method: str, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if (method, path) == ("GET", ""):
            return 200, {}
        if (method, path) == ("GET", "/repositories"):
            return 200, _page({name: name for name, images in self.repositories.items() if images}, query)
        images = self.repositories.get(query.get("repository", ""))
        if images is None:
            raise ExampleError(404, "no such repository")
        if (method, path) == ("GET", "/images"):
            return 200, _page(images, query)
        row = images.get(path.removeprefix("/images/"))
        if row is None:
            raise ExampleError(404, "no such image")
        return self._delete(images, row) if method == "DELETE" else (200, row)

    @staticmethod
    def _delete(images: dict[str, Row], row: Row) -> tuple[int, Any]:
        if any(row["digest"] in other.get("children", ()) for other in images.values()):
            raise ExampleError(409, "an index needs it")
        del images[row["digest"]]
        return 204, None


def _page(rows: Mapping[str, Any], query: Mapping[str, str]) -> Row:
    names = sorted(name for name in rows if name > query.get("after", ""))
    shown = names[:PAGE]
    page: Row = {"rows": [rows[name] for name in shown]}
    return page | {"next": shown[-1]} if len(names) > PAGE else page


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _handler(server: ExampleServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 64 * 1024  # one packet per response

        def _any(self) -> None:
            status, document = server.answer(self.command, self.path, self.headers.get("Authorization", ""))
            body = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        do_GET = do_DELETE = _any  # noqa: N815 - http.server looks these names up

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler
