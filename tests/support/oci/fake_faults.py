"""Hooks right before the response to chosen requests, and faults of responses."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.support.oci.fake_store import FakeRefusalError
from tests.support.oci.fake_wire import FakeRequest, FakeResponse

FaultKind = Literal["status", "cut", "cut body", "broken body", "html"]


@dataclass(slots=True)
class RequestMatcher:
    """Requests of a method ("" for any) whose path the expression is found in; `after` of them pass first."""

    method: str
    path: str
    after: int = 0
    times: int | None = 1  # None: always

    def take(self, request: FakeRequest) -> bool:
        """Whether this one is chosen; it counts as one either way."""
        if self.times == 0 or self.method not in ("", request.method) or not re.search(self.path, request.path):
            return False
        if self.after:
            self.after -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        return True


@dataclass(frozen=True, slots=True)
class BeforeResponse:
    chosen: RequestMatcher
    call: Callable[[], object]


@dataclass(frozen=True, slots=True)
class FakeFault:
    """`carried_out`: the registry carries out the request before it spoils the response."""

    kind: FaultKind
    chosen: RequestMatcher
    status: int = 503
    code: str = "UNKNOWN"
    text: str = ""  # plain, in place of the protocol's errors
    headers: Mapping[str, str] = field(default_factory=dict)
    carried_out: bool = False

    def spoil(self, carry_out: Callable[[], FakeResponse]) -> FakeResponse:
        """The answer in place of the registry's own."""
        if self.kind in ("cut body", "broken body"):
            return self._spoilt(carry_out())
        if self.carried_out:
            carry_out()
        if self.kind == "cut":
            return FakeResponse(fate="nothing")
        if self.kind == "html":
            return FakeResponse(self.status, b"<html><body>Bad gateway</body></html>", {"Content-Type": "text/html"})
        if self.text:
            return FakeResponse(self.status, self.text.encode(), {"Content-Type": "text/plain", **self.headers})
        refusal = FakeRefusalError(self.status, self.code, self.code.lower().replace("_", " "))
        return FakeResponse(self.status, refusal.body(), self.headers)

    def _spoilt(self, response: FakeResponse) -> FakeResponse:
        if self.kind == "cut body":
            return replace(response, fate="half")
        return replace(response, body=b"{" + b"x" * (len(response.body) - 1))
