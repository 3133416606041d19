"""Requests to a registry over one kept connection. Nothing of `worker/`, whose mistakes would hide themselves."""

import contextlib
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class WireResponse:
    """`body` whole, though the connection may have been cut: then it is shorter than the Content-Length."""

    status: int
    headers: Message
    body: bytes

    def header(self, name: str) -> str:
        return str(self.headers.get(name, ""))


class UnexpectedStatusError(AssertionError):
    """The registry answered with another status; `answer` has it all."""

    def __init__(self, asked: str, answer: WireResponse) -> None:
        super().__init__(f"{asked}: {answer.status} {answer.body[:500].decode(errors='replace')}")
        self.answer = answer


class Wire:
    """One connection, opened again when the other side has closed it. `authorization`: the header's value."""

    def __init__(self, url: str, *, authorization: str | None = None) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        self._own = {"Authorization": authorization} if authorization else {}

    def ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] = MappingProxyType({})
    ) -> WireResponse:
        """Any answer; `path` may be a whole URL of the same host."""
        parts = urlsplit(path)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            return self._ask(method, target, body, {**self._own, **headers})
        except (ConnectionError, http.client.HTTPException):
            self.close()  # a server that was restarted: once more, on a new connection
            return self._ask(method, target, body, {**self._own, **headers})

    def _ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> WireResponse:
        self._connection.request(method, target, body=body, headers=dict(headers))
        answer = self._connection.getresponse()
        try:
            read = answer.read()
        except http.client.IncompleteRead as error:
            read = error.partial
            self.close()
        return WireResponse(answer.status, answer.headers, read)

    def expect(self, status: int, method: str, path: str, **options: Any) -> WireResponse:
        """An answer with this status; UnexpectedAnswerError otherwise."""
        answer = self.ask(method, path, **options)
        if answer.status != status:
            raise UnexpectedStatusError(f"{method} {path}", answer)
        return answer

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()
