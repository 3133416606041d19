"""The whole state of one simulator: the model, the switches, the credentials, and the requests."""

import random
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.simulator.cloud_artifacts import ArtifactStore
from tests.support.simulator.faults import InjectedFault
from tests.support.simulator.operations import Operations
from tests.support.simulator.registry import Cloud, Registry
from tests.support.simulator.switches import Switches


@dataclass(slots=True)
class LoggedRequest:
    """One request of the log."""

    at: datetime
    method: str
    path: str
    query: str
    key: str = ""  # Idempotency-Key
    image: str = ""  # the id that a path under /images names, or that an artifact named by the path is of
    artifact: str = ""  # the id that a path under /artifacts names
    status: int = 0  # 0: cut, reset or never answered
    faults: list[str] = field(default_factory=list)  # kinds that struck it


@dataclass(slots=True)
class PageToken:
    """The position of a page token, and the query that it is valid for."""

    query: tuple[tuple[str, str], ...]
    after: tuple[Any, ...] | int | None  # the sort key of the last row, or how many rows; None: from the start
    issued_at: datetime


def new_token() -> str:
    return "t1." + secrets.token_urlsafe(90)


class State:
    def __init__(self, switches: Switches, seed: int = 0, token: str = "") -> None:
        self.switches = switches
        self.random = random.Random(seed)
        self.offset = timedelta(0)  # set by the control plane's clock
        self.cloud = Cloud(datetime(2024, 5, 20, 7, 41, 12, 4_000, tzinfo=UTC))
        self.operations = Operations(seed)
        self.artifact_store = ArtifactStore(self.cloud, lambda: self.switches)
        self.faults: list[InjectedFault] = []
        self.log: list[LoggedRequest] = []
        self.refused: list[dict[str, object]] = []
        self.deletes: dict[str, int] = {}  # DELETE requests by the id of an image or artifact
        self.bookmarks: dict[str, PageToken] = {}
        self.tokens: dict[str, datetime] = {}  # IAM tokens and when they expire
        self.docker_tokens: dict[str, tuple[datetime, set[str]]] = {}  # and the repositories they may read
        self.keys: dict[str, tuple[str, str]] = {}  # key id -> (service account id, public key)
        self.subjects: dict[str, str] = {}  # pods' tokens -> the service account that each is linked to
        self.sizes: list[tuple[datetime, int]] = []  # (when, bytes) for the lagging size metric
        self.bucket, self.bucket_at = 1.0, time.monotonic()  # the token bucket of `requests_per_second`
        self.token = token or new_token()  # the tests' own: outlives every clock that they move
        self.tokens[self.token] = datetime.max.replace(tzinfo=UTC)
        self.cloud.immutable = switches.immutable
        self.artifact_store.migrated_at = self.now()

    def now(self) -> datetime:
        """The registry's own clock."""
        return datetime.now(UTC) + self.offset + timedelta(seconds=self.switches.clock_skew)

    def issue_token(self) -> str:
        token = new_token()
        self.tokens[token] = self.now() + timedelta(seconds=self.switches.token_seconds)
        return token

    def expire_tokens(self) -> None:
        """Every token handed out so far is worth nothing from now on."""
        self.tokens = dict.fromkeys(self.tokens, self.now())
        self.docker_tokens.clear()

    def size_metric(self, registry: Registry) -> int:
        """The bytes of a registry as the monitoring service shows them: late."""
        now = self.now()
        self.sizes.append((now, registry.bytes))
        limit = now - timedelta(seconds=self.switches.size_metric_lag)
        return next((size for at, size in reversed(self.sizes) if at <= limit), self.sizes[0][1])

    def settle(self) -> None:
        self.operations.settle(self.now(), self.switches)

    def turn(self, switches: Switches) -> None:
        """Set other switches from now on, and drop everything rendered under the old ones."""
        self.settle()
        if switches.times_after_migration != self.switches.times_after_migration:
            self.artifact_store.migrated_at = self.now()
        self.switches = switches
        self.cloud.immutable = switches.immutable
        self.artifact_store.forget()
        for image in self.cloud.by_id.values():
            image.rendered = None
