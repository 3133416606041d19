"""The served pages as a subprocess, and a client that may send anything."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

DOCUMENT = """\
redis: {{file: {folder}/redis-url}}
store: {{file: {folder}/store-url}}
registries:
  production:
    {{kind: yandex-container-registry, id: crpvab5oob146rh73ilt, credentials: {{metadata: true}}, policy: nightly}}
# {written}
policies:
  nightly: [{{name: leftovers, delete: {{untagged: true, older_than: 7d}}}}]
"""


@dataclass
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Pages:
    """A server process and the folder it serves."""

    folder: Path
    process: subprocess.Popen[str]
    host: str = ""
    port: int = 0

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        connection = HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ask("/healthz").body)
        return document


def write(folder: Path, redis: str, store: str = "") -> Path:
    path = folder / "registry-gc.yaml"
    (folder / "store-url").write_text(store or f"sqlite:///{folder}/store.db")
    (folder / "redis-url").write_text(redis)
    path.write_text(DOCUMENT.format(folder=folder, written=time.time_ns()))
    return path


def start(folder: Path, redis: str, *limits: str) -> Pages:
    command = [sys.executable, "-m", "tests.web.process", str(write(folder, redis)), "0", *limits]
    environ = os.environ | {"REGISTRY_GC_CONFIG": command[3]}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)
    assert process.stderr is not None
    pages = Pages(folder, process)
    line = process.stderr.readline()
    assert line.startswith("web: http://"), line + process.stderr.read()
    host, _, port = line.removeprefix("web: http://").split("/")[0].rpartition(":")
    pages.host, pages.port = host.strip("[]"), int(port)
    return pages


def stop(pages: Pages) -> None:
    pages.process.kill()
    pages.process.wait()
    if pages.process.stderr is not None:
        pages.process.stderr.close()
