"""`check --online` tests the configuration against the registries, evidence sources, store and Redis.

For each registry it signs in, lists and reads manifests. It deletes and records nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from policies.image import Image
from worker.app import OTHER_STORES, other_stores
from worker.cli.kind_changes import kind_changes
from worker.cli.resources import configure_logging, limiter_for, store_connection
from worker.config.kinds import Kind, kind_of
from worker.config.settings import Credentials, EvidenceSettings, RegistrySettings, SecretError, Settings
from worker.evidence import read
from worker.evidence.judgement import by_address, judge
from worker.evidence.reading import EvidenceError
from worker.registries import open_registry
from worker.registries.errors import LimiterUnavailableError, PermissionDeniedError, RegistryError, UnservedNameError
from worker.registries.http.messages import Retries
from worker.registries.interface import Registry, ReportsChallenges, ReportsDeletionSupport
from worker.registries.oci.deletion import vendor_deletion
from worker.runs.circuit_breaker import ENDING, SUCCESSOR
from worker.runs.evidence import scope_of
from worker.store import StoreError
from worker.store.store_info import store_id
from worker.web.health import redis_problem

Status = Literal["ok", "warning", "failed"]

RETRIES = Retries(attempts=2, total=15.0)
PARALLEL = 8
TOLERATED_SKEW = 300.0  # seconds; a run with a larger skew fails before it plans
NOTABLE_SKEW = 60.0
READ_ONLY_SINCE, STOPPED_SINCE = date(2026, 11, 10), date(2026, 12, 14)
TWELVE_HOURS = "an IAM token is valid for at most 12 hours"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of a registry or of a shared service, and its result."""

    registry: str | None  # the configured name; None: a shared service
    check: str  # "sign in", "list images", "evidence cluster"
    status: Status
    detail: str  # one line
    value: float | None = None  # a count, or the clock skew in seconds


def probe(settings: Settings, now: datetime, *, verbose: bool = False) -> list[CheckResult]:
    """Run every check. An error of a checked service is a result, never raised."""
    configure_logging(verbose=verbose)
    with ThreadPoolExecutor(PARALLEL, "probe") as pool:
        of_registries = pool.map(
            lambda registry: list(_registry(settings, registry, now)), settings.registries.values()
        )
        shared = [_store(settings), _redis(settings)]
        shared += [CheckResult(name, "kind", "ok", message) for name, message in kind_changes(settings).items()]
        return shared + [result for results in of_registries for result in results]


def _store(settings: Settings) -> CheckResult:
    try:
        with store_connection(settings) as connection:
            detail = "does not exist yet; it is created when it is first needed" if connection is None else "readable"
            return CheckResult(None, "store", "ok", detail)
    except StoreError as error:
        return CheckResult(None, "store", "failed", f"{error}; nothing is deleted without it")


def _redis(settings: Settings) -> CheckResult:
    if settings.redis is None:
        return CheckResult(None, "redis", "ok", "not configured; `registry-gc up` starts its own")
    if (why := redis_problem(settings)) is not None:
        return CheckResult(None, "redis", "failed", why)
    with suppress(StoreError, OperationalError, RedisError, OSError), store_connection(settings) as connection:
        own = "" if connection is None else store_id(connection)  # without a store, any answer comes from another one
        if other_stores(settings, own):
            return CheckResult(None, "redis", "warning", OTHER_STORES)
    return CheckResult(None, "redis", "ok", "answers")


def _registry(settings: Settings, registry: RegistrySettings, now: datetime) -> Iterator[CheckResult]:
    for credentials in registry.all_credentials:
        yield _renewal(registry.name, credentials, now)
    yield from _access(settings, registry, now)
    for source in registry.in_use:
        yield _evidence(settings, registry, source)


def _renewal(name: str, credentials: Credentials, now: datetime) -> CheckResult:
    """Whether the credentials are renewed, as far as the configuration shows."""
    check = "credentials"
    if credentials.anonymous:
        return CheckResult(name, check, "ok", "anonymous; most registries refuse anonymous deletions")
    if credentials.username is not None:
        return CheckResult(name, check, "ok", "username and password, read again for each use")
    helper = None if credentials.helper is None else f"docker-credential-{credentials.helper}"
    if program := helper or str(credentials.docker_config or "".join(credentials.command[:1])):
        return CheckResult(name, check, "ok", f"{program}, run again when its credentials expire or are refused")
    if (secret := credentials.iam_token) is None:
        sources = {"service_account_key": "service account key", "workload_identity": "workload identity"}
        source = next((text for key, text in sources.items() if getattr(credentials, key)), "metadata of the machine")
        return CheckResult(name, check, "ok", f"{source}; tokens are renewed automatically")
    if secret.file is None:
        detail = f"iam_token from {secret.where}: {TWELVE_HOURS}, and a running process cannot renew it"
        return CheckResult(name, check, "warning", f"{detail}; use service_account_key, metadata or workload_identity")
    written = datetime.fromtimestamp(secret.file.stat().st_mtime, UTC) if secret.file.exists() else now
    hours = max(0.0, (now - written).total_seconds() / 3600)
    detail = f"iam_token from {secret.where}, written {hours:.1f} h ago: {TWELVE_HOURS}; something must renew the file"
    return CheckResult(name, check, "warning", detail, round(hours, 2))


def _access(settings: Settings, registry: RegistrySettings, now: datetime) -> Iterator[CheckResult]:
    allowed: list[bool | None] = [None]
    try:
        with limiter_for(settings, registry) as limiter, open_registry(registry, limiter, RETRIES) as opened:
            yield from _read_access(registry, opened, allowed)
    except (SecretError, LimiterUnavailableError) as error:
        yield CheckResult(registry.name, "sign in", "failed", str(error))
    yield deletion(registry, now, allowed[-1])


def _read_access(settings: RegistrySettings, registry: Registry, allowed: list[bool | None]) -> Iterator[CheckResult]:
    """Sign in, list, read a manifest; each step only if the one before worked. Appends to `allowed`: may it delete?"""
    name, kind = settings.name, kind_of(settings.kind)
    sent_at = datetime.now(UTC)
    registry_time = _try(name, "sign in", needs(kind, kind.to_plan), registry.clock)
    if isinstance(registry_time, CheckResult):
        yield registry_time
        return
    received_at = datetime.now(UTC)
    at_once = not isinstance(registry, ReportsChallenges) or registry.was_challenged()
    listed = list(_listed(name, kind, registry, allowed))
    later = isinstance(registry, ReportsChallenges) and registry.was_challenged()
    is_tried = at_once or (later and any((row.check, row.status) == ("list images", "ok") for row in listed))
    yield signed_in(settings, is_tried=is_tried)
    yield clock(name, registry_time, sent_at, received_at)
    yield from listed


def signed_in(settings: RegistrySettings, *, is_tried: bool) -> CheckResult:
    """What is known about the credentials. `is_tried`: the registry has asked for them and accepted them."""
    name, check, known = settings.name, "sign in", "the registry answers"
    if all(credentials.anonymous for credentials in settings.all_credentials):
        return CheckResult(name, check, "ok", f"{known}; requests are anonymous")
    if not is_tried:
        unknown = "no answered request needed credentials, so it is unknown whether they work"
        return CheckResult(name, check, "warning", f"{known}; {unknown}")
    if (number := len(settings.all_credentials)) > 1:
        detail = f"signed in; unknown whether each of the {number} credentials works"
        return CheckResult(name, check, "warning", detail)
    return CheckResult(name, check, "ok", "signed in")


def _listed(name: str, kind: Kind, registry: Registry, allowed: list[bool | None]) -> Iterator[CheckResult]:
    """List repositories and the images of one, and read manifests; each step only if the one before worked."""
    to_plan = needs(kind, kind.to_plan)
    registry.usage()
    paths = _try(name, "list repositories", to_plan, lambda: list(registry.repositories()))
    if isinstance(paths, CheckResult):
        yield paths
        return
    by_registry = bool(registry.usage().requests)
    listing = _try(name, "list images", to_plan, lambda: _first_listed(registry, paths))
    path, images = (paths[0] if paths else "", listing) if isinstance(listing, CheckResult) else listing
    yield repositories(name, paths, path, by_registry=by_registry)
    if not paths:
        yield CheckResult(name, "list images", "warning", "unknown: there is no repository to list")
        return
    if isinstance(images, CheckResult):
        yield images
        return
    yield CheckResult(name, "list images", "ok", f"{len(images):,} in {path}", len(images))
    yield manifests(name, kind, path, images)
    if images and isinstance(registry, ReportsDeletionSupport):
        with suppress(RegistryError, LimiterUnavailableError):  # then it stays unknown
            allowed.append(registry.allows_deletion(path, images[0].digest))


def _first_listed(registry: Registry, paths: Sequence[str]) -> tuple[str, tuple[Image, ...]]:
    """The first repository that the registry serves under its name, and its images. Raises RegistryError."""
    for path in paths[:-1]:
        with suppress(UnservedNameError):
            return path, registry.images(path)
    return (paths[-1], registry.images(paths[-1])) if paths else ("", ())


def repositories(name: str, paths: Sequence[str], tried: str, *, by_registry: bool) -> CheckResult:
    """`by_registry`: the registry has listed these repositories; otherwise the file names them."""
    check, number = "list repositories", len(paths)
    if by_registry or not paths:
        return CheckResult(name, check, "ok", f"{number:,} listed", number)
    detail = f"not requested: the file names {number:,}"
    if number == 1:
        return CheckResult(name, check, "ok", f"{detail}, {tried}", number)
    return CheckResult(name, check, "warning", f"{detail}; only {tried} is tested, the others are unknown", number)


def manifests(name: str, kind: Kind, path: str, images: Sequence[Image]) -> CheckResult:
    """Whether all manifests could be read. An unreadable one keeps its image and every possible child."""
    check = "read manifests"
    if not images:
        return CheckResult(name, check, "warning", f"unknown: {path} has no image to read")
    needed = needs(kind, kind.to_read or kind.to_plan)
    unread = [image for image in images if image.children is None]
    if not unread and kind.to_read and not any(image.children for image in images):
        return CheckResult(name, check, "warning", f"unknown: no image in {path} is an index; to read one, {needed}")
    if not unread:
        return CheckResult(name, check, "ok", f"all in {path} are readable")
    detail = f"{len(unread):,} of {len(images):,} in {path} could not be read, for example"
    return CheckResult(name, check, "failed", f"{detail} {unread[0].digest}; {needed}", len(unread))


def needs(kind: Kind, permission: str) -> str:
    """The permission that refused credentials lack."""
    if not permission:
        return "the credentials lack a permission"
    return f"the credentials need {permission_text(kind, permission)}"


def permission_text(kind: Kind, permission: str) -> str:
    return f"the {'role' if kind.endpoint else 'permission'} {permission} on the registry"


def _try(name: str, check: str, needed: str, call: Callable[[], Any]) -> Any:
    """The result of the call, or the CheckResult of its failure."""
    try:
        return call()
    except (RegistryError, LimiterUnavailableError) as error:
        remedy = f"; {needed}" if isinstance(error, PermissionDeniedError) else ""
        return CheckResult(name, check, "failed", f"{str(error).removeprefix(f'{name}: ')}{remedy}")


def clock(name: str, registry_time: datetime, sent_at: datetime, received_at: datetime) -> CheckResult:
    """The skew between this machine's clock and the registry's, which reports whole seconds."""
    seconds = (sent_at + (received_at - sent_at) / 2 - registry_time).total_seconds() - 0.5
    detail = f"this machine is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} the registry"
    if abs(seconds) > TOLERATED_SKEW:
        detail = f"{detail}, so runs fail before they plan; correct the clock"
        return CheckResult(name, "clock", "failed", detail, round(seconds, 1))
    status: Status = "warning" if abs(seconds) > NOTABLE_SKEW else "ok"
    return CheckResult(name, "clock", status, detail, round(seconds, 1))


def deletion(registry: RegistrySettings, now: datetime, allowed: bool | None = None) -> CheckResult:
    """What is known about deletions without trying one: `allowed` by the registry, or the vendor's announcements."""
    kind, name = kind_of(registry.kind), registry.name
    refused: Status = "failed" if registry.mode == "delete" else "warning"
    if other_way := vendor_deletion(registry.url, {}):
        return CheckResult(name, "delete", refused, other_way)
    if allowed is False:
        remedy = "its administrator can change that (distribution: storage.maintenance.readonly)"
        return CheckResult(name, "delete", refused, f"the registry is read-only, by its header Allow; {remedy}")
    detail = "unknown until the first deletion: this check never tries one"
    if kind.to_delete:
        detail = f"unknown until the first deletion, which needs {permission_text(kind, kind.to_delete)}"
    if registry.mode == "dry-run":
        detail += "; the mode is dry-run, so nothing is deleted"
    successor = f"move to {SUCCESSOR}, its successor"
    if registry.kind == ENDING and now.date() >= STOPPED_SINCE:
        detail = f"the vendor stopped this service on {STOPPED_SINCE}; {successor}"
    elif registry.kind == ENDING and now.date() >= READ_ONLY_SINCE:
        dates = f"read-only since {READ_ONLY_SINCE}, stopped on {STOPPED_SINCE}"
        detail = f"the vendor announced for this service: {dates}; deletions may be refused; {successor}; {detail}"
    return CheckResult(name, "delete", "warning", detail)


def _evidence(settings: Settings, registry: RegistrySettings, source: EvidenceSettings) -> CheckResult:
    name, check = registry.name, f"evidence {source.name}"
    try:
        reading = read(source)
        now = datetime.now(UTC)
        judge(source, reading, None, now)
        here, warning, fails = by_address(source, registry, reading, scope_of(registry, settings.registries.values()))
    except EvidenceError as error:
        return CheckResult(name, check, "failed", str(error).removeprefix(f"{check}: "))
    minutes = (now - reading.as_of).total_seconds() / 60
    number = len(reading.uses)
    detail = "; ".join(filter(None, (f"{number:,} in use{here}, {minutes:,.0f} min old", warning)))
    status: Status = "failed" if fails else "warning" if warning else "ok"
    return CheckResult(name, check, status, detail, number)
