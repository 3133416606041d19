"""The configuration file's keys: one model for each mapping, which reads it, lists what is known and makes the schema.

Rules of a policy are not here: `policies.document` knows them.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from worker.config_file import fields
from worker.config_file.fields import (
    Duration,
    Endpoint,
    Instant,
    Listen,
    RegistryId,
    Schedule,
    ServiceAccountId,
    Share,
    Size,
    Timezone,
    Yes,
)

SECOND = timedelta(seconds=1)
Pause = Annotated[Duration, AfterValidator(fields.at_least(SECOND, "1s"))]
Kind = Literal["yandex-container-registry"]

# What the contract names and a later version will read. Refused until then: a key that is ignored is a promise broken.
LATER: dict[str, frozenset[str]] = {
    "RegistryModel": frozenset({"url"}),
    "DefaultsModel": frozenset({"url"}),
    "CredentialsModel": frozenset({"username", "password", "anonymous"}),
    "EndpointsModel": frozenset({"cloud_registry"}),
}
LATER_KINDS = frozenset({"yandex-cloud-registry", "oci"})


def _kind(value: object) -> object:
    if isinstance(value, str) and value in LATER_KINDS:
        raise fields.mistake(f"the kind {value} is not built yet", "known here: yandex-container-registry")
    return value


def _not_null(value: object) -> object:
    if value is None:
        raise fields.mistake("has no value", "write one, or leave the key out")
    return value


# For keys that may be left out, but not be left empty: an empty limit is more likely lost than lifted.
Given = BeforeValidator(_not_null)
T = TypeVar("T")
Left = Annotated[T | None, Given]
Text = Annotated[str, Field(min_length=1)]
KindName = Annotated[Kind, BeforeValidator(_kind)]


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
    """How to sign in: exactly one of these."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    iam_token: Left[SecretModel] = None
    service_account_key: Left[SecretModel] = None
    metadata: Left[Yes] = Field(default=None, description="the service account of the virtual machine")

    workload_identity: Left[WorkloadIdentityModel] = None

    @model_validator(mode="after")
    def exactly_one(self) -> "CredentialsModel":
        known = list(type(self).model_fields)
        given = [name for name in known if getattr(self, name)]
        if len(given) != 1:
            what = f"expected one way to sign in, got {' and '.join(given) or 'none'}"
            raise fields.mistake(what, f"keep one of {', '.join(known)}")
        return self


class EndpointsModel(Model):
    container_registry: Left[Endpoint] = None
    operation: Left[Endpoint] = None
    iam: Left[Endpoint] = None
    docker: Left[Endpoint] = None
    sts: Left[Endpoint] = Field(default=None, description="exchanges the token of a pod, for workload_identity")


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
    id: Left[RegistryId] = None
    credentials: Left[CredentialsModel] = None
    endpoints: Left[EndpointsModel] = None
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
    in_use: list[Any] = Field(default_factory=list, description="sources that say what is in use")
    policy: Left[Text] = None
    keep_per_repository: int = Field(default=0, ge=0, description="the newest N of each repository always stay")
    limits: LimitsModel = LimitsModel()
    rate: RateModel = RateModel()
    plan_max_age: Pause = Field(default=timedelta(hours=24), description="from the scan's start")
    deadline: Left[Pause] = Field(default=None, description="from the first deletion")


class RegistryModel(DefaultsModel):
    """One registry; what it does not say, `defaults` says."""

    kind: KindName = Field(description="kind: yandex-container-registry")
    id: RegistryId = Field(description="the registry's id, which `yc container registry list` shows")
    credentials: CredentialsModel = Field(description="how to sign in, for example {metadata: true}")
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
