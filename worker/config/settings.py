"""The configuration as the rest of the program sees it: typed, checked, read once. `config_file` reads it.

What the file contains is a contract (docs/configuration.md). Environment variables only say where things are, or make
a run more careful than the file says.
"""

import functools
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import urlsplit

from worker.config import kinds
from worker.config.connection_urls import ENCODE, redis_flaw
from worker.config.secret import Secret, SecretError

if TYPE_CHECKING:  # these bring numpy and RE2 along, which `registry-gc --help` need not wait for
    from policies.document import Mistake, Policy
    from policies.limits import Limits

__all__ = [
    "AfterRun",
    "ConfigError",
    "Credentials",
    "Endpoints",
    "EvidenceSettings",
    "Mode",
    "Network",
    "Notification",
    "OUTCOMES",
    "Rate",
    "RegistrySettings",
    "Retention",
    "Secret",
    "SecretError",
    "Settings",
    "Timing",
    "Web",
    "WorkloadIdentity",
    "load",
]

Mode = Literal["dry-run", "delete"]

EvidenceKind = Literal["file", "http", "kubernetes"]
Outcome = Literal["succeeded", "partial", "blocked", "failed", "aborted", "missed"]

YANDEX_HOSTS = frozenset({"cr.yandex", "registry.yandexcloud.net"})  # by which the vendor's registries are also known
HUB_HOSTS = frozenset(
    {"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)  # one registry
HOUR = timedelta(hours=1)
OUTCOMES: frozenset[str] = frozenset(get_args(Outcome))
DEFAULT_FILE = Path("registry-gc.yaml")


@dataclass(eq=False)
class ConfigError(Exception):
    """The configuration cannot be used. Every mistake that could be found is in it, not only the first."""

    exit_code = 2

    mistakes: "tuple[Mistake, ...]"
    path: Path

    @property
    def lines(self) -> tuple[str, ...]:
        """One line a mistake: "file: path: what, got …; remedy"."""
        return tuple(f"{self.path}: {str(mistake).removeprefix(': ')}" for mistake in self.mistakes)

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class Web:
    """Where metrics and health are served."""

    host: str = "127.0.0.1"
    port: int = 9811
    token: Secret | None = None  # None: nothing can be started or changed there


@dataclass(frozen=True, slots=True)
class Timing:
    """How quickly what was lost is found again; shorter only in tests."""

    reconcile: timedelta = timedelta(seconds=60)
    lease: timedelta = timedelta(seconds=120)  # how long a worker owns a batch without a sign of life


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the store remembers."""

    plans: int = 30  # whole plans of the last N runs of a registry
    audit: timedelta = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """A pod signs in as a service account: its own token is exchanged for one of that account."""

    service_account: str  # its id
    token: Secret  # the pod's projected token, which the cluster renews: read anew before each exchange


@dataclass(frozen=True, slots=True)
class Credentials:
    """One way to sign in; a user's name and its password are one."""

    repositories: tuple[str, ...] = ()  # oci: globs on the paths of those it is for; empty: all

    iam_token: Secret | None = None
    service_account_key: Secret | None = None
    metadata: bool = False  # the token of the virtual machine's service account
    username: str | None = None  # oci
    password: Secret | None = None  # oci
    anonymous: bool = False  # oci
    helper: str | None = None  # oci: the NAME of a program docker-credential-NAME
    docker_config: Path | None = None  # oci: absolute; docker's own file
    command: tuple[str, ...] = ()  # oci: prints a name and a password
    folder: Path | None = None  # where the command runs
    workload_identity: WorkloadIdentity | None = None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Roots of the services, without a path. Plain http only on loopback (`metadata`: also the link-local address)."""

    container_registry: str = "https://container-registry.api.cloud.yandex.net"
    cloud_registry: str = "https://registry.api.cloud.yandex.net"
    operation: str = "https://operation.api.cloud.yandex.net"
    iam: str = "https://iam.api.cloud.yandex.net"
    docker: str = "https://cr.yandex"
    sts: str = "https://auth.yandex.cloud"  # exchanges the token of a pod
    metadata: str = "http://169.254.169.254"  # no key of the file: YC_METADATA_ADDR, as in the vendor's own SDK


@dataclass(frozen=True, slots=True)
class Network:
    """How a registry is reached. `worker.registries.http.network` reads it."""

    ca_file: Path | None = None  # absolute; certificates that are trusted besides the system's
    proxy: str | Secret | None = None  # a URL; None: as the environment says
    insecure_http: bool = False  # plain http may go to private addresses


def key_of(kind: str, endpoints: Endpoints, registry_id: str, url: str = "") -> str:
    """The identity of a registry: kind, endpoint (oci: its url) and id, however the endpoint is written."""
    endpoint = kinds.of(kind).endpoint
    return f"{kind}|{one_endpoint(getattr(endpoints, endpoint) if endpoint else url)}|{registry_id}"


def kind_in(key: str) -> str:
    """The kind of the registry that a key identifies."""
    return key.partition("|")[0]


@functools.cache
def one_endpoint(root: str) -> str:
    """A service's root in the one way that stands for all ways to write it."""
    parts = urlsplit(root)
    host = _one_host((parts.hostname or "").rstrip("."))
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def api_of(url: str) -> str:
    """Where the API of an OCI registry begins: `/v2` is appended unless the url's path begins with it."""
    return url if f"{urlsplit(url).path}/".startswith("/v2/") else f"{url}/v2"


def namespace_of(url: str) -> str:
    """What every repository's full name begins with where the url leads below `/v2/`: "project" for …/v2/project."""
    path = urlsplit(url).path
    return path.removeprefix("/v2/") if path.startswith("/v2/") else ""


def _one_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _in_ascii(host)
    address = getattr(address, "ipv4_mapped", None) or address
    if str(address) in ("127.0.0.1", "::1"):
        return "localhost"
    return f"[{address}]" if address.version == 6 else str(address)


def _in_ascii(host: str) -> str:
    try:
        return host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return host  # a name that no server can have


@dataclass(frozen=True, slots=True)
class Rate:
    """How hard a registry may be asked, by all processes together."""

    requests_per_second: float = 20.0
    concurrency: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """One source that says what is in use. `worker.evidence` reads it."""

    name: str  # unique within its registry
    kind: EvidenceKind
    max_age: timedelta  # older evidence is no evidence
    allow_empty: bool = False  # nothing, or suddenly half as much, in use is no sign of a broken source
    allow_foreign: bool = False  # a source that names no image of any registry of the file is no mistake
    path: Path | None = None  # file: absolute
    url: str | None = None  # http
    token: Secret | None = None  # http
    kubeconfig: Path | None = None  # kubernetes: absolute
    contexts: tuple[str, ...] = ()  # kubernetes; empty: the current one, or the cluster that this runs in
    namespaces: tuple[str, ...] = ()  # kubernetes; empty: all


@dataclass(frozen=True, slots=True)
class AfterRun:
    """What follows a run that deleted something: a command, or a URL; either gets the run as JSON."""

    command: tuple[str, ...] = ()
    url: str | None = None
    token: Secret | None = None  # url


@dataclass(frozen=True, slots=True)
class Notification:
    """Where the outcome of a run is told, and which outcomes of which registries."""

    url: str | Secret = field(repr=False)  # an address of apprise; most of them hold a token
    on: frozenset[str] = frozenset({"blocked", "failed", "partial"})  # of OUTCOMES
    registries: tuple[str, ...] = ()  # configured names; empty: all

    def address(self) -> str:
        """The address itself, which is a secret. Raises SecretError."""
        return self.url.read() if isinstance(self.url, Secret) else self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """One registry and what is to be done with it."""

    name: str
    kind: str  # of worker.config.kinds
    id: str = ""  # empty: oci, which is known by its url
    url: str = ""  # oci: the root, perhaps with a path, which may lead below /v2/
    repositories: tuple[str, ...] = ()  # oci: globs on their paths; empty: all that the registry lists
    token_hosts: tuple[str, ...] = ()  # oci: where, besides the registry's own host, credentials are sent for a token
    addresses: tuple[str, ...] = ()  # oci: other hosts by which its images are pulled
    push_time: Literal["first_seen", "image"] = "first_seen"  # oci
    transitional: bool = False  # yandex-cloud-registry: images go even from a registry of the type TRANSITIONAL
    credentials: Credentials
    credentials_by_repository: tuple[Credentials, ...] = ()  # oci: of these the first that matches, not `credentials`
    endpoints: Endpoints = Endpoints()
    network: Network = Network()
    schedule: str | None = None  # five cron fields; None: only by hand
    timezone: str = "UTC"
    catch_up: timedelta = 6 * HOUR
    mode: Mode = "dry-run"
    settle: timedelta = timedelta(0)  # only what complete scans have seen for that long, with the same tags, may go
    trust_times_after: datetime | None = None  # aware, UTC; what was pushed before has no known age
    ignore_unreadable: tuple[str, ...] = ()  # digests of images that stay, without all that they may list
    in_use: tuple[EvidenceSettings, ...] = ()
    policy: "Policy"
    keep_per_repository: int = 0
    limits: "Limits"
    rate: Rate = Rate()
    plan_max_age: timedelta = 24 * HOUR  # from the scan's start
    deadline: timedelta | None = None  # from the first deletion
    after_run: AfterRun | None = None

    @property
    def tells_push_time(self) -> bool:
        """False: an image counts as pushed when this store first saw it."""
        return kinds.of(self.kind).tells_push_time or self.push_time == "image"

    @property
    def all_credentials(self) -> tuple[Credentials, ...]:
        return self.credentials_by_repository or (self.credentials,)

    @property
    def lists_untagged(self) -> bool:
        return kinds.of(self.kind).lists_untagged

    def asks_for(self, repository: str) -> bool:
        """Whether a repository is one of those that the file names; where it names none, each is."""
        from policies.patterns import Patterns  # noqa: PLC0415 - loads RE2, which `registry-gc --help` need not wait for

        return not self.repositories or Patterns(self.repositories, paths=True).match(repository) is not None

    @property
    def key(self) -> str:
        """What makes it this registry, whatever its name: two names for one registry are a mistake."""
        return key_of(self.kind, self.endpoints, self.id, self.url)

    @property
    def memory_key(self) -> str:
        """Whose memory of digests and tags is this registry's: it follows the entry from kind to kind."""
        return f"{self.name}|{self.id or one_endpoint(self.url)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole configuration file, with every default filled in."""

    path: Path  # absolute
    sha256: str  # of the file's bytes
    redis: str | Secret | None = None
    store: str = field(repr=False)  # an SQLAlchemy URL, which may hold a password
    web: Web = Web()
    timing: Timing = Timing()
    retention: Retention = Retention()
    notify: tuple[Notification, ...] = ()
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    policies: "Mapping[str, Policy]" = field(default_factory=dict)

    def redis_url(self) -> str | None:
        """The URL of Redis, None where none is configured. Raises SecretError."""
        if not isinstance(self.redis, Secret):
            return self.redis
        url = self.redis.read()
        if flaw := redis_flaw(url):
            raise SecretError(self.redis.where, f"cannot be used: {flaw}; {ENCODE}")
        return url


def find(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The file to read: as named, else as REGISTRY_GC_CONFIG says, else registry-gc.yaml in the working folder."""
    if path is not None:
        return path
    return Path(environ.get("REGISTRY_GC_CONFIG") or DEFAULT_FILE)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    look_for_secrets: bool = True,
    store_is_needed: bool = False,
) -> Settings:
    """The configuration of `path`, or of where the environment points. Raises ConfigError with every mistake.

    A secret that cannot be read is a mistake, unless it is not looked for: what works offline needs none, and who only
    asks the store (`store_is_needed`) just the one that may be the store's URL.
    """
    from worker.config.loading import read_settings  # noqa: PLC0415 - pydantic and RE2 are loaded only where they are used

    return read_settings(
        find(path, environ), environ, look_for_secrets=look_for_secrets, store_is_needed=store_is_needed
    )
