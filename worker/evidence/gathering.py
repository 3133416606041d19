"""From a registry's sources to `policies.evidence`: asks each source, judges its answer, shares it through the store.

A source that cannot be believed raises EvidenceError: nothing is deleted in its registry then.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from policies.evidence import Evidence
from worker.config import EvidenceSettings, RegistrySettings
from worker.evidence.reading import Use
from worker.store import Store
from worker.store import evidence as rows
from worker.store.evidence import Known

SHARED_FOR = timedelta(minutes=5)  # a reading serves all processes that long; twice that is the law's bound


def gather(
    store: Store | None, registry: RegistrySettings, *, remember: bool = True, shared_for: timedelta = SHARED_FOR
) -> Evidence:
    """What is in use in a registry, no older than `shared_for`. Raises EvidenceError, StoreError.

    A reading replaces the one before only if it is believed: what was suddenly halved stays so until a person says so.
    """
    if not registry.in_use:
        return Evidence()
    known: dict[str, Known] = {}
    if store is not None:
        with store.read() as connection:
            known = rows.known(connection, registry.name)
    readings = [_one(source, known.get(source.name), shared_for) for source in registry.in_use]
    fresh = [one for one in readings if one is not known.get(one.source)]
    if store is not None and remember and fresh:
        with store.write() as connection:
            rows.remember(connection, registry.name, fresh)
    return evidence_of(registry, readings)


def _one(source: EvidenceSettings, known: Known | None, shared_for: timedelta) -> Known:
    from worker.evidence import read  # noqa: PLC0415 - who has no source need not load what reads them
    from worker.evidence.judgement import judge  # noqa: PLC0415 - as above

    sha256 = settings_sha256(source)
    before = known if known is not None and known.sha256 == sha256 else None
    if before is not None and timedelta() <= datetime.now(UTC) - before.read_at < shared_for:
        judge(source, before.reading, None, datetime.now(UTC))
        return before
    began = datetime.now(UTC)  # what is as old as its beginning is never taken for younger
    reading = read(source)
    judge(source, reading, None if before is None else len(before.reading.uses), datetime.now(UTC))
    return Known(source.name, sha256, began, reading)


def settings_sha256(source: EvidenceSettings) -> str:
    """What makes a source another one, so that its counts are not compared. No secret is in it."""
    facts = (source.kind, source.path, source.url, source.kubeconfig, source.contexts, source.namespaces)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def evidence_of(registry: RegistrySettings, readings: Iterable[Known]) -> Evidence:
    """All sources together, tags by the registry's own addresses."""
    digests: dict[str, str] = {}
    tags: dict[tuple[str, str], str] = {}
    for one in readings:
        for use in one.reading.uses:
            by = f"{use.by} ({one.source})"
            if use.digest is not None:
                digests.setdefault(use.digest, by)
            if (here := _tag_here(registry, use)) is not None:
                tags.setdefault(here, by)
    return Evidence(digests, tags)


def _tag_here(registry: RegistrySettings, use: Use) -> tuple[str, str] | None:
    """Repository and tag of a reference into this registry; None: it leads elsewhere, or names no tag."""
    if use.image is None:
        return None
    name, _, tag = use.image.rpartition(":")
    prefix = f"{urlsplit(registry.endpoints.docker).netloc}/{registry.id}/"
    return (name.removeprefix(prefix), tag) if name.startswith(prefix) and tag else None
