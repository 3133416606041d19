"""From a registry's sources to `policies.context`: asks each source, judges its answer, shares it through the store.

A source that cannot be believed raises EvidenceError: nothing is deleted in its registry then.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from policies.context import Evidence
from policies.warnings import PlanWarning
from worker.config.settings import HUB_HOSTS, YANDEX_HOSTS, EvidenceSettings, RegistrySettings, namespace_of
from worker.evidence import judge, read
from worker.evidence.judgement import (
    DigestLookup,
    Matches,
    Scope,
    any_address_matches,
    judge_matches,
    match_references,
    warning_of,
)
from worker.runs.clocks import check
from worker.store import Store
from worker.store import evidence as rows
from worker.store.evidence import StoredReading

SHARED_FOR = timedelta(minutes=5)  # that long a reading serves all batches of a run before a source is asked again
GOOD_FOR = timedelta(minutes=8)  # a batch begins only on younger ones: it takes a minute, and the law's bound is ten


@dataclass(frozen=True, slots=True)
class GatheredEvidence:
    """What is in use in a registry, and how much of what its sources name matches nothing."""

    evidence: Evidence = field(default_factory=Evidence)
    warnings: tuple[PlanWarning, ...] = ()


def gather(
    store: Store | None,
    registry: RegistrySettings,
    registries: Iterable[RegistrySettings],
    listed: DigestLookup,
    *,
    scanning: bool,
    remember: bool = True,
) -> GatheredEvidence:
    """What is in use in a registry. Raises ClockError, EvidenceError, StoreError.

    `registries`: all of the file, by whose addresses references match; `listed`: which digests the inventory has.

    Who makes a plan (`scanning`) asks every source; a run that is deleting asks those that were not asked just now,
    because all its batches want to know.
    A reading replaces the one before only if it is believed. What is suddenly half of what the last scan was told is
    not, however slowly it came to that within a run (`scanning` False), and stays so until a person says otherwise.
    """
    if not registry.in_use:
        return GatheredEvidence()
    check(lambda: datetime.now(UTC), store)
    known, scope = _known(store, registry), scope_of(registry, registries, listed)
    readings = [_one(source, known.get(source.name), scanning=scanning) for source in registry.in_use]
    warnings = []
    for place, source in enumerate(registry.in_use):
        if readings[place] is not known.get(source.name):
            matches = _matches(source, registry, readings[place], scope, scanning=scanning)
            if scanning:
                readings[place] = replace(readings[place], foreign=matches.foreign)
            if matches.foreign:
                warnings.append(warning_of(source.name, registry, matches))
    fresh = [one for one in readings if one is not known.get(one.source)]
    if store is not None and remember and fresh:
        with store.write() as connection:
            rows.save_readings(connection, registry.name, fresh)
    return GatheredEvidence(evidence_of(registry, readings), tuple(warnings))


def scope_of(
    registry: RegistrySettings, registries: Iterable[RegistrySettings], listed: DigestLookup = lambda _: ()
) -> Scope:
    """What the references of a registry's sources are compared with."""
    all_of_file = (registry, *registries)

    def is_configured(name: str) -> bool:
        return any(path_in_registry(one, name) is not None for one in all_of_file)

    return Scope(is_configured, lambda name: path_in_registry(registry, name) is not None, listed)


def _matches(
    source: EvidenceSettings, registry: RegistrySettings, one: StoredReading, scope: Scope, *, scanning: bool
) -> Matches:
    """A new reading, compared and judged. Raises EvidenceError.

    In mid-run the inventory is asked only where no address matches: nobody reads the count.
    """
    if not scanning and not one.reading.unknown_digests and any_address_matches(one.reading, scope):
        return Matches(len(one.reading.uses), 0)
    matches = match_references(source, one.reading, scope)
    judge_matches(source, registry, matches)
    return matches


def recent_evidence(store: Store, registry: RegistrySettings) -> Evidence | None:
    """What is in use by readings that are good now; None: some source is to be asked first. Raises StoreError."""
    if not registry.in_use:
        return Evidence()
    known, now = _known(store, registry), datetime.now(UTC)
    readings = [_before(source, known.get(source.name)) for source in registry.in_use]
    for source, one in zip(registry.in_use, readings, strict=True):
        if one is None or not _is_younger(one, GOOD_FOR, now) or now - one.reading.as_of > source.max_age:
            return None
    return evidence_of(registry, [one for one in readings if one is not None])


def _known(store: Store | None, registry: RegistrySettings) -> dict[str, StoredReading]:
    if store is None:
        return {}
    with store.read() as connection:
        return rows.stored_readings(connection, registry.name)


def _before(source: EvidenceSettings, known: StoredReading | None) -> StoredReading | None:
    """What is known of a source, unless its settings make it another one."""
    return known if known is not None and known.sha256 == settings_sha256(source) else None


def _is_younger(one: StoredReading, age: timedelta, now: datetime) -> bool:
    return timedelta() <= now - one.read_at < age


def _one(source: EvidenceSettings, known: StoredReading | None, *, scanning: bool) -> StoredReading:
    before, began = _before(source, known), datetime.now(UTC)  # as old as its beginning: never taken for younger
    if not scanning and before is not None and _is_younger(before, SHARED_FOR, began):
        judge(source, before.reading, None, began)
        return before
    reading = read(source)
    judge(source, reading, None if before is None else before.baseline, datetime.now(UTC))
    count = len(reading.uses)
    baseline = count if scanning or before is None else before.baseline
    return StoredReading(
        source.name, settings_sha256(source), began, reading, baseline, 0 if before is None else before.foreign
    )


def settings_sha256(source: EvidenceSettings) -> str:
    """What makes a source another one, so that its counts are not compared. No secret is in it."""
    facts = (source.kind, source.path, source.url, source.kubeconfig, source.contexts, source.namespaces)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def evidence_of(registry: RegistrySettings, readings: Iterable[StoredReading]) -> Evidence:
    """All sources together, tags by the registry's own addresses."""
    digests: dict[str, str] = {}
    tags: dict[tuple[str, str], str] = {}
    for one in readings:
        for use in one.reading.uses:
            by = f"{use.by} ({one.source})"
            if use.digest is not None:
                digests.setdefault(use.digest, by)
            if use.image is not None:  # else it names no tag
                name, _, tag = use.image.rpartition(":")
                for path in paths_in_registry(registry, name):
                    tags.setdefault((path, tag), by)
    return Evidence(digests, tags)


def path_in_registry(registry: RegistrySettings, address: str) -> str | None:
    """The repository that `host/…` names in this registry; None: it is not in this registry."""
    return next(iter(paths_in_registry(registry, address)), None)


def paths_in_registry(registry: RegistrySettings, address: str) -> tuple[str, ...]:
    """The repositories that `host/…` may name in this registry, the likeliest first; none: it is not in this registry.

    Several where the url has a path above /v2/: nothing says whether addresses of images have it, or its last part.
    """
    host, _, path = address.partition("/")
    if not host_is_ours(registry, host):
        return ()
    found = [path.removeprefix(start) for start in _starts(registry, host) if path.startswith(start) and path != start]
    return tuple(dict.fromkeys(found))


def _starts(registry: RegistrySettings, host: str) -> tuple[str, ...]:
    """What the path of an address may begin with before the repository's own path."""
    namespace, path = namespace_of(registry.url), urlsplit(registry.url).path.strip("/").lower()
    if registry.id or namespace:
        start = f"{registry.id or namespace}/"
        elsewhere = namespace and _plain(host) != _plain(urlsplit(_root(registry)).netloc)
        return (start, "") if elsewhere else (start,)
    return tuple(f"{one}/" if one else "" for one in dict.fromkeys((path, path.rpartition("/")[2], "")))


def host_is_ours(registry: RegistrySettings, host: str) -> bool:
    """Whether images of this registry may be addressed by this host.

    The vendor's ids are unique, by whichever of its hosts; another registry is known by its own, and Docker Hub by all
    of its names.
    """
    plain, own = _plain(host), _plain(urlsplit(_root(registry)).netloc)
    if registry.id:
        return plain in {own, *YANDEX_HOSTS}
    return (plain in HUB_HOSTS and own in HUB_HOSTS) or plain in {own, *map(_plain, registry.addresses)}


def own_address(registry: RegistrySettings) -> str:
    """What every address of an image of this registry begins with, without the slash at its end."""
    parts = (urlsplit(_root(registry)).netloc, registry.id or namespace_of(registry.url))
    return "/".join(part for part in parts if part)


def _root(registry: RegistrySettings) -> str:
    return registry.url or registry.endpoints.docker


def _plain(host: str) -> str:
    """A host without the port that it has anyway."""
    return host.lower().removesuffix(":443").removesuffix(":80").removesuffix(".")
