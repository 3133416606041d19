"""A registry of the configuration: one frozen model per mapping, which reads and checks it and gives its schema.

`values` and `urls` read single values; `checks` compares several keys and the kind.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from policies.findings import TAG, Explanation, unknown_key
from policies.forms import Duration
from policies.limits import Limits
from policies.mistakes import BadValueError, listed
from policies.units import shown
from worker.config.kinds import KINDS, WAYS_IN
from worker.config.secret import FilePath, Model, Origin, Secret, Text
from worker.config.urls import Address, Endpoint, Hosts, ProxyUrl, RegistryUrl
from worker.config.values import (
    AccountId,
    Digests,
    HelperName,
    Instant,
    KindName,
    Name,
    Names,
    Paths,
    Pause,
    RegistryId,
    Schedule,
    Timezone,
    Yes,
)
from worker.config.values import (
    Words as Command,
)

Mode = Literal["dry-run", "delete"]
EvidenceKind = Literal["file", "http", "kubernetes"]
HOUR = timedelta(hours=1)


class WorkloadIdentity(Model):
    """A pod signs in as a service account: its own token is exchanged for a token of that account."""

    service_account: AccountId = Field(
        description="the service account's id, which `yc iam service-account list` shows"
    )
    # The cluster renews it, so each exchange rereads it.
    token: Secret = Field(description="token: {file: PATH}, the projected token of the pod")


def _only(way: tuple[str, ...]) -> dict[str, Any]:
    """The schema of a sign-in method: its keys, and no key of another method."""
    others = {key for keys in WAYS_IN for key in keys} - set(way)
    return {"required": list(way), "properties": dict.fromkeys(sorted(others), False)}


class Credentials(Model):
    """Exactly one of these sign-in methods; username and password are one method."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [_only(way) for way in WAYS_IN]})

    iam_token: Secret | None = None
    service_account_key: Secret | None = None
    metadata: Yes = Field(default=False, description="the service account of the virtual machine")
    workload_identity: WorkloadIdentity | None = None
    username: Text | None = Field(default=None, description="oci: the user's name, with password")
    password: Secret | None = Field(default=None, description="oci: the user's password or token")
    anonymous: Yes = Field(default=False, description="oci: no credentials")
    helper: HelperName | None = Field(default=None, description="oci: NAME of a program docker-credential-NAME")
    docker_config: FilePath | None = Field(
        default=None,
        description="oci: Docker's configuration, such as /root/.docker/config.json; relative to this file",
    )
    command: Command = Field(
        default=(), description="oci: a program and its arguments; it prints a username and a password as JSON"
    )
    repositories: Paths = Field(
        default=(), description="in a list: globs on the repository paths for which it is used; absent: all others"
    )
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """The working folder of the command."""
        return self._folder

    @property
    def given(self) -> tuple[str, ...]:
        """The sign-in keys that the file contains."""
        return tuple(name for name in Credentials.model_fields if name != "repositories" and getattr(self, name))

    @model_validator(mode="after")
    def exactly_one(self, info: ValidationInfo) -> Self:
        if isinstance(info.context, Origin) and self.command:
            self._folder = info.context.folder
        given = self.given
        if given in WAYS_IN:
            return self
        whole = next((way for way in WAYS_IN if given and set(given) < set(way)), None)
        if whole:
            (missing,) = set(whole) - set(given)
            got = f"expected {' and '.join(whole)}, got only {given[0]}"
            raise BadValueError(got, f"add {missing}")
        got = f"expected one sign-in method, got {listed(given, 'and') or 'none'}"
        raise BadValueError(got, f"{'keep' if given else 'write'} one of {ways_in(WAYS_IN)}")


def ways_in(ways: tuple[tuple[str, ...], ...]) -> str:
    """Sign-in methods as text."""
    return ", ".join(" with ".join(way) for way in ways)


ONE_WAY, SEVERAL_WAYS = Tag(f"{TAG}one"), Tag(f"{TAG}list")
AS_LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
SignIn = Annotated[
    Annotated[Credentials, ONE_WAY] | Annotated[tuple[Credentials, ...], AS_LIST, SEVERAL_WAYS],
    Discriminator(lambda value: (SEVERAL_WAYS if isinstance(value, (list, tuple)) else ONE_WAY).tag),
    WithJsonSchema(
        {
            "anyOf": [
                {"allOf": [{"$ref": "#/$defs/Credentials"}], "properties": {"repositories": False}},
                {"type": "array", "items": {"$ref": "#/$defs/Credentials"}, "minItems": 1},
            ]
        }
    ),
]


class EndpointKeys(Model):
    """Roots of the services, without a path. `check_plain` decides about plain http."""

    container_registry: Endpoint = Field(
        default="https://container-registry.api.cloud.yandex.net", description="of yandex-container-registry"
    )
    cloud_registry: Endpoint = Field(
        default="https://registry.api.cloud.yandex.net", description="of yandex-cloud-registry"
    )
    operation: Endpoint = "https://operation.api.cloud.yandex.net"
    iam: Endpoint = "https://iam.api.cloud.yandex.net"
    docker: Endpoint = Field(default="https://cr.yandex", description="absent: the default of the registry's kind")
    sts: Endpoint = Field(
        default="https://auth.yandex.cloud", description="exchanges the token of a pod, for workload_identity"
    )


class Endpoints(EndpointKeys):
    """The endpoints of the file, and the metadata service, which only the environment can change."""

    metadata: str = "http://169.254.169.254"  # YC_METADATA_ADDR, as in the vendor's own SDK


class Rate(Model):
    """The limits of requests to a registry, for all processes together."""

    requests_per_second: float = Field(default=20.0, gt=0, le=1000, allow_inf_nan=False)
    concurrency: int = Field(default=16, ge=1, le=128)


class AfterRun(Model):
    """The command or URL that receives the run as JSON, after a run that deleted images."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["command"], "maxProperties": 1}, {"required": ["url"]}]}
    )

    command: Command = Field(default=(), description="a program and its arguments; no shell interprets them")
    url: Address | None = Field(default=None, description="the URL that receives the run by POST")
    token: Secret | None = Field(default=None, description="url: sent as Authorization: Bearer")

    @model_validator(mode="after")
    def one_way(self) -> Self:
        """Exactly one of command and url; a token only with url. Raises BadValueError."""
        if bool(self.command) == (self.url is not None):
            got, remedy = ("both", "keep one") if self.command else ("neither", "write one")
            raise BadValueError(f"expected one of command and url, got {got}", remedy)
        if self.command and self.token is not None:
            raise BadValueError("token can be used only with url, not with command", "remove it")
        return self


SOURCE_KEYS: Mapping[str, tuple[str, ...]] = {
    "file": ("path",),
    "http": ("url", "token"),
    "kubernetes": ("kubeconfig", "contexts", "namespaces"),
}
SHARED_KEYS = ("name", "kind", "max_age", "allow_empty", "allow_foreign")


class EvidenceSettings(Model):
    """One source of images in use. `worker.evidence` reads it."""

    A_MAPPING: ClassVar[Explanation] = ("a mapping", "write name and kind, and what the kind needs")

    name: Name = Field(description="a name of its own, such as name: production-cluster")
    kind: EvidenceKind = Field(description=listed(get_args(EvidenceKind), "or"))
    max_age: Pause = Field(
        default_factory=lambda data: HOUR if data.get("kind") == "kubernetes" else 24 * HOUR,
        description="older evidence fails the run",
    )
    allow_empty: bool = Field(default=False, description="accept that nothing, or suddenly less than half, is in use")
    allow_foreign: bool = Field(default=False, description="accept that it names no image of any registry of this file")
    path: FilePath | None = Field(default=None, description="path: FILE, relative to this file", validate_default=True)
    url: Address | None = Field(default=None, description="url: https://…", validate_default=True)
    token: Secret | None = Field(default=None, description="sent as a bearer token")
    kubeconfig: FilePath | None = Field(default=None, description="a file, relative to this one")
    contexts: Names = Field(default=(), description="absent: the current context, or the cluster of this pod")
    namespaces: Names = Field(default=(), description="absent: all")

    @field_validator("path", "url", "token", "kubeconfig", "contexts", "namespaces", mode="before")
    @classmethod
    def is_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        name, kind = str(info.field_name), info.data.get("kind")
        if info.context is None or kind is None:
            return value
        own = SOURCE_KEYS[kind]
        if value is None and name in own:  # an absent key is validated only if it is required
            raise BadValueError(*cls.missing(name))
        if value is not None and name not in own:
            raise BadValueError(*unknown_key(name, [*SHARED_KEYS, *own]))
        return value


class Identity(Model):
    """The identity of the registry, and its credentials."""

    kind: KindName | None = None
    id: RegistryId = Field(
        default="",
        description="the registry's id, which `yc container registry list` or `yc cloud-registry registry list` shows",
    )
    url: RegistryUrl = Field(
        default="", description="oci: the registry's address, such as https://registry.example.com"
    )
    repositories: Paths = Field(default=(), description="oci: globs on repositories' paths; absent: all")
    token_hosts: Hosts = Field(
        default=(),
        description="oci: hosts that may receive the credentials for a token, besides the registry's own host",
    )
    addresses: Hosts = Field(
        default=(), description="oci: other hosts from which its images are pulled, as evidence names them"
    )
    push_time: Literal["first_seen", "image"] = Field(
        default="first_seen",
        description="oci: what counts as the push time, which such a registry does not report",
    )
    transitional: Yes = Field(
        default=False, description="yandex-cloud-registry: delete in a registry of the type TRANSITIONAL too"
    )
    credentials: SignIn | None = None
    endpoints: EndpointKeys = EndpointKeys()


class Network(Model):
    """The network settings of a registry. `worker.registries.http.network` uses them."""

    ca_file: FilePath | None = Field(
        default=None, description="certificates to trust besides the system's, in PEM format; relative to this file"
    )
    proxy: ProxyUrl | None = Field(
        default=None, description="the proxy for all requests of this registry; absent: HTTPS_PROXY, NO_PROXY"
    )
    insecure_http: Yes = Field(
        default=False, description="plain http to private addresses: anyone who can listen there reads passwords"
    )


class DefaultKeys(Network, Identity):
    """Any key of a registry. A registry's own key replaces the whole value here, even a mapping."""

    schedule: Schedule | None = Field(default=None, description="five cron fields; absent: only by hand")
    timezone: Timezone = "UTC"
    catch_up: Duration = Field(default=6 * HOUR, description="a run missed by more is recorded as missed")
    mode: Mode = "dry-run"
    settle: Duration = Field(
        default=timedelta(0),
        description="delete an image only after complete scans have seen it, with the same tags, for this long",
    )
    trust_times_after: Instant | None = Field(
        default=None, description="images pushed before this instant have an unknown age"
    )
    ignore_unreadable: Digests = Field(
        default=(), description="unreadable images that no longer keep their whole repository"
    )
    in_use: Annotated[tuple[EvidenceSettings, ...], AS_LIST] = Field(default=(), description="sources of images in use")
    policy: Any = Field(default=None, json_schema_extra={"type": "string", "minLength": 1})
    keep_per_repository: int = Field(default=0, ge=0, description="always keep the newest N images of each repository")
    limits: Limits = Limits()
    rate: Rate = Rate()
    plan_max_age: Pause = Field(default=24 * HOUR, description="from the scan's start")
    deadline: Pause | None = Field(default=None, description="from the first deletion")
    after_run: AfterRun | None = Field(default=None, description="what follows a run that deleted images")

    @field_validator("policy", mode="before")
    @classmethod
    def is_a_name(cls, value: Any, info: ValidationInfo) -> Any:
        if info.context is not None and not (isinstance(value, str) and value):
            raise BadValueError(f"expected text, got {shown(value)}", "put it in quotes")
        return value


class RegistryKeys(DefaultKeys):
    """One registry; `defaults` supplies the keys that it does not have."""

    A_MAPPING: ClassVar[Explanation] = ("a mapping", "write kind, id or url, credentials and policy")

    kind: KindName = Field(description=f"kind: {listed(KINDS, 'or')}")
    credentials: SignIn = Field(
        description="how to sign in, for example {metadata: true}, or {anonymous: true} with oci"
    )
    policy: Any = Field(
        description="the name of one of the policies", json_schema_extra={"type": "string", "minLength": 1}
    )
