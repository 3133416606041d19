"""From a registry's sources to `policies.context`: asks each source, judges its answer, shares it through the store.

A source that cannot be trusted raises EvidenceError: nothing is deleted in its registry then.
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
from worker.runs.clocks import check_clocks
from worker.store import Store
from worker.store import evidence as rows
from worker.store.evidence import StoredReading

SHARED_FOR = timedelta(minutes=5)  # how long a reading serves all batches of a run before its source is asked again
GOOD_FOR = timedelta(minutes=8)  # a batch needs younger readings: it takes a minute, and the law's bound is ten


@dataclass(frozen=True, slots=True)
class GatheredEvidence:
    """What is in use in a registry, and how many references of its sources match nothing."""

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

    A scan (`scanning`) asks every source; a deleting run asks only sources without a recent reading, because all its
    batches need them. A reading replaces the one before only if it is trusted. Fewer than half of the last scan's
    references are not trusted, however slowly they decrease within a run, until a person allows it.
    """
    if not registry.in_use:
        return GatheredEvidence()
    check_clocks(lambda: datetime.now(UTC), store)
    known: dict[str, StoredReading] = {}
    if store is not None:
        with store.read() as connection:
            known = rows.stored_readings(connection, registry.name)
    scope = scope_of(registry, registries, listed)
    readings = [_read_source(source, known.get(source.name), scanning=scanning) for source in registry.in_use]
    warnings = []
    for place, source in enumerate(registry.in_use):
        if readings[place] is not known.get(source.name):
            matches = _matches(source, registry, readings[place], scope, scanning=scanning)
            if scanning:
                readings[place] = replace(readings[place], foreign=matches.foreign)
            if matches.foreign:
                warnings.append(warning_of(source.name, registry, matches))
    fresh = [stored for stored in readings if stored is not known.get(stored.source)]
    if store is not None and remember and fresh:
        with store.write() as connection:
            rows.save_readings(connection, registry.name, fresh)
    return GatheredEvidence(evidence_of(registry, readings), tuple(warnings))


def scope_of(
    registry: RegistrySettings, registries: Iterable[RegistrySettings], listed: DigestLookup = lambda _: ()
) -> Scope:
    """The scope that references of a registry's sources are matched with."""
    all_of_file = (registry, *registries)
    return Scope(
        lambda name: any(path_in_registry(configured, name) is not None for configured in all_of_file),
        lambda name: path_in_registry(registry, name) is not None,
        listed,
    )


def _matches(
    source: EvidenceSettings, registry: RegistrySettings, stored: StoredReading, scope: Scope, *, scanning: bool
) -> Matches:
    """The matches of a new reading, if it is trusted. Raises EvidenceError.

    While deleting, the inventory is read only where no address matches: nobody reads the count.
    """
    if not scanning and not stored.reading.unknown_digests and any_address_matches(stored.reading, scope):
        return Matches(len(stored.reading.uses), 0)
    matches = match_references(source, stored.reading, scope)
    judge_matches(source, registry, matches)
    return matches


def recent_evidence(store: Store, registry: RegistrySettings) -> Evidence | None:
    """What is in use by recent readings; None: a source must be asked first. Raises StoreError."""
    if not registry.in_use:
        return Evidence()
    with store.read() as connection:
        known = rows.stored_readings(connection, registry.name)
    now = datetime.now(UTC)
    readings = [_last_reading(source, known.get(source.name)) for source in registry.in_use]
    for source, stored in zip(registry.in_use, readings, strict=True):
        if stored is None or not _is_younger(stored, GOOD_FOR, now) or now - stored.reading.as_of > source.max_age:
            return None
    return evidence_of(registry, [stored for stored in readings if stored is not None])


def _last_reading(source: EvidenceSettings, known: StoredReading | None) -> StoredReading | None:
    """The last reading of a source, unless its settings name another source now."""
    return known if known is not None and known.sha256 == settings_sha256(source) else None


def _is_younger(stored: StoredReading, age: timedelta, now: datetime) -> bool:
    return timedelta() <= now - stored.read_at < age


def _read_source(source: EvidenceSettings, known: StoredReading | None, *, scanning: bool) -> StoredReading:
    before, began = _last_reading(source, known), datetime.now(UTC)  # the reading is as old as its beginning
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
    """The identity of a source: counts of different sources are not compared. It has no secret. 64 hexadecimal digits.
    `max_age`, `allow_empty` and `allow_foreign` do not change it.
    """
    facts = (source.kind, source.path, source.url, source.kubeconfig, source.contexts, source.namespaces)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def evidence_of(registry: RegistrySettings, readings: Iterable[StoredReading]) -> Evidence:
    """The evidence of all sources, with tags by the registry's own addresses."""
    digests: dict[str, str] = {}
    tags: dict[tuple[str, str], str] = {}
    for stored in readings:
        for use in stored.reading.uses:
            by = f"{use.by} ({stored.source})"
            if use.digest is not None:
                digests.setdefault(use.digest, by)
            if use.image is not None:  # else the use names no tag
                name, _, tag = use.image.rpartition(":")
                for path in paths_in_registry(registry, name):
                    tags.setdefault((path, tag), by)
    return Evidence(digests, tags)


def path_in_registry(registry: RegistrySettings, address: str) -> str | None:
    """The repository of an address `host/…` in this registry; None: it is not in this registry."""
    return next(iter(paths_in_registry(registry, address)), None)


def paths_in_registry(registry: RegistrySettings, address: str) -> tuple[str, ...]:
    """The repositories that `host/…` may name in this registry, the likeliest first; empty: it is not in this registry.

    Several where the url has a path above /v2/: addresses of images may have that path, or its last part, or neither.
    """
    host, _, path = address.partition("/")
    if not host_is_ours(registry, host):
        return ()
    starts = [start for start in _starts(registry, host) if path.startswith(start) and path != start]
    return tuple(dict.fromkeys(path.removeprefix(start) for start in starts))


def _starts(registry: RegistrySettings, host: str) -> tuple[str, ...]:
    """The prefixes that an address's path may have before the repository's path."""
    namespace, path = namespace_of(registry.url), urlsplit(registry.url).path.strip("/").lower()
    if registry.id or namespace:
        start = f"{registry.id or namespace}/"
        elsewhere = namespace and _plain(host) != _plain(urlsplit(_root(registry)).netloc)
        return (start, "") if elsewhere else (start,)
    return tuple(f"{part}/" if part else "" for part in dict.fromkeys((path, path.rpartition("/")[2], "")))


def host_is_ours(registry: RegistrySettings, host: str) -> bool:
    """Whether images of this registry may be addressed by this host.

    The vendor's ids are unique on all its hosts; another registry has its own hosts, and Docker Hub all of its names.
    """
    plain, own = _plain(host), _plain(urlsplit(_root(registry)).netloc)
    if registry.id:
        return plain in {own, *YANDEX_HOSTS}
    return (plain in HUB_HOSTS and own in HUB_HOSTS) or plain in {own, *map(_plain, registry.addresses)}


def own_address(registry: RegistrySettings) -> str:
    """The prefix of every address of this registry's images, without the slash at its end. The host with its port, then
    the registry's id or the url's namespace, if it has one; no scheme.
    """
    parts = (urlsplit(_root(registry)).netloc, registry.id or namespace_of(registry.url))
    return "/".join(part for part in parts if part)


def _root(registry: RegistrySettings) -> str:
    return registry.url or registry.endpoints.docker


def _plain(host: str) -> str:
    """A host without a default port."""
    return host.lower().removesuffix(":443").removesuffix(":80").removesuffix(".")
