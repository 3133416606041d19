"""What can be known of a configuration by asking, without deleting or recording anything: `check --online`.

Each registry is signed in to, listed and read; deleting is never tried. The store, Redis and the sources of evidence
are asked whether they answer.
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
from worker.cli.live import limiter_for, log_if_asked, recorded
from worker.cli.moved import moved
from worker.config.kinds import Kind, kind_of
from worker.config.settings import Credentials, EvidenceSettings, RegistrySettings, SecretError, Settings
from worker.evidence import read
from worker.evidence.judgement import by_address, judge
from worker.evidence.reading import EvidenceError
from worker.registries import open_registry
from worker.registries.errors import LimiterUnavailableError, PermissionDeniedError, RegistryError, UnservedNameError
from worker.registries.http.messages import Retries
from worker.registries.interface import Registry, ReportsChallenges, ReportsDeletionSupport
from worker.registries.oci.deletion import own_deletion
from worker.runs.circuit_breaker import ENDING, SUCCESSOR
from worker.runs.evidence import scope_of
from worker.store import StoreError
from worker.store.store_info import store_id
from worker.web.health import redis_trouble

Status = Literal["ok", "warning", "failed"]

RETRIES = Retries(attempts=2, total=15.0)
SIDE_BY_SIDE = 8
TOLERATED_SKEW = 300.0  # seconds: beyond it a run fails before it plans
NOTABLE_SKEW = 60.0
READ_ONLY_SINCE, STOPPED_SINCE = date(2026, 11, 10), date(2026, 12, 14)
TWELVE_HOURS = "an IAM token lives for 12 hours at most"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was asked, and what came of it."""

    registry: str | None  # the configured name; None: it concerns all
    check: str  # "sign in", "list images", "evidence cluster"
    status: Status
    detail: str  # one line
    value: float | None = None  # what was counted, or the clock's seconds


def probe(settings: Settings, now: datetime, *, verbose: bool = False) -> list[Finding]:
    """Ask everything that the configuration names. Raises nothing that asking it can raise."""
    log_if_asked(verbose=verbose)
    with ThreadPoolExecutor(SIDE_BY_SIDE, "probe") as pool:
        asked = pool.map(lambda one: list(_of_registry(settings, one, now)), settings.registries.values())
        shared = [_store(settings), _redis(settings)]
        shared += [Finding(name, "kind", "ok", said) for name, said in moved(settings).items()]
        return shared + [finding for findings in asked for finding in findings]


def _store(settings: Settings) -> Finding:
    try:
        with recorded(settings) as connection:
            said = "not there yet; it is made when it is first needed" if connection is None else "readable"
            return Finding(None, "store", "ok", said)
    except StoreError as error:
        return Finding(None, "store", "failed", f"{error}; nothing is deleted without it")


def _redis(settings: Settings) -> Finding:
    if settings.redis is None:
        return Finding(None, "redis", "ok", "none is configured: `registry-gc up` starts its own")
    if (why := redis_trouble(settings)) is not None:
        return Finding(None, "redis", "failed", why)
    with suppress(StoreError, OperationalError, RedisError, OSError), recorded(settings) as connection:
        own = "" if connection is None else store_id(connection)  # no store yet: whoever answers has another
        if other_stores(settings, own):
            return Finding(None, "redis", "warning", OTHER_STORES)
    return Finding(None, "redis", "ok", "answers")


def _of_registry(settings: Settings, registry: RegistrySettings, now: datetime) -> Iterator[Finding]:
    for credentials in registry.all_credentials:
        yield _renewal(registry.name, credentials, now)
    yield from _access(settings, registry, now)
    for source in registry.in_use:
        yield _evidence(settings, registry, source)


def _renewal(name: str, credentials: Credentials, now: datetime) -> Finding:
    """Whether somebody renews the token, as far as the configuration shows."""
    check = "credentials"
    if credentials.anonymous:
        return Finding(name, check, "ok", "anonymous: nobody is signed in, so most registries refuse to delete")
    if credentials.username is not None:
        return Finding(name, check, "ok", "username and password: read again each time that they are needed")
    helper = None if credentials.helper is None else f"docker-credential-{credentials.helper}"
    if program := helper or str(credentials.docker_config or "".join(credentials.command[:1])):
        return Finding(name, check, "ok", f"{program}: asked again when what it gave expires or is refused")
    if (secret := credentials.iam_token) is None:
        ways = {"service_account_key": "a service account's key", "workload_identity": "workload identity"}
        way = next((words for key, words in ways.items() if getattr(credentials, key)), "the machine's metadata")
        return Finding(name, check, "ok", f"{way}: tokens are renewed by themselves")
    if secret.file is None:
        detail = f"iam_token from {secret.where}: {TWELVE_HOURS}, and nobody can renew one in a running process"
        return Finding(name, check, "warning", f"{detail}; use service_account_key, metadata or workload_identity")
    written = datetime.fromtimestamp(secret.file.stat().st_mtime, UTC) if secret.file.exists() else now
    hours = max(0.0, (now - written).total_seconds() / 3600)
    detail = f"iam_token from {secret.where}, written {hours:.1f} h ago: {TWELVE_HOURS}; something has to renew it"
    return Finding(name, check, "warning", detail, round(hours, 2))


def _access(settings: Settings, registry: RegistrySettings, now: datetime) -> Iterator[Finding]:
    allowed: list[bool | None] = [None]
    try:
        with limiter_for(settings, registry) as limiter, open_registry(registry, limiter, RETRIES) as opened:
            yield from _tried(registry, opened, allowed)
    except (SecretError, LimiterUnavailableError) as error:
        yield Finding(registry.name, "sign in", "failed", str(error))
    yield deletion(registry, now, allowed[-1])


def _tried(settings: RegistrySettings, registry: Registry, allowed: list[bool | None]) -> Iterator[Finding]:
    """Sign in, list, read a manifest: each only where the one before worked. `allowed`: what is said of deletions."""
    name, kind = settings.name, kind_of(settings.kind)
    asked = datetime.now(UTC)
    there = _try(name, "sign in", needs(kind, kind.to_plan), registry.clock)
    if isinstance(there, Finding):
        yield there
        return
    answered = datetime.now(UTC)
    at_once = not isinstance(registry, ReportsChallenges) or registry.was_challenged()
    listed = list(_listed(name, kind, registry, allowed))
    later = isinstance(registry, ReportsChallenges) and registry.was_challenged()
    is_tried = at_once or (later and any((one.check, one.status) == ("list images", "ok") for one in listed))
    yield signed_in(settings, is_tried=is_tried)
    yield clock(name, there, asked, answered)
    yield from listed


def signed_in(settings: RegistrySettings, *, is_tried: bool) -> Finding:
    """What an answer says of the credentials. `is_tried`: the registry has asked for some, and took them."""
    name, check, known = settings.name, "sign in", "the registry is there"
    if all(credentials.anonymous for credentials in settings.all_credentials):
        return Finding(name, check, "ok", f"{known}; nobody is signed in")
    if not is_tried:
        unknown = "no request that was answered needed credentials, so that it is not known whether they work"
        return Finding(name, check, "warning", f"{known}; {unknown}")
    if (number := len(settings.all_credentials)) > 1:
        return Finding(name, check, "warning", f"signed in, and {known}; not known of each of the {number} credentials")
    return Finding(name, check, "ok", f"signed in, and {known}")


def _listed(name: str, kind: Kind, registry: Registry, allowed: list[bool | None]) -> Iterator[Finding]:
    """List repositories, one repository's images, and read manifests: each only where the one before worked."""
    to_plan = needs(kind, kind.to_plan)
    registry.usage()
    paths = _try(name, "list repositories", to_plan, lambda: list(registry.repositories()))
    if isinstance(paths, Finding):
        yield paths
        return
    by_registry = bool(registry.usage().requests)
    found = _try(name, "list images", to_plan, lambda: _first_listed(registry, paths))
    path, images = (paths[0] if paths else "", found) if isinstance(found, Finding) else found
    yield repositories(name, paths, path, by_registry=by_registry)
    if not paths:
        yield Finding(name, "list images", "warning", "not known: there is no repository to try it on")
        return
    if isinstance(images, Finding):
        yield images
        return
    yield Finding(name, "list images", "ok", f"{len(images):,} seen in {path}", len(images))
    yield manifests(name, kind, path, images)
    if images and isinstance(registry, ReportsDeletionSupport):
        with suppress(RegistryError, LimiterUnavailableError):  # then it is not known, and nothing says so wrongly
            allowed.append(registry.allows_deletion(path, images[0].digest))


def _first_listed(registry: Registry, paths: Sequence[str]) -> tuple[str, tuple[Image, ...]]:
    """The first of these repositories that is served by its name, and its images. Raises RegistryError."""
    for path in paths[:-1]:
        with suppress(UnservedNameError):
            return path, registry.images(path)
    return (paths[-1], registry.images(paths[-1])) if paths else ("", ())


def repositories(name: str, paths: Sequence[str], tried: str, *, by_registry: bool) -> Finding:
    """Which there are. `by_registry`: it has listed them; else the file names them."""
    check, number = "list repositories", len(paths)
    if by_registry or not paths:
        return Finding(name, check, "ok", f"{number:,} seen", number)
    said = f"not asked for: the file names {number:,}"
    if number == 1:
        return Finding(name, check, "ok", f"{said}, {tried}", number)
    return Finding(name, check, "warning", f"{said}, and {tried} alone is tried: not known of the others", number)


def manifests(name: str, kind: Kind, path: str, images: Sequence[Image]) -> Finding:
    """Whether the manifests that had to be read could be: what is not read stays, and whatever may be its child."""
    check = "read manifests"
    if not images:
        return Finding(name, check, "warning", f"not known: {path} has no image to try it on")
    needed = needs(kind, kind.to_read or kind.to_plan)
    unread = [image for image in images if image.children is None]
    if not unread and kind.to_read and not any(image.children for image in images):
        return Finding(name, check, "warning", f"not known: no image in {path} is an index; to read one {needed}")
    if not unread:
        return Finding(name, check, "ok", f"none in {path} is unreadable")
    detail = f"{len(unread):,} of {len(images):,} images in {path} have one that could not be read, such as"
    return Finding(name, check, "failed", f"{detail} {unread[0].digest}; {needed}", len(unread))


def needs(kind: Kind, permission: str) -> str:
    """What credentials lack where they are refused."""
    return f"it needs {named(kind, permission)}" if permission else "its credentials lack a permission"


def named(kind: Kind, permission: str) -> str:
    """A permission as its kind calls it."""
    return f"the {'role' if kind.endpoint else 'permission'} {permission} on the registry"


def _try(name: str, check: str, needed: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (RegistryError, LimiterUnavailableError) as error:
        also = f"; {needed}" if isinstance(error, PermissionDeniedError) else ""
        return Finding(name, check, "failed", f"{str(error).removeprefix(f'{name}: ')}{also}")


def clock(name: str, there: datetime, asked: datetime, answered: datetime) -> Finding:
    """How far this machine's clock is from the registry's, which tells whole seconds."""
    seconds = (asked + (answered - asked) / 2 - there).total_seconds() - 0.5
    word = f"this machine is {abs(seconds):.1f} s {'ahead' if seconds > 0 else 'behind'}"
    if abs(seconds) > TOLERATED_SKEW:
        return Finding(name, "clock", "failed", f"{word}: runs fail before they plan; set it right", round(seconds, 1))
    status: Status = "warning" if abs(seconds) > NOTABLE_SKEW else "ok"
    return Finding(name, "clock", status, word, round(seconds, 1))


def deletion(registry: RegistrySettings, now: datetime, allowed: bool | None = None) -> Finding:
    """What can be said without deleting: what the registry says of itself (`allowed`), or the vendor's pages."""
    kind, name = kind_of(registry.kind), registry.name
    needed: Status = "failed" if registry.mode == "delete" else "warning"
    if own := own_deletion(registry.url, {}):
        return Finding(name, "delete", needed, own)
    if allowed is False:
        remedy = "whoever runs it may end that (distribution: storage.maintenance.readonly)"
        return Finding(name, "delete", needed, f"the registry is read-only, by its header Allow; {remedy}")
    detail = "not known before the first deletion: it is never tried"
    if kind.to_delete:
        detail = f"not known before the first deletion, which needs {named(kind, kind.to_delete)}"
    if registry.mode == "dry-run":
        detail += "; the mode is dry-run: none is made"
    successor = f"move to {SUCCESSOR}, its successor"
    if registry.kind == ENDING and now.date() >= STOPPED_SINCE:
        detail = f"the vendor stopped this service on {STOPPED_SINCE}; {successor}"
    elif registry.kind == ENDING and now.date() >= READ_ONLY_SINCE:  # it is read-only before it stops
        stops = f"read-only since {READ_ONLY_SINCE} and stops it on {STOPPED_SINCE}"
        detail = f"the vendor calls this service {stops}: deletions may be refused; {successor}; {detail}"
    return Finding(name, "delete", "warning", detail)


def _evidence(settings: Settings, registry: RegistrySettings, source: EvidenceSettings) -> Finding:
    name, check = registry.name, f"evidence {source.name}"
    try:
        reading = read(source)
        now = datetime.now(UTC)
        judge(source, reading, None, now)
        here, doubt, fails = by_address(source, registry, reading, scope_of(registry, settings.registries.values()))
    except EvidenceError as error:
        return Finding(name, check, "failed", str(error).removeprefix(f"{check}: "))
    minutes = (now - reading.as_of).total_seconds() / 60
    counted = len(reading.uses)
    detail = "; ".join(filter(None, (f"{counted:,} in use{here}, {minutes:,.0f} min old", doubt)))
    status: Status = "failed" if fails else "warning" if doubt else "ok"
    return Finding(name, check, status, detail, counted)
