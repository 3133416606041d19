"""A small HTTP server that receives notifications, and answers with the status that a test sets."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "s3cret-t0ken-of-the-hook"


class Webhook:
    """`status`: that of its responses; None: no response until the test is over."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.received: list[tuple[str, dict[str, Any]]] = []  # path and JSON
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hook.received.append((self.path, json.loads(content)))
                if hook.status is None:
                    hook.over.wait(60)
                    return
                self.send_response(hook.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    @property
    def url(self) -> str:
        """Its address in apprise's words, with a secret in it."""
        return f"json://{self.address}/hook/{SECRET}"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for _, message in self.received]

    @property
    def bodies(self) -> list[str]:
        return [message["message"] for _, message in self.received]

    @contextmanager
    def listening(self) -> Iterator["Webhook"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()
