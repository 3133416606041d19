"""The whole configuration: one model for each mapping of the file, and the settings that the program uses."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, InstanceOf

from policies.forms import Duration
from policies.mistakes import BadValueError, closest
from policies.patterns import Patterns
from policies.rules import Policy
from policies.units import shown
from worker.config import kinds
from worker.config.addresses import one_endpoint
from worker.config.connection_urls import ENCODE, redis_flaw
from worker.config.registry import AS_LIST, Credentials, EndpointKeys, Endpoints, RegistryKeys
from worker.config.secret import Model, Secret, SecretError
from worker.config.urls import Listen, NotifyUrl, RedisUrl, StoreUrl
from worker.config.values import Names, Pause, Reader, at_least

Outcome = Literal["succeeded", "partial", "blocked", "failed", "aborted", "missed"]
KNOWN: tuple[str, ...] = get_args(Outcome)
OUTCOMES: frozenset[str] = frozenset(KNOWN)


class RegistrySettings(RegistryKeys):
    """One registry: its keys, its name, its policy and its endpoints."""

    name: str
    kind: str  # of worker.config.kinds, or one that a program added itself
    policy: InstanceOf[Policy]
    endpoints: Endpoints = Endpoints()

    @property
    def reports_push_time(self) -> bool:
        """False: an image counts as pushed when this store first saw it."""
        return kinds.kind_of(self.kind).reports_push_time or self.push_time == "image"

    @property
    def lists_untagged(self) -> bool:
        return kinds.kind_of(self.kind).lists_untagged

    @property
    def all_credentials(self) -> tuple[Credentials, ...]:
        """All credentials; oci: the first that matches a repository is used."""
        return self.credentials if isinstance(self.credentials, tuple) else (self.credentials,)

    def asks_for(self, repository: str) -> bool:
        """Whether `repositories` selects this repository; without the key, every repository."""
        return not self.repositories or Patterns(self.repositories, paths=True).match(repository) is not None

    @property
    def key(self) -> str:
        """The identity of the registry, independent of its name: two names for one registry are a mistake."""
        return key_of(self.kind, self.endpoints, self.id, self.url)

    @property
    def history_key(self) -> str:
        """The key of the scan history; it stays when the kind of the entry changes."""
        return f"{self.name}|{self.id or one_endpoint(self.url)}"


def key_of(kind: str, endpoints: EndpointKeys, registry_id: str, url: str = "") -> str:
    """The identity of a registry: kind, canonical endpoint (oci: url) and id. Rows of the store contain it, so another
    form would be another registry. `kind_in` reads its kind.
    """
    endpoint = kinds.kind_of(kind).endpoint
    return f"{kind}|{one_endpoint(getattr(endpoints, endpoint) if endpoint else url)}|{registry_id}"


def kind_in(key: str) -> str:
    """The kind of the registry that a key identifies."""
    return key.partition("|")[0]


class Web(Model):
    """The address of metrics, health checks and the console."""

    listen: Listen = ("127.0.0.1", 9811)  # host and port
    token: Secret | None = Field(default=None, description="without a token, the console is read-only")


class Timing(Model):
    """How quickly lost work is recovered; shorter only in tests."""

    reconcile: Pause = timedelta(seconds=60)
    lease: Pause = timedelta(seconds=120)  # how long a worker owns a batch without renewing the lease


class Retention(Model):
    """How long the store keeps plans and deletions."""

    plans: int = Field(default=30, ge=1, description="whole plans of the last N runs of a registry")
    audit: Annotated[Duration, at_least(timedelta(days=1), "1d")] = timedelta(days=400)


def read_outcomes(value: object) -> frozenset[str]:
    """A list of outcomes, or `always`."""
    remedy = f"write always, or a list of {', '.join(KNOWN)}"
    if value == "always":
        return OUTCOMES
    if not isinstance(value, list) or not value:
        raise BadValueError(f"expected always or a list of outcomes, got {shown(value)}", remedy)
    for outcome in value:
        if outcome not in KNOWN:
            suggestion = closest(outcome, KNOWN) if isinstance(outcome, str) else ""
            raise BadValueError(f"expected an outcome of a run, got {shown(outcome)}", suggestion or remedy)
    return frozenset(value)


A_LIST_OF_OUTCOMES = {"type": "array", "items": {"enum": list(KNOWN)}, "minItems": 1}
Outcomes = Annotated[
    frozenset[str], Reader(read_outcomes, {"anyOf": [{"type": "string", "const": "always"}, A_LIST_OF_OUTCOMES]})
]


class Notification(Model):
    """A recipient of notifications, with the outcomes and registries that it receives."""

    url: NotifyUrl = Field(
        repr=False, description="an address of apprise, or {file: PATH} or {env: NAME}"
    )  # most contain a token
    on: Outcomes = Field(default=frozenset({"blocked", "failed", "partial"}), description="always: every outcome")
    registries: Names = Field(default=(), description="absent: all")

    def address(self) -> str:
        """The address, which is a secret. Raises SecretError."""
        return self.url.read() if isinstance(self.url, Secret) else self.url


class SharedKeys(Model):
    """The keys that the program uses as the file has them."""

    redis: RedisUrl | None = None
    store: StoreUrl | None = Field(default=None, repr=False)
    web: Web = Web()
    timing: Timing = Timing()
    retention: Retention = Retention()
    notify: Annotated[tuple[Notification, ...], AS_LIST] = Field(
        default=(), description="recipients of notifications about runs"
    )


class Document(SharedKeys):
    """The whole configuration file."""

    # Values of type `Any` are read one by one, so that a mistake in one hides no mistake in another.
    defaults: dict[str, Any] = Field(default_factory=dict)
    registries: dict[str, Any] = Field(default_factory=dict)
    policies: dict[str, Any] = Field(default_factory=dict)


class Settings(SharedKeys):
    """A whole configuration file, with every default filled in."""

    path: Path  # absolute
    sha256: str  # of the file's bytes
    store: str = Field(repr=False)  # an SQLAlchemy URL, which may hold a password
    registries: Mapping[str, RegistrySettings] = Field(default_factory=dict)
    policies: Mapping[str, InstanceOf[Policy]] = Field(default_factory=dict)

    def redis_url(self) -> str | None:
        """The URL of Redis, None where none is configured. Raises SecretError."""
        if not isinstance(self.redis, Secret):
            return self.redis
        url = self.redis.read()
        if flaw := redis_flaw(url):
            raise SecretError(self.redis.where, f"cannot be used: {flaw}; {ENCODE}")
        return url
