"""The filters and orders of listings of Cloud Registry. Anything else is refused."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.support.simulator.http import SimulatedRequest
from tests.support.simulator.pages import Key
from tests.support.simulator.status import RefusedRequestError

KINDS = ("MAVEN", "NPM", "DOCKER", "NUGET", "DEBIAN", "PYPI", "BINARY", "GO")
TYPES = ("LOCAL", "REMOTE", "VIRTUAL", "TRANSITIONAL")
CHOICES: dict[str, tuple[str, ...]] = {
    "registryKind": KINDS,
    "registryType": TYPES,
    "kind": ("FOLDER", "PACKAGE", "ARTIFACT"),
    "status": ("CREATING", "ACTIVE", "DELETING", "DELETED"),
}
LIMITS = {"pageToken": 100, "nameFilter": 1_000, "pathFilter": 1_000, "orderBy": 256, "path": 1_000, "labels": 200}
EQUATION = re.compile(r"""\s*(?P<field>\w+)\s*(?P<sign>=|!=)\s*"(?P<value>[^"]*)"\s*""")
ORDER = re.compile(r"(?P<field>name|created_at|modified_at)(?: (?P<way>asc|desc))?")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
Test = Callable[[str], bool]


class Query:
    """A request's parameters: those in `repeated` any number of times, others once; raises RefusedError."""

    def __init__(
        self, request: SimulatedRequest, known: set[str], repeated: dict[str, tuple[str, ...]] | None = None
    ) -> None:
        self.path = request.path
        self._values: dict[str, list[str]] = {}
        several = repeated or {}
        for name, value in request.query:
            if name not in known and name not in several:
                raise RefusedRequestError(f"{self.path}: no parameter {name!r}")
            if name in self._values and name not in several:
                raise RefusedRequestError(f"{self.path}: parameter {name!r} twice")
            if len(value) > LIMITS.get(name, 50):
                raise RefusedRequestError(f"{self.path}: {name} is longer than the service takes")
            if several.get(name) and value not in several[name]:
                raise RefusedRequestError(f"{self.path}: {name}: {value!r} is none of {', '.join(several[name])}")
            self._values.setdefault(name, []).append(value)

    def single(self, name: str) -> str:
        return self._values.get(name, [""])[0]

    def several(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def paging(self) -> dict[str, str]:
        """For `pages.page`: the whole query, with the call's own path, so that a token is good for nothing else."""
        return {"": self.path, **{name: "\n".join(values) for name, values in self._values.items()}}

    def equation(self, name: str, field: str) -> Test:
        """`field = "value"` or `field != "value"`; whatever passes where the parameter is absent."""
        text = self.single(name)
        if not text:
            return lambda _: True
        match = EQUATION.fullmatch(text)
        if match is None or match["field"] != field:
            raise RefusedRequestError(f"{self.path}: {name}: {text!r} is not {field} = or != a value in quotes")
        wanted, equal = match["value"].strip("/"), match["sign"] == "="
        return lambda value: (value.strip("/") == wanted) is equal

    def moment(self, name: str) -> datetime | None:
        text = self.single(name)
        if not text:
            return None
        wrong = RefusedRequestError(f"{self.path}: {name}: {text!r} is no moment like 2026-11-24T03:00:00.127Z")
        if not MOMENT.fullmatch(text):
            raise wrong
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except ValueError as error:  # the 31st of February
            raise wrong from error

    def window(self) -> Callable[[datetime], bool]:
        """`createdAfter`: at this time or later; `createdBefore`: before this time."""
        after, before = self.moment("createdAfter"), self.moment("createdBefore")
        if after and before and after > before:
            raise RefusedRequestError(f"{self.path}: createdAfter {after} is later than createdBefore {before}")
        return lambda at: (after is None or at >= after) and (before is None or at < before)

    def labels(self) -> dict[str, str]:
        pairs = [text.partition("=") for text in self.several("labels")]
        if any(not key or not sign for key, sign, _ in pairs):
            raise RefusedRequestError(f"{self.path}: labels: not key=value: {self.several('labels')}")
        return {key: value for key, _, value in pairs}

    def order(self) -> Callable[[Any], Key] | None:
        """The sort key of rows, with their ids between equals; None: the query has no order."""
        text = self.single("orderBy")
        if not text:
            return None
        match = ORDER.fullmatch(text)
        if match is None:
            raise RefusedRequestError(
                f"{self.path}: orderBy: {text!r} is not name, created_at or modified_at with asc or desc"
            )
        field, backwards = match["field"], match["way"] == "desc"
        return lambda row: (sortable(getattr(row, field), backwards=backwards), row.id)


def sortable(value: str | datetime, *, backwards: bool) -> Any:
    """A key that sorts as the value does, or the other way round."""
    if isinstance(value, datetime):
        return -value.timestamp() if backwards else value.timestamp()
    return (*(-ord(letter) for letter in value), 1) if backwards else value
