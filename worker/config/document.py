"""The configuration file's keys: one model for each mapping, which reads it, lists what is known and makes the schema.

Rules of a policy are not here: `policies.document` knows them.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from policies.document import NO_VALUE, no_value_remedy
from worker.config import fields
from worker.config.fields import (
    Address,
    Duration,
    Endpoint,
    HelperName,
    ImageDigests,
    Instant,
    KindName,
    Listen,
    Paths,
    RegistryId,
    Schedule,
    ServiceAccountId,
    Share,
    Size,
    Timezone,
    TokenHosts,
    Url,
    Words,
    Yes,
)
from worker.config.kinds import KINDS

SECOND = timedelta(seconds=1)
Pause = Annotated[Duration, AfterValidator(fields.at_least(SECOND, "1s"))]
# Every way to sign in: keys of `credentials` that belong together. Which kind has which, `kinds` says.
WAYS_IN = tuple(dict.fromkeys(way for kind in KINDS.values() for way in kind.ways_in))


def _not_null(value: object) -> object:
    if value is None:
        raise fields.mistake(NO_VALUE, no_value_remedy("key"))
    return value


# For keys that may be left out, but not be left empty: an empty limit is more likely lost than lifted.
Given = BeforeValidator(_not_null)
T = TypeVar("T")
Left = Annotated[T | None, Given]
Text = Annotated[str, Field(min_length=1)]


class Model(BaseModel):
    """A mapping of the file: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SecretModel(Model):
    """Where a secret is read from: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file: Left[Text] = Field(default=None, description="a file, relative to this one")
    env: Left[Text] = Field(default=None, description="an environment variable's name")

    @model_validator(mode="before")
    @classmethod
    def a_place(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            # The value is not shown: whoever writes it here has most likely written the secret itself.
            raise fields.mistake("expected {file: PATH} or {env: NAME}", "secrets do not stand in this file")
        if not value or {"file", "env"} <= value.keys():
            raise fields.mistake(f"expected one of file and env, got {'both' if value else 'neither'}", "keep one")
        return value


def url_schema(*schemes: str) -> WithJsonSchema:
    """A URL as text, or a secret that holds it."""
    secret = SecretModel.model_json_schema()
    return WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^({'|'.join(schemes)})"}, secret]})


class WebModel(Model):
    listen: Listen = ("127.0.0.1", 9811)
    token: Left[SecretModel] = Field(default=None, description="without one, nothing can be started or changed there")


class TimingModel(Model):
    reconcile: Pause = timedelta(seconds=60)
    lease: Pause = timedelta(seconds=120)


class RetentionModel(Model):
    plans: int = Field(default=30, ge=1, description="whole plans of the last N runs of a registry")
    audit: Annotated[Duration, AfterValidator(fields.at_least(timedelta(days=1), "1d"))] = timedelta(days=400)


class WorkloadIdentityModel(Model):
    """The service account that a pod signs in as, by its own projected token."""

    service_account: ServiceAccountId = Field(
        description="the service account's id, which `yc iam service-account list` shows"
    )
    token: SecretModel = Field(description="token: {file: PATH}, the projected token of the pod")


class CredentialsModel(Model):
    """How to sign in: exactly one of these ways."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": list(way), "maxProperties": len(way)} for way in WAYS_IN]}
    )

    iam_token: Left[SecretModel] = None
    service_account_key: Left[SecretModel] = None
    metadata: Left[Yes] = Field(default=None, description="the service account of the virtual machine")
    workload_identity: Left[WorkloadIdentityModel] = None
    username: Left[Text] = Field(default=None, description="oci: the user's name; password beside it")
    password: Left[SecretModel] = Field(default=None, description="oci: the user's password or token")
    anonymous: Left[Yes] = Field(default=None, description="oci: without signing in")
    helper: Left[HelperName] = Field(default=None, description="oci: NAME of a program docker-credential-NAME")
    docker_config: Left[Text] = Field(
        default=None, description="oci: docker's own file, such as /root/.docker/config.json; relative to this one"
    )
    command: Left[Words] = Field(
        default=None, description="oci: a program and its arguments, which prints a user's name and password as JSON"
    )

    @property
    def given(self) -> tuple[str, ...]:
        """The keys that are written, of those that are ways to sign in."""
        return tuple(name for name in CredentialsModel.model_fields if getattr(self, name))

    @model_validator(mode="after")
    def exactly_one(self) -> "CredentialsModel":
        given = self.given
        if given in WAYS_IN:
            return self
        whole = next((way for way in WAYS_IN if given and set(given) < set(way)), None)
        if whole:
            (missing,) = set(whole) - set(given)
            raise fields.mistake(f"expected {' and '.join(whole)}, got {given[0]} alone", f"write {missing} beside it")
        what = f"expected one way to sign in, got {fields.listed(given, 'and') or 'none'}"
        raise fields.mistake(what, f"keep one of {ways_in(WAYS_IN)}")


class RepositoryCredentialsModel(CredentialsModel):
    """One of several ways to sign in to a registry: the first whose globs match a repository counts."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": list(way), "maxProperties": len(way) + 1} for way in WAYS_IN]}
    )

    repositories: Left[Paths] = Field(
        default=None, description="globs on the paths of those repositories that it is for; absent: all others"
    )


CREDENTIALS_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"$ref": "#/$defs/CredentialsModel"},
            {"type": "array", "items": {"$ref": "#/$defs/RepositoryCredentialsModel"}, "minItems": 1},
        ]
    }
)


def ways_in(ways: tuple[tuple[str, ...], ...]) -> str:
    """Ways to sign in, in a sentence."""
    return ", ".join(" with ".join(way) for way in ways)


class EndpointsModel(Model):
    container_registry: Left[Endpoint] = Field(default=None, description="of yandex-container-registry")
    cloud_registry: Left[Endpoint] = Field(default=None, description="of yandex-cloud-registry")
    operation: Left[Endpoint] = None
    iam: Left[Endpoint] = None
    docker: Left[Endpoint] = None
    sts: Left[Endpoint] = Field(default=None, description="exchanges the token of a pod, for workload_identity")


class AfterRunModel(Model):
    """What follows a run that deleted something: a command, or a URL."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["command"], "maxProperties": 1}, {"required": ["url"]}]}
    )

    command: Left[Words] = Field(default=None, description="a program and its arguments; no shell reads them")
    url: Left[Address] = Field(default=None, description="where the run is sent by POST")
    token: Left[SecretModel] = Field(default=None, description="url: sent as Authorization: Bearer")

    @model_validator(mode="after")
    def one_way(self) -> "AfterRunModel":
        if (self.command is None) == (self.url is None):
            got = "neither" if self.url is None else "both"
            raise fields.mistake(f"expected one of command and url, got {got}", "keep one")
        if self.command is not None and self.token is not None:
            raise fields.mistake("token goes with url, and here is a command", "leave it out")
        return self


class LimitsModel(Model):
    """A plan over one of these is not carried out until it is approved."""

    max_images: Left[int] = Field(default=None, ge=0)
    max_share: Left[Share] = None
    max_bytes: Left[Size] = Field(default=None, description="reclaimable bytes")


class RateModel(Model):
    requests_per_second: float = Field(default=20.0, gt=0, le=1000, allow_inf_nan=False)
    concurrency: int = Field(default=16, ge=1, le=128)


class DefaultsModel(Model):
    """Any key of a registry. A registry's own key takes the place of the whole value here, mappings included."""

    kind: Left[KindName] = None
    id: Left[RegistryId] = Field(
        default=None,
        description="the registry's id, which `yc container registry list` or `yc cloud-registry registry list` shows",
    )
    url: Left[Url] = Field(
        default=None, description="oci: the registry's address, such as https://registry.example.com"
    )
    repositories: Left[Paths] = Field(default=None, description="oci: globs on repositories' paths; absent: all")
    token_hosts: Left[TokenHosts] = Field(
        default=None, description="oci: hosts where credentials may be sent for a token, besides the registry's own"
    )
    addresses: Left[TokenHosts] = Field(
        default=None, description="oci: other hosts by which its images are pulled, as evidence of use names them"
    )
    push_time: Left[Literal["first_seen", "image"]] = Field(
        default=None, description="oci: what counts as the time of the push, which such a registry does not tell"
    )
    transitional: Left[Yes] = Field(
        default=None, description="yandex-cloud-registry: delete in one of the type TRANSITIONAL, too"
    )
    credentials: Annotated[Any, Given, CREDENTIALS_SCHEMA] = None  # read piece by piece
    endpoints: Left[EndpointsModel] = None
    ca_file: Left[Text] = Field(
        default=None, description="certificates to trust besides the system's, in PEM format; relative to this file"
    )
    proxy: Annotated[Any, Given, url_schema("https?://")] = Field(
        default=None, description="the proxy for all that this registry needs; absent: HTTPS_PROXY, NO_PROXY"
    )
    insecure_http: Left[Yes] = Field(
        default=None, description="plain http to private addresses: whoever can listen there reads passwords"
    )
    schedule: Left[Schedule] = Field(default=None, description="five cron fields; absent: only by hand")
    timezone: Timezone = "UTC"
    catch_up: Duration = Field(default=timedelta(hours=6), description="a run missed by more is recorded as missed")
    mode: Literal["dry-run", "delete"] = "dry-run"
    settle: Duration = Field(
        default=timedelta(0), description="only what complete scans have seen for that long, with the same tags, may go"
    )
    trust_times_after: Left[Instant] = Field(
        default=None, description="what was pushed before this instant has no known age"
    )
    ignore_unreadable: Left[ImageDigests] = Field(
        default=None, description="unreadable images that stay by themselves, without all that they may list"
    )
    in_use: list[Any] = Field(default_factory=list, description="sources that say what is in use")
    policy: Left[Text] = None
    keep_per_repository: int = Field(default=0, ge=0, description="the newest N of each repository always stay")
    limits: LimitsModel = LimitsModel()
    rate: RateModel = RateModel()
    plan_max_age: Pause = Field(default=timedelta(hours=24), description="from the scan's start")
    deadline: Left[Pause] = Field(default=None, description="from the first deletion")
    after_run: Left[AfterRunModel] = Field(default=None, description="what follows a run that deleted something")


class RegistryModel(DefaultsModel):
    """One registry; what it does not say, `defaults` says."""

    kind: KindName = Field(description=f"kind: {fields.listed(KINDS, 'or')}")
    credentials: Annotated[Any, Given, CREDENTIALS_SCHEMA] = Field(
        description="how to sign in, for example {metadata: true}, or {anonymous: true} with oci"
    )
    policy: Text = Field(description="the name of one of the policies")


class DocumentModel(Model):
    """What registry-gc is to do: the whole file."""

    # What is `Any` here is read piece by piece, so that a mistake in one hides none in another.

    redis: Annotated[Any, Given, url_schema("rediss?://", "unix:///")] = None
    store: Annotated[Any, Given, url_schema("sqlite:///", "postgresql[+]psycopg://")] = None
    web: WebModel = WebModel()
    timing: TimingModel = TimingModel()
    retention: RetentionModel = RetentionModel()
    notify: list[Any] = Field(default_factory=list, description="where outcomes of runs are told")
    defaults: dict[str, Any] = Field(default_factory=dict)
    registries: dict[str, Any] = Field(default_factory=dict)
    policies: dict[str, Any] = Field(default_factory=dict)
